"""What S3 keeps with an object beside its headers: storage class, website redirect, tags.

Sources: Amazon S3 API reference (PutObject, CopyObject, HeadObject) and user guide (object tags);
Cloudflare R2 "S3 API compatibility", read 2026-11.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from cm_platform.testing.servers.call import Call, not_implemented
from cm_platform.testing.servers.dialect import Dialect
from cm_platform.testing.servers.wire import Headers, S3Error

_ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_TAG = re.compile(r"[\w .:/=+@-]*")
_MAX_TAGS = 10
_MAX_REDIRECT_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Properties:
    """Of one object. `redirect` is empty, and `tags` too, where there is none."""

    storage_class: str = "STANDARD"
    redirect: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    def headers(self) -> Headers:
        """What GET and HEAD tell of them: not the ordinary class, and no number of no tags."""
        told: list[tuple[str, str]] = []
        if self.storage_class != "STANDARD":
            told.append(("x-amz-storage-class", self.storage_class))
        if self.redirect:
            told.append(("x-amz-website-redirect-location", self.redirect))
        if self.tags:
            told.append(("x-amz-tagging-count", str(len(self.tags))))
        return tuple(told)

    def check_readable(self) -> None:
        """Refuse to read bytes that would first have to be restored."""
        if self.storage_class in _ARCHIVED:
            raise S3Error(
                403,
                "InvalidObjectState",
                "The operation is not valid for the object's storage class",
                details=[("StorageClass", self.storage_class)],
            )


ORDINARY: Final = Properties()


def properties_of(call: Call, dialect: Dialect) -> Properties:
    """Those that a PutObject, CopyObject or CreateMultipartUpload gives to its object."""
    storage_class = call.header("x-amz-storage-class") or "STANDARD"
    if storage_class not in dialect.storage_classes:
        raise S3Error(400, "InvalidStorageClass", "The storage class you specified is not valid")
    redirect = call.header("x-amz-website-redirect-location") or ""
    tagging = call.header("x-amz-tagging") or ""
    if not dialect.website and redirect:
        raise not_implemented(f"{call.operation} with x-amz-website-redirect-location is")
    if not dialect.tags and tagging:
        raise not_implemented(f"{call.operation} with x-amz-tagging is")
    if redirect and not redirect.startswith(("/", "http://", "https://")):
        raise S3Error(
            400,
            "InvalidRedirectLocation",
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
        )
    if len(redirect) > _MAX_REDIRECT_BYTES:
        raise S3Error(400, "InvalidRedirectLocation", "The website redirect location is too long.")
    return Properties(storage_class, redirect, _tags(tagging))


def _tags(tagging: str) -> tuple[tuple[str, str], ...]:
    tags = tuple(parse_qsl(tagging, keep_blank_values=True))
    if len(tags) > _MAX_TAGS:
        raise S3Error(400, "BadRequest", f"Object tags cannot be greater than {_MAX_TAGS}")
    if len({name for name, _ in tags}) < len(tags):
        raise S3Error(400, "InvalidTag", "Cannot provide multiple Tags with the same key")
    for name, value in tags:
        if not 1 <= len(name) <= 128 or name.startswith("aws:") or not _TAG.fullmatch(name):
            raise S3Error(400, "InvalidTag", "The TagKey you have provided is invalid")
        if len(value) > 256 or not _TAG.fullmatch(value):
            raise S3Error(400, "InvalidTag", "The TagValue you have provided is invalid")
    return tags
