"""What an application holds: object storage for one tenant, wherever its bytes are."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, Self

from cm_platform import arguments
from cm_platform.errors import (
    IntegrityError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
)
from cm_platform.executor import Endpoint, Executor
from cm_platform.tenant import Tenant

from . import operations
from .backend import (
    NO_METADATA,
    Attributes,
    BackendPage,
    ListedObject,
    ObjectInfo,
    Presigned,
    StorageBackend,
    StorageCapability,
    StorageLimits,
)
from .body import AsyncBody, open_source
from .copying import copy_object
from .keys import (
    check_header,
    encode_metadata,
)
from .reading import (
    AsyncStoredObject,
    check_range,
    coalesce,
    cut,
    digest_of,
    open_object,
)
from .removing import remove_many
from .revision import Condition, check_etag, new_revision, removed, revised
from .view import Page, PresignedUrl, View
from .writing import (
    CONCURRENCY,
    PART_SIZE,
    Progress,
    store,
)

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"


class AsyncStorage:
    """Object storage for one tenant.

    Cheap, safe to share, holds no connection: it may be kept for hours and follows the flags.
    Get one from `cm_platform.get_async_service("storage", tenant)`.

    Keys: text, at most 1,024 bytes of UTF-8 with the tenant's prefix; no leading "/", no "." or
    ".." segments, no control characters. Every method raises `invalid_argument` for another key,
    before any I/O; `unsupported` for what the backend cannot do; `unavailable`,
    `deadline_exceeded`, `rate_limited` when retries did not help; writes in doubt raise
    `ambiguous`.
    """

    __slots__ = ("_executor", "_view")

    def __init__(self, executor: Executor, view: View) -> None:
        self._executor = executor
        self._view = view

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._view.scope.tenant!r})"

    @property
    def tenant(self) -> Tenant:
        """Whose storage this is."""
        return self._view.scope.tenant

    def with_timeout(self, seconds: float) -> AsyncStorage:
        """The same storage with another deadline for a whole operation, retries included.

        seconds: more than 0, at most 86,400 (a day).
        """
        deadline = arguments.seconds(seconds, "a timeout")
        return type(self)(self._executor.with_timeout(deadline), self._view)

    async def capabilities(self) -> frozenset[StorageCapability]:
        """What the tenant's backend, as configured, can do beyond the common methods."""
        backend: StorageBackend = (await self._executor.endpoint()).backend
        return backend.capabilities

    async def ping(self) -> None:
        """Reach the tenant's backend with the configured credentials."""
        await self._executor.run(operations.PING, _ping)

    # Reading ------------------------------------------------------------------------------

    async def get(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        if_match: str | None = None,
        progress: Progress | None = None,
    ) -> AsyncStoredObject:
        """Open an object: `.info` at once, the body by `.read()` or `.chunks()`.

        start, length: bytes; a negative start counts from the end. Cut at the object's end.
        if_match: an etag; `precondition_failed` when the object has another.
        progress: called with (bytes so far, bytes in all).

        Raises `not_found`; `invalid_argument` for a start at or beyond the end.
        """
        span = check_range(start, length)
        check_etag(if_match)
        arguments.callback(progress, "progress")
        endpoint = await self._executor.endpoint()
        return await self._open(endpoint, key, span, if_match, progress)

    async def _open(
        self,
        endpoint: Endpoint,
        key: str,
        span: tuple[int, int | None] = (0, None),
        if_match: str | None = None,
        progress: Progress | None = None,
    ) -> AsyncStoredObject:
        stream = await open_object(
            self._executor, endpoint, self._view.key(key, endpoint), span, if_match
        )
        try:
            info = self._view.info(stream.reply.info)
        except PlatformError:
            await stream.close()
            raise
        return AsyncStoredObject(info, stream, endpoint.runtime, progress)

    async def get_range(self, key: str, start: int, length: int | None = None) -> bytes:
        """Part of an object: `length` bytes from `start`, or all from there.

        A negative start counts from the end. Fewer bytes come where the object ends earlier.
        Raises `not_found`; `invalid_argument` for a start at or beyond the end.
        """
        return await (await self.get(key, start=start, length=length)).read()

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, gap: int = 65_536
    ) -> Sequence[bytes]:
        """Several parts of one version of an object, in the order asked for.

        ranges: (start, length) each, in bytes, start >= 0. gap: ranges no further apart than
        this many bytes come with one request.

        Raises `precondition_failed` when the object is replaced meanwhile; otherwise as
        `get_range`.
        """
        spans = coalesce(ranges, gap)
        if not spans:
            return []
        # One endpoint for all: an etag means nothing to another backend.
        endpoint = await self._executor.endpoint()
        first, *others = spans
        opened = await self._open(endpoint, key, first)
        etag = opened.info.etag
        bodies = [await opened.read()]

        async def fetch(span: tuple[int, int]) -> bytes:
            return await (await self._open(endpoint, key, span, etag)).read()

        bodies += await endpoint.runtime.gather((fetch(span) for span in others), limit=CONCURRENCY)
        return [cut(spans, bodies, start, length) for start, length in ranges]

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object. Raises `not_found`."""
        endpoint = await self._executor.endpoint()
        physical = self._view.key(key, endpoint)
        info: ObjectInfo = await self._executor.run(
            operations.HEAD, lambda backend: backend.head(physical), endpoint=endpoint
        )
        return self._view.info(info)

    async def exists(self, key: str) -> bool:
        """Whether there is an object."""
        try:
            await self.head(key)
        except NotFoundError:
            return False
        return True

    async def verify(self, key: str) -> ObjectInfo:
        """Read an object to its end; its description with the SHA-256 that its bytes have.

        Raises `not_found`; `integrity` when another SHA-256 was recorded with it.
        """
        return await digest_of(await self.get(key))

    # Writing ------------------------------------------------------------------------------

    async def put(
        self,
        key: str,
        body: AsyncBody,
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
        condition = Condition.of(if_none_match, if_match)
        arguments.callback(progress, "progress")
        headers = (
            check_header(content_type, "content_type") or DEFAULT_CONTENT_TYPE,
            check_header(cache_control, "cache_control"),
            check_header(content_disposition, "content_disposition"),
            check_header(content_encoding, "content_encoding"),
            check_header(content_language, "content_language"),
        )
        encoded = NO_METADATA if metadata is None else encode_metadata(metadata)
        endpoint = await self._executor.endpoint()
        physical = self._view.key(key, endpoint)
        if condition.requires is not None:
            self._executor.check(operations.PUT, condition.requires, endpoint)
        source = await open_source(body, endpoint.runtime)
        revision = new_revision()
        try:
            written, size = await store(
                self._executor,
                endpoint,
                physical,
                source,
                Attributes(
                    *headers, revised(encoded, revision, source.sha256, endpoint.backend.limits)
                ),
                condition,
                revision,
                part_size,
                progress,
            )
        finally:
            await source.close()
        info = ObjectInfo(
            key,
            size,
            written.etag,
            written.last_modified,
            *headers,
            dict(metadata) if metadata else NO_METADATA,
            source.finish(),
            revision,
        )
        if verify:
            await self._read_back(endpoint, info)
        return info

    async def _read_back(self, endpoint: Endpoint, info: ObjectInfo) -> None:
        try:
            stored = await self._open(endpoint, info.key, if_match=info.etag)
            await digest_of(stored, info.sha256)
        except (NotFoundError, PreconditionFailedError) as error:
            raise IntegrityError(
                "the object was stored, and replaced or removed before it could be read back"
            ) from error

    async def copy(
        self, source: str, target: str, *, if_none_match: Literal["*"] | None = None
    ) -> ObjectInfo:
        """Copy an object within the tenant's storage, attributes included; no bytes come here.

        if_none_match: "*" copies only where there is nothing: else `already_exists`.

        The attributes are those of `Attributes`. What else a store may keep with an object that
        others wrote (see `Uncarried`) is not carried. One thing depends: S3 copies the tags of
        what it can copy in one request (5 GiB), and not of what is larger.

        Raises `not_found` for the source; `precondition_failed` when it is replaced meanwhile.
        """
        condition = Condition.of(if_none_match, None)
        endpoint = await self._executor.endpoint()
        from_key = self._view.key(source, endpoint)
        to_key = self._view.key(target, endpoint)
        return self._view.info(
            await copy_object(self._executor, endpoint, from_key, to_key, condition)
        )

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Remove an object. No error when there is none.

        if_match: an etag; removes only that version: else, or when there is nothing,
            `precondition_failed`.
        """
        condition = Condition.of(None, if_match)
        endpoint = await self._executor.endpoint()
        physical = self._view.key(key, endpoint)
        if condition.if_match is None:
            await self._executor.run(
                operations.DELETE,
                lambda backend: backend.delete(physical),
                resolve=removed(physical),
                endpoint=endpoint,
            )
        else:
            await self._executor.run(
                operations.DELETE_MATCHING,
                lambda backend: backend.delete(physical, if_match=condition.if_match),
                requires=StorageCapability.CONDITIONAL_DELETE,
                endpoint=endpoint,
            )

    async def delete_many(self, keys: Iterable[str]) -> dict[str, PlatformError | None]:
        """Remove objects in batches; for each key None, or why it may still be there.

        All keys are checked before the first is removed. A batch that fails as a whole is the
        outcome of each of its keys; the others go on.
        """
        if isinstance(keys, str) or not isinstance(keys, Iterable):
            raise InvalidArgumentError(
                f"delete_many takes several keys, such as a list, not {type(keys).__name__}"
            )
        endpoint = await self._executor.endpoint()
        wanted = {self._view.key(key, endpoint): key for key in keys}
        failures = await remove_many(self._executor, endpoint, list(wanted))
        return {key: failures.get(physical) for physical, key in wanted.items()}

    # Listing ------------------------------------------------------------------------------

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """All objects whose key starts with `prefix`, in order of their UTF-8 bytes.

        Pages are fetched as they are needed. For folders use `list_page` with a delimiter.
        """
        cursor: str | None = None
        # One listing, one backend: a cursor means nothing to another.
        endpoint = await self._executor.endpoint()
        limits: StorageLimits = endpoint.backend.limits
        while True:
            page = await self._page(endpoint, prefix, None, cursor, limits.max_page)
            for listed in page.objects:
                yield listed
            if (cursor := page.cursor) is None:
                return

    async def list_page(
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
        if delimiter not in (None, "/"):
            raise InvalidArgumentError('the delimiter is "/" or None')
        endpoint = await self._executor.endpoint()
        limits: StorageLimits = endpoint.backend.limits
        arguments.whole(limit, "limit", 1, limits.max_page)
        return await self._page(endpoint, prefix, delimiter, cursor, limit)

    async def _page(
        self,
        endpoint: Endpoint,
        prefix: str,
        delimiter: Literal["/"] | None,
        cursor: str | None,
        limit: int,
    ) -> Page:
        physical = self._view.prefix(prefix, endpoint)
        raw = None
        if cursor is not None:
            raw = self._view.cursor(cursor, endpoint, prefix, delimiter)
        page: BackendPage = await self._executor.run(
            operations.LIST,
            lambda backend: backend.list(physical, delimiter=delimiter, cursor=raw, limit=limit),
            endpoint=endpoint,
        )
        return self._view.page(page, endpoint, prefix, delimiter)

    # Sharing ------------------------------------------------------------------------------

    async def presign(
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
        if method not in ("GET", "PUT"):
            raise InvalidArgumentError('method is "GET" or "PUT"')
        endpoint = await self._executor.endpoint()
        limits: StorageLimits = endpoint.backend.limits
        physical = self._view.key(key, endpoint)
        arguments.whole(expires_in, "expires_in (seconds)", 1, limits.max_presign)
        attributes = Attributes(
            content_type=check_header(content_type, "content_type"),
            content_disposition=check_header(content_disposition, "content_disposition"),
        )
        expires_at = datetime.fromtimestamp(int(time.time()) + expires_in, UTC)
        presigned: Presigned = await self._executor.run(
            operations.PRESIGN,
            lambda backend: backend.presign(
                physical, method, expires_in=expires_in, attributes=attributes
            ),
            endpoint=endpoint,
        )
        return PresignedUrl(method, presigned.url, presigned.headers, expires_at)

    async def __aenter__(self) -> Self:
        """The storage itself; connections belong to the platform."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing: connections belong to the platform."""


async def _ping(backend: StorageBackend) -> None:
    await backend.ping()


__all__ = ["AsyncStorage"]
