"""In what Amazon S3 and Cloudflare R2 differ, as data.

Sources: Amazon S3 API reference and user guide; Cloudflare R2 "S3 API compatibility", "Conditional
operations" and "Limits", read 2026-11. Where R2's documentation is silent the stricter reading is
taken, so that a client which relies on the lenient one is found out here.
"""

from __future__ import annotations

from dataclasses import dataclass

from cm_platform.testing.servers.sigv4 import UNSIGNED_TRAILER
from cm_platform.testing.servers.wire import S3Error


@dataclass(frozen=True, slots=True)
class Dialect:
    """The rules of one provider. Sizes are bytes."""

    name: str
    region: str
    """The region that the provider's documentation tells clients to use."""
    regions: frozenset[str]
    """Regions that are accepted in a credential scope."""
    max_metadata_bytes: int
    """User metadata: names without `x-amz-meta-` plus values, in UTF-8."""
    upload_checksums: frozenset[str]
    """Checksum algorithms that may accompany PutObject and UploadPart."""
    streaming: frozenset[str]
    """Streaming payloads that are decoded."""
    copy_condition_prefix: str
    """What stands before `if-match` in CopyObject's conditions on the destination."""
    if_match_on_missing_key: int
    """Status when If-Match meets a key that does not exist."""
    date_conditions_on_write: bool
    conditional_delete: bool
    conditional_create_multipart: bool
    equal_parts: bool
    """All parts but the last must have the same size."""
    storage_classes: frozenset[str]
    """Those that an object may be given."""
    website: bool
    """Objects may redirect."""
    tags: bool
    """Objects may have tags."""

    def check_region(self, region: str) -> None:
        """Refuse a credential scope for another region, in the provider's words."""
        if region in self.regions:
            return
        if self.name == "r2":
            raise S3Error(
                400,
                "InvalidRegionName",
                f"The region name '{region}' is not valid. Must be one of: auto, us-east-1.",
            )
        raise S3Error(
            400,
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; the region '{region}' is wrong; "
            f"expecting '{self.region}'",
            details=[("Region", self.region)],
        )


AWS = Dialect(
    name="s3",
    region="us-east-1",
    regions=frozenset({"us-east-1"}),
    max_metadata_bytes=2048,
    upload_checksums=frozenset({"crc32", "sha1", "sha256"}),
    streaming=frozenset({UNSIGNED_TRAILER}),
    copy_condition_prefix="",
    if_match_on_missing_key=404,
    date_conditions_on_write=False,
    conditional_delete=True,
    conditional_create_multipart=False,
    equal_parts=False,
    storage_classes=frozenset(
        {
            "STANDARD",
            "REDUCED_REDUNDANCY",
            "STANDARD_IA",
            "ONEZONE_IA",
            "INTELLIGENT_TIERING",
            "GLACIER_IR",
            "GLACIER",
            "DEEP_ARCHIVE",
        }
    ),
    website=True,
    tags=True,
)

R2 = Dialect(
    name="r2",
    region="auto",
    regions=frozenset({"auto", "us-east-1"}),
    max_metadata_bytes=8192,
    # CRC checksums, which new SDKs send unasked, are what breaks uploads there.
    upload_checksums=frozenset({"sha1", "sha256"}),
    streaming=frozenset(),
    copy_condition_prefix="cf-copy-destination-",
    if_match_on_missing_key=412,
    date_conditions_on_write=True,
    conditional_delete=False,
    conditional_create_multipart=True,
    equal_parts=True,
    storage_classes=frozenset({"STANDARD", "STANDARD_IA"}),
    website=False,
    tags=False,
)

DIALECTS = {dialect.name: dialect for dialect in (AWS, R2)}
