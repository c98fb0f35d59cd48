"""One authenticated S3 request, taken apart: which operation it is, on which bucket and key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cm_platform.testing.servers.wire import Request, S3Error, decoded

MAX_KEY_BYTES = 1024
MAX_PART_NUMBER = 10_000
KEPT_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
RESPONSE_PARAMETERS = {f"response-{name}": name for name in KEPT_HEADERS}
_METADATA = "x-amz-meta-"

# Query parameters that an operation understands. A request with any other one asks for a feature
# that is not here (versions, tags, ACLs, policies, locks, ...) and must not be taken for a plain
# one: `PUT /bucket/key?tagging` would replace the object by an XML document.
_SIGNING = frozenset(
    f"x-amz-{name}"
    for name in (
        *("algorithm", "credential", "date", "expires"),
        *("signedheaders", "signature", "content-sha256"),
    )
)
_LISTING = frozenset({"prefix", "delimiter", "max-keys", "encoding-type"})
_OPERATIONS: Mapping[tuple[str, str, str], tuple[str, frozenset[str]]] = {
    ("", "GET", ""): ("ListBuckets", frozenset({"max-buckets"})),
    ("bucket", "PUT", ""): ("CreateBucket", frozenset()),
    ("bucket", "HEAD", ""): ("HeadBucket", frozenset()),
    ("bucket", "DELETE", ""): ("DeleteBucket", frozenset()),
    ("bucket", "GET", ""): ("ListObjects", _LISTING | {"marker"}),
    ("bucket", "GET", "list-type"): (
        "ListObjectsV2",
        _LISTING | {"list-type", "continuation-token", "start-after", "fetch-owner"},
    ),
    ("bucket", "GET", "location"): ("GetBucketLocation", frozenset({"location"})),
    ("bucket", "GET", "uploads"): (
        "ListMultipartUploads",
        frozenset({"uploads", "prefix", "key-marker", "upload-id-marker", "max-uploads"})
        | {"encoding-type"},
    ),
    ("bucket", "POST", "delete"): ("DeleteObjects", frozenset({"delete"})),
    ("key", "PUT", ""): ("PutObject", frozenset()),
    ("key", "PUT", "copy"): ("CopyObject", frozenset()),
    ("key", "GET", ""): ("GetObject", frozenset(RESPONSE_PARAMETERS)),
    ("key", "HEAD", ""): ("HeadObject", frozenset(RESPONSE_PARAMETERS)),
    ("key", "DELETE", ""): ("DeleteObject", frozenset()),
    ("key", "POST", "uploads"): ("CreateMultipartUpload", frozenset({"uploads"})),
    ("key", "PUT", "uploadid"): ("UploadPart", frozenset({"uploadid", "partnumber"})),
    ("key", "PUT", "uploadid+copy"): ("UploadPartCopy", frozenset({"uploadid", "partnumber"})),
    ("key", "POST", "uploadid"): ("CompleteMultipartUpload", frozenset({"uploadid"})),
    ("key", "DELETE", "uploadid"): ("AbortMultipartUpload", frozenset({"uploadid"})),
    ("key", "GET", "uploadid"): (
        "ListParts",
        frozenset({"uploadid", "max-parts", "part-number-marker"}),
    ),
}
_SELECTORS = ("list-type", "location", "uploads", "delete", "uploadid")

# Headers with the x-amz- prefix that are understood; the rest are features that are not here.
_HEADERS = frozenset(
    f"x-amz-{name}"
    for name in (
        *("date", "content-sha256", "user-agent", "decoded-content-length", "trailer"),
        *("copy-source", "copy-source-range", "metadata-directive"),
        *("copy-source-if-match", "copy-source-if-none-match"),
        *("copy-source-if-modified-since", "copy-source-if-unmodified-since"),
        *("sdk-checksum-algorithm", "checksum-algorithm", "checksum-mode", "checksum-type"),
        *("checksum-crc32", "checksum-crc32c", "checksum-crc64nvme"),
        *("checksum-sha1", "checksum-sha256"),
    )
)

# Of an object that is made, and understood only there. (A copy's tags are its source's.)
_PROPERTIES = frozenset({"x-amz-storage-class", "x-amz-website-redirect-location"})
_OPERATION_HEADERS: Mapping[str, frozenset[str]] = {
    "PutObject": _PROPERTIES | {"x-amz-tagging"},
    "CreateMultipartUpload": _PROPERTIES | {"x-amz-tagging"},
    "CopyObject": _PROPERTIES,
}


@dataclass(frozen=True, slots=True)
class Call:
    """An S3 operation with its target and the account that asks for it."""

    operation: str
    bucket: str
    key: str
    owner: str
    request: Request

    def header(self, name: str) -> str | None:
        """A request header, by lower-case name."""
        return self.request.header(name)

    def parameter(self, name: str) -> str | None:
        """A query parameter; names differ in case between SDKs (uploadId, partNumber)."""
        return next(
            (value for key, value in self.request.parameters() if key.lower() == name), None
        )

    def number(self, name: str, default: int, *, maximum: int) -> int:
        """A count in the query, cut to `maximum`."""
        text = self.parameter(name)
        if text is None or text == "":
            return default
        if not (text.isascii() and text.isdecimal()):
            raise S3Error(400, "InvalidArgument", f"Provided {name} not an integer or out of range")
        return min(int(text), maximum)

    def part_number(self) -> int:
        """The part number of UploadPart, 1 to 10,000."""
        text = self.parameter("partnumber") or ""
        if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_PART_NUMBER):
            raise S3Error(
                400,
                "InvalidArgument",
                f"Part number must be an integer between 1 and {MAX_PART_NUMBER}, inclusive",
            )
        return int(text)

    def metadata(self, maximum: int) -> tuple[tuple[str, str], ...]:
        """User metadata, refused above `maximum` bytes of names and values."""
        found = tuple(
            (name.removeprefix(_METADATA), value)
            for name, value in self.request.headers
            if name.startswith(_METADATA)
        )
        if sum(len(name) + len(value) for name, value in found) > maximum:
            raise S3Error(
                400,
                "MetadataTooLarge",
                "Your metadata headers exceed the maximum allowed metadata size",
                details=[("MaxSizeAllowed", str(maximum))],
            )
        return found

    def kept_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that are stored with the object."""
        kept: list[tuple[str, str]] = []
        for name in KEPT_HEADERS:
            value = self.header(name)
            if name == "content-encoding" and value is not None:
                # aws-chunked is how the body travelled, not what it is.
                codings = [coding.strip() for coding in value.split(",")]
                value = ",".join(coding for coding in codings if coding != "aws-chunked")
            if value:
                kept.append((name, value))
        if not any(name == "content-type" for name, _ in kept):
            kept.append(("content-type", "binary/octet-stream"))
        return tuple(kept)

    def copy_source(self) -> tuple[str, str]:
        """Bucket and key that are copied from."""
        source, _, version = (self.header("x-amz-copy-source") or "").partition("?")
        bucket, _, key = decoded(source).removeprefix("/").partition("/")
        if version:
            raise not_implemented("Object versions are")
        if not bucket or not key:
            raise S3Error(400, "InvalidArgument", "Copy Source must mention the bucket and key")
        return bucket, key


def take_apart(request: Request, owner: str) -> Call:
    """Find the operation, refusing what this server does not do as NotImplemented."""
    bucket, slash, raw_key = request.path.removeprefix("/").partition("/")
    key = decoded(raw_key)
    level = "key" if key else "bucket" if bucket else ""
    if slash and not key and request.method not in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        raise not_implemented(f"{request.method} is")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise S3Error(
            400,
            "KeyTooLongError",
            "Your key is too long",
            details=[("Size", str(len(key.encode()))), ("MaxSizeAllowed", str(MAX_KEY_BYTES))],
        )
    parameters = {name.lower() for name, _ in request.parameters()} - _SIGNING - {"x-id"}
    selector = next((name for name in _SELECTORS if name in parameters), "")
    if level == "key" and request.method == "PUT" and request.header("x-amz-copy-source"):
        selector = f"{selector}+copy" if selector else "copy"
    found = _OPERATIONS.get((level, request.method, selector))
    if found is None:
        raise not_implemented(f"{request.method} with {_names(parameters) or 'no parameters'} is")
    operation, understood = found
    if parameters - understood:
        raise not_implemented(f"{operation} with {_names(parameters - understood)} is")
    known = _HEADERS | _OPERATION_HEADERS.get(operation, frozenset())
    unknown = {
        name
        for name, _ in request.headers
        if name.startswith("x-amz-") and not name.startswith(_METADATA) and name not in known
    }
    if unknown:
        raise not_implemented(f"{operation} with {_names(unknown)} is")
    return Call(operation, decoded(bucket), key, owner, request)


def not_implemented(what: str) -> S3Error:
    """S3's 501."""
    return S3Error(501, "NotImplemented", f"{what} not implemented.")


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
