"""What a storage backend promises: the Protocol, its capabilities and its frozen types.

A backend is small. It knows keys as the store knows them, and no tenant, no retry, no metrics
and no migration; those live once, above it. Rules for every method:

- Keys are physical: already scoped, validated and within `limits`. A backend MUST store and
  answer them byte for byte and MUST raise `invalid_argument` for a key it cannot say exactly.
- A method is one attempt, as a rule one request. It MUST NOT retry: the executor does, by
  idempotence.
- Any exception may leave a method; `translate` classifies it. What `translate` does not know
  becomes `internal`.
- Reads are strongly consistent: a `get`, `head` or `list` that starts after a write was answered
  MUST see it.
- Writes are atomic: a reader sees the old object or the new one, whole, with its metadata.
- Cancellation (async) MUST leave no connection in an unknown state. The write itself may land
  up to `max_request_lifetime` seconds later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from cm_platform.errors import PlatformError

NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})

# Metadata of our own, in every object that this library writes: a revision unique per write, and
# the SHA-256 of the bytes where it was known before they were sent. Names with this beginning
# are reserved.
RESERVED: Final = "cm-"
REVISION: Final = "cm-rev"
SHA256: Final = "cm-sha256"


class StorageCapability(StrEnum):
    """What not every storage backend can do. Declared by the backend, narrowed by its
    configuration, checked before the network is touched."""

    CONDITIONAL_CREATE = "conditional_create"
    """`put` and `complete_multipart` with `if_none_match`: atomic among any number of writers."""
    CONDITIONAL_REPLACE = "conditional_replace"
    """`put` and `complete_multipart` with `if_match`: atomic."""
    CONDITIONAL_DELETE = "conditional_delete"
    """`delete` with `if_match`: atomic."""
    CONDITIONAL_COPY = "conditional_copy"
    """`copy` with `if_none_match` on the target: atomic."""
    PRESIGN = "presign"
    """`presign` for GET and PUT."""


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """The store's bounds, from a dated file (`cm_platform/limits`). Sizes are bytes.

    max_key: of a physical key, as UTF-8.
    max_metadata: names and values of user metadata together.
    max_put: one `put`. Larger bodies go multipart.
    min_part: every part but the last. max_part, max_parts: as they say.
    equal_parts: all parts but the last must have one size.
    max_copy: one `copy`. Larger objects are copied part by part.
    max_delete_batch: keys in one `delete_many`. max_page: keys in one `list`.
    max_presign: seconds that a presigned URL may live.
    """

    max_key: int = 1024
    max_metadata: int = 2048
    max_put: int = 5 * 1024**3
    min_part: int = 5 * 1024**2
    max_part: int = 5 * 1024**3
    max_parts: int = 10_000
    equal_parts: bool = True
    max_copy: int = 5 * 1024**3
    max_delete_batch: int = 1000
    max_page: int = 1000
    max_presign: int = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is stored with an object beside its bytes.

    metadata: names `[a-z0-9][a-z0-9-]*`; values printable ASCII without leading or trailing
    spaces (the service encodes others before they come here).
    """

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: NO_METADATA)


class Uncarried(StrEnum):
    """What a store may keep with an object that `Attributes` cannot say, so that a write to
    another key or another store loses it. A backend may have more of its own."""

    STORAGE_CLASS = "storage-class"
    """Another than the store's ordinary one."""
    EXPIRES = "expires"
    """The `Expires` header, of caches; `cache_control` is carried."""
    WEBSITE_REDIRECT = "website-redirect"
    TAGS = "tags"
    OBJECT_LOCK = "object-lock"
    """A retention or a legal hold."""
    ENCRYPTION = "encryption"
    """With another key than the store's own."""
    METADATA = "metadata"
    """User metadata that the store itself cannot tell."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of a stored object.

    key: as the holder of this value knows it: physical below the service, the tenant's above.
    size: bytes of the whole object, also when a range of it was read.
    etag: identifies this version on this backend, without quotes. Never compare it across
        backends: it is an MD5 only by accident.
    last_modified: aware, UTC; None right after a write where the store does not tell.
    sha256: hex digest of the bytes, where the writer knew it. revision: unique per write by
        this library. Both None for objects that others wrote, and below the service.
    uncarried: what the store keeps with the object and `Attributes` cannot carry, in the words
        of `Uncarried`; None where it was not asked for (see `StorageBackend.head`).
    """

    key: str
    size: int
    etag: str
    last_modified: datetime | None = None
    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: NO_METADATA)
    sha256: str | None = None
    revision: str | None = None
    uncarried: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it: without its metadata, which costs a `head`.

    An empty etag marks an object that the store holds and cannot describe; `head` says why.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class BackendPage:
    """One page of a listing, in order of the keys' UTF-8 bytes.

    prefixes: with a delimiter, the distinct key beginnings up to and including it.
    cursor: where to go on, opaque; None on the last page.
    """

    objects: Sequence[ListedObject]
    prefixes: Sequence[str] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A write that was answered. etag: without quotes, as in `ObjectInfo`."""

    etag: str
    last_modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """An uploaded part. number: from 1. etag: as the store answered it."""

    number: int
    etag: str


@dataclass(frozen=True, slots=True)
class Presigned:
    """A request that anybody who holds it may make, until it expires.

    url: a bearer credential, so it stays out of repr. headers: must be sent as they are.
    """

    method: Literal["GET", "PUT"]
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: NO_METADATA)


class ObjectReply(Protocol):
    """An answered `get` whose body is still on the wire. Used once, then closed."""

    info: ObjectInfo
    """Of the whole object (`size` too), whatever range was asked for."""

    async def read(self) -> bytes:
        """The rest of the body."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, never more than a few MiB of it in memory."""
        ...

    async def close(self) -> None:
        """Let go of the connection. MUST be safe to call twice."""
        ...


class StorageBackend(Protocol):
    """One object store, opened under one runtime."""

    capabilities: frozenset[StorageCapability]
    limits: StorageLimits
    max_request_lifetime: float
    """Seconds after a timeout during which a request may still land."""

    async def head(self, key: str, *, uncarried: bool = False) -> ObjectInfo:
        """Describe an object. MUST raise `not_found` when there is none.

        uncarried: MUST fill `ObjectInfo.uncarried`, with all that the store tells the holder of
        these credentials; a request for it may be slower. What belongs to the bucket (older
        versions, lifecycle, policies) is not meant. Without it the field stays None.
        """
        ...

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, if_match: str | None = None
    ) -> ObjectReply:
        """Open an object for reading.

        start, end: bytes [start, end); a negative start counts from the object's end (then end
        is None). An end beyond the object's is cut. A start at or beyond its end MUST raise
        `invalid_argument`, except (0, None), which reads an empty object.
        if_match: MUST raise `precondition_failed` when the object has another etag.
        MUST raise `not_found` when there is none.
        """
        ...

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        attributes: Attributes,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """Store an object whole; replaces bytes and attributes together.

        if_none_match: MUST raise `already_exists` when the key is taken.
        if_match: MUST raise `precondition_failed` when the object has another etag or is not
        there.
        """
        ...

    async def create_multipart(self, key: str, attributes: Attributes) -> str:
        """Begin an upload in parts; its id. Nothing is visible until it is completed."""
        ...

    async def put_part(
        self, key: str, upload_id: str, number: int, data: bytes | memoryview
    ) -> Part:
        """Upload a part. MUST replace an earlier part of that number, so a retry is harmless."""
        ...

    async def copy_part(
        self, key: str, upload_id: str, number: int, source: str, start: int, end: int, etag: str
    ) -> Part:
        """Fill a part with bytes [start, end) of `source`, which MUST still have that etag."""
        ...

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """Make the parts, in order, one object, atomically; conditions as in `put`.

        MUST raise `not_found` for an upload that is unknown or was completed already.
        """
        ...

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Forget an upload. MUST NOT raise for one that is unknown."""
        ...

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Remove an object. MUST NOT raise when there is none, unless `if_match` is given.

        if_match: MUST raise `precondition_failed` when the object has another etag or is not
        there.
        """
        ...

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """Remove up to `limits.max_delete_batch` objects; the failures by key.

        A key that was not there is no failure. MUST account for every key: one the store did
        not mention is a failure (`internal`).
        """
        ...

    async def copy(
        self,
        source: str,
        target: str,
        attributes: Attributes,
        *,
        etag: str,
        if_none_match: bool = False,
    ) -> Written:
        """Copy within the store, with new attributes, no bytes through us.

        etag: of the source; MUST raise `precondition_failed` when it has another,
        `not_found` when there is none.
        if_none_match: MUST raise `already_exists` when the target is taken.
        """
        ...

    async def list(
        self, prefix: str, *, delimiter: Literal["/"] | None, cursor: str | None, limit: int
    ) -> BackendPage:
        """One page of keys that start with `prefix`, in order of their UTF-8 bytes.

        limit: at most this many objects and prefixes together, 1 to `limits.max_page`. A page
        MAY be shorter, also empty, with a cursor: only its absence means the end.
        cursor: from the page before, with the same prefix and delimiter. MUST raise
        `invalid_argument` for one that it did not make.
        """
        ...

    async def presign(
        self, key: str, method: Literal["GET", "PUT"], *, expires_in: int, attributes: Attributes
    ) -> Presigned:
        """Sign a request for somebody else to make. No I/O.

        expires_in: seconds, 1 to `limits.max_presign`. attributes: for PUT, bound into the
        signature; for GET, how the reply presents itself (content type, disposition).
        """
        ...

    def translate(self, error: Exception) -> PlatformError | None:
        """Classify what the SDK raised; None for what is not the SDK's.

        `not_sent` MUST be set only where the request certainly had no effect. A timeout is
        `deadline_exceeded`; a connection lost is `unavailable`; both retryable.
        """
        ...

    async def ping(self) -> None:
        """Reach the store with the configured credentials, as cheaply as it can be done."""
        ...

    def native(self) -> Any:
        """The SDK's own client, for operators."""
        ...

    async def close(self) -> None:
        """Let go of connections. MUST be safe to call twice."""
        ...


__all__ = [
    "NO_METADATA",
    "RESERVED",
    "REVISION",
    "SHA256",
    "Attributes",
    "BackendPage",
    "ListedObject",
    "ObjectInfo",
    "ObjectReply",
    "Part",
    "Presigned",
    "StorageBackend",
    "StorageCapability",
    "StorageLimits",
    "Uncarried",
    "Written",
]
