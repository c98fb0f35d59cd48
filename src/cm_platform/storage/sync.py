"""The sync face of storage. Generated from the async one by scripts/generate_faces.py."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from cm_platform.errors import PlatformError
from cm_platform.runtime import drive, drive_each
from cm_platform.tenant import Tenant

from .backend import ListedObject, ObjectInfo, StorageCapability
from .body import Body
from .reading import AsyncStoredObject
from .service import AsyncStorage
from .view import Page, PresignedUrl
from .writing import PART_SIZE, Progress


class StoredObject:
    """An object opened for reading: its description, and its body on the wire.

    Read it once, with `read`, `chunks` or `write_to`; each closes it. Close it, or leave its
    `with` block, to skip the rest. A connection cut on the way is resumed: same version or
    `precondition_failed`.
    """

    __slots__ = ("_async",)

    def __init__(self, asynchronous: AsyncStoredObject) -> None:
        self._async = asynchronous

    def __repr__(self) -> str:
        return repr(self._async).removeprefix("Async")

    @property
    def info(self) -> ObjectInfo:
        """What is known of it."""
        return self._async.info

    def read(self) -> bytes:
        """The body, in memory."""
        return drive(self._async.read())

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces, as they come: at most a few MiB of it are in memory."""
        return drive_each(self._async.chunks())

    def write_to(self, path: os.PathLike[str]) -> None:
        """Write the body to a file, which appears under its name only when it is whole."""
        drive(self._async.write_to(path))

    def close(self) -> None:
        """Let go of the connection; what was not read is not fetched."""
        drive(self._async.close())

    def __enter__(self) -> Self:
        """The object itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        drive(self._async.__aexit__(exc_type, exc, traceback))


class Storage:
    """Object storage for one tenant.

    Cheap, safe to share, holds no connection: it may be kept for hours and follows the flags.
    Get one from `cm_platform.get_service("storage", tenant)`.

    Keys: text, at most 1,024 bytes of UTF-8 with the tenant's prefix; no leading "/", no "." or
    ".." segments, no control characters. Every method raises `invalid_argument` for another key,
    before any I/O; `unsupported` for what the backend cannot do; `unavailable`,
    `deadline_exceeded`, `rate_limited` when retries did not help; writes in doubt raise
    `ambiguous`.
    """

    __slots__ = ("_async",)

    def __init__(self, asynchronous: AsyncStorage) -> None:
        self._async = asynchronous

    def __repr__(self) -> str:
        return repr(self._async).removeprefix("Async")

    @property
    def tenant(self) -> Tenant:
        """Whose storage this is."""
        return self._async.tenant

    def with_timeout(self, seconds: float) -> Storage:
        """The same storage with another deadline for a whole operation, retries included.

        seconds: more than 0, at most 86,400 (a day).
        """
        return Storage(self._async.with_timeout(seconds))

    def capabilities(self) -> frozenset[StorageCapability]:
        """What the tenant's backend, as configured, can do beyond the common methods."""
        return drive(self._async.capabilities())

    def ping(self) -> None:
        """Reach the tenant's backend with the configured credentials."""
        drive(self._async.ping())

    def get(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        if_match: str | None = None,
        progress: Progress | None = None,
    ) -> StoredObject:
        """Open an object: `.info` at once, the body by `.read()` or `.chunks()`.

        start, length: bytes; a negative start counts from the end. Cut at the object's end.
        if_match: an etag; `precondition_failed` when the object has another.
        progress: called with (bytes so far, bytes in all).

        Raises `not_found`; `invalid_argument` for a start at or beyond the end.
        """
        return StoredObject(
            drive(
                self._async.get(
                    key, start=start, length=length, if_match=if_match, progress=progress
                )
            )
        )

    def get_range(self, key: str, start: int, length: int | None = None) -> bytes:
        """Part of an object: `length` bytes from `start`, or all from there.

        A negative start counts from the end. Fewer bytes come where the object ends earlier.
        Raises `not_found`; `invalid_argument` for a start at or beyond the end.
        """
        return drive(self._async.get_range(key, start, length))

    def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, gap: int = 65536
    ) -> Sequence[bytes]:
        """Several parts of one version of an object, in the order asked for.

        ranges: (start, length) each, in bytes, start >= 0. gap: ranges no further apart than
        this many bytes come with one request.

        Raises `precondition_failed` when the object is replaced meanwhile; otherwise as
        `get_range`.
        """
        return drive(self._async.get_ranges(key, ranges, gap=gap))

    def head(self, key: str) -> ObjectInfo:
        """Describe an object. Raises `not_found`."""
        return drive(self._async.head(key))

    def exists(self, key: str) -> bool:
        """Whether there is an object."""
        return drive(self._async.exists(key))

    def verify(self, key: str) -> ObjectInfo:
        """Read an object to its end; its description with the SHA-256 that its bytes have.

        Raises `not_found`; `integrity` when another SHA-256 was recorded with it.
        """
        return drive(self._async.verify(key))

    def put(
        self,
        key: str,
        body: Body,
        *,
        if_none_match: Literal["*"] | None = None,
        if_match: str | None = None,
        content_type: str | None = None,
        cache_control: str | None = None,
        content_disposition: str | None = None,
        content_encoding: str | None = None,
        content_language: str | None = None,
        metadata: Mapping[str, str] | None = None,
        part_size: int = PART_SIZE,
        verify: bool = False,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """Store an object; replaces what was there, bytes and attributes together.

        body: bytes, a Path, a binary file (from its position on) or an iterable of bytes. More
            than `part_size` bytes go in parts of that size, four at a time: each part is
            retried by itself, and memory stays within five parts whatever the body's size.
        if_none_match: "*" writes only where there is nothing: else `already_exists`.
        if_match: an etag; writes only over that version: else `precondition_failed`.
        content_type: "application/octet-stream" unless given.
        metadata: names [a-z0-9-], any text as values; 2 KB on S3, 8 KB on R2, some of it ours.
        verify: read the object back and compare its SHA-256: else `integrity`.
        progress: called with (bytes so far, bytes in all or None), from any thread.

        Returns what was stored. Its `sha256` is recorded with the object where the body was
        known before it was sent (bytes, files); an iterable's is returned and not recorded.
        """
        return drive(
            self._async.put(
                key,
                body,
                if_none_match=if_none_match,
                if_match=if_match,
                content_type=content_type,
                cache_control=cache_control,
                content_disposition=content_disposition,
                content_encoding=content_encoding,
                content_language=content_language,
                metadata=metadata,
                part_size=part_size,
                verify=verify,
                progress=progress,
            )
        )

    def copy(
        self, source: str, target: str, *, if_none_match: Literal["*"] | None = None
    ) -> ObjectInfo:
        """Copy an object within the tenant's storage, attributes included; no bytes come here.

        if_none_match: "*" copies only where there is nothing: else `already_exists`.

        The attributes are those of `Attributes`. What else a store may keep with an object that
        others wrote (see `Uncarried`) is not carried. One thing depends: S3 copies the tags of
        what it can copy in one request (5 GiB), and not of what is larger.

        Raises `not_found` for the source; `precondition_failed` when it is replaced meanwhile.
        """
        return drive(self._async.copy(source, target, if_none_match=if_none_match))

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Remove an object. No error when there is none.

        if_match: an etag; removes only that version: else, or when there is nothing,
            `precondition_failed`.
        """
        drive(self._async.delete(key, if_match=if_match))

    def delete_many(self, keys: Iterable[str]) -> dict[str, PlatformError | None]:
        """Remove objects in batches; for each key None, or why it may still be there.

        All keys are checked before the first is removed. A batch that fails as a whole is the
        outcome of each of its keys; the others go on.
        """
        return drive(self._async.delete_many(keys))

    def list(self, prefix: str = "") -> Iterator[ListedObject]:
        """All objects whose key starts with `prefix`, in order of their UTF-8 bytes.

        Pages are fetched as they are needed. For folders use `list_page` with a delimiter.
        """
        return drive_each(self._async.list(prefix))

    def list_page(
        self,
        prefix: str = "",
        *,
        delimiter: Literal["/"] | None = None,
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page:
        """One page of a listing.

        delimiter: "/" gathers the keys below a "folder" into one of `prefixes`.
        limit: objects and prefixes together, 1 to 1,000. A page may be shorter.
        cursor: of the page before, from the same tenant, prefix and delimiter; anything else is
            `invalid_argument`.
        """
        return drive(self._async.list_page(prefix, delimiter=delimiter, limit=limit, cursor=cursor))

    def presign(
        self,
        key: str,
        method: Literal["GET", "PUT"] = "GET",
        *,
        expires_in: int = 3600,
        content_type: str | None = None,
        content_disposition: str | None = None,
    ) -> PresignedUrl:
        """A URL by which somebody else may read or write one object for a while. No I/O.

        method: "GET" or "PUT". expires_in: seconds, 1 to 604,800 (7 days).
        content_type, content_disposition: for GET, what the reply says of itself; for PUT, what
            the upload must say (send the `headers` of the result).

        An object uploaded so has no revision and no recorded SHA-256.
        """
        return drive(
            self._async.presign(
                key,
                method,
                expires_in=expires_in,
                content_type=content_type,
                content_disposition=content_disposition,
            )
        )

    def __enter__(self) -> Self:
        """The storage itself; connections belong to the platform."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing: connections belong to the platform."""
        drive(self._async.__aexit__(exc_type, exc, traceback))


__all__ = ["Storage", "StoredObject"]
