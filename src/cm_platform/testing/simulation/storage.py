"""A storage backend over a simulated store: what an SDK is elsewhere, with faults by choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Literal

from cm_platform.errors import (
    InternalError,
    InvalidArgumentError,
    PlatformError,
    UnsupportedError,
)
from cm_platform.storage.backend import (
    Attributes,
    BackendPage,
    ObjectInfo,
    ObjectReply,
    Part,
    Presigned,
    StorageCapability,
    StorageLimits,
    Written,
)

from .faults import NO_FAULTS, FaultSource, Request
from .link import DirectLink, Link
from .pages import page
from .presigning import presigned
from .reply import SimulatedReply
from .store import SimulatedStore
from .tasks import Process, point
from .wire import LONGEST_WAY, Wire

SMALL_LIMITS: Final = StorageLimits(
    max_key=200,
    max_metadata=2048,
    max_put=4096,
    min_part=8,
    max_part=4096,
    max_parts=20,
    max_copy=4096,
    max_delete_batch=10,
    max_page=10,
)
"""Limits that small objects reach."""

_write = partial(Request, writes=True)

_HEAD: Final = Request("head")
_GET: Final = Request("get", streams=True)
_LIST: Final = Request("list")
_PING: Final = Request("ping")
_PUT: Final = _write("put", duplicates=True)
_PUT_IF: Final = _write("put", duplicates=True, conditional=True)
_CREATE: Final = _write("create_multipart", duplicates=True)
_PART: Final = _write("put_part", duplicates=True)
_COPY_PART: Final = _write("copy_part", duplicates=True)
_COMPLETE: Final = _write("complete_multipart", duplicates=True)
_COMPLETE_IF: Final = _write("complete_multipart", duplicates=True, conditional=True)
_ABORT: Final = _write("abort_multipart", duplicates=True)
_DELETE: Final = _write("delete", duplicates=True)
_DELETE_IF: Final = _write("delete", conditional=True)
_DELETE_MANY: Final = _write("delete_many", duplicates=True)
_COPY: Final = _write("copy", duplicates=True)
_COPY_IF: Final = _write("copy", duplicates=True, conditional=True)


class SimulatedStorage:
    """A `StorageBackend` of one simulated process.

    store: the shared state. process: whose requests these are; None for use without a simulation,
    where nothing suspends and nothing fails.
    lifetime: seconds for which requests do live on, if not as long as is declared.
    longest_way: seconds that a slow request is on its way, in one direction, at most.
    """

    def __init__(
        self,
        store: SimulatedStore,
        process: Process | None,
        faults: FaultSource = NO_FAULTS,
        *,
        capabilities: frozenset[StorageCapability] = frozenset(StorageCapability),
        max_request_lifetime: float = 30.0,
        lifetime: float | None = None,
        longest_way: float = LONGEST_WAY,
    ) -> None:
        self.capabilities = capabilities
        self.limits: StorageLimits = store.limits
        self.max_request_lifetime = max_request_lifetime
        self._store = store
        self._link: Link = (
            DirectLink()
            if process is None
            else Wire(
                process,
                store.name,
                faults,
                max_request_lifetime if lifetime is None else lifetime,
                longest_way,
            )
        )
        self._dice = None if process is None else process.simulation.random
        self._wait = _nothing if process is None else point

    async def head(self, key: str, *, uncarried: bool = False) -> ObjectInfo:
        """See `StorageBackend.head`."""
        head = self._store.head_whole if uncarried else self._store.head
        return await self._link.send(_HEAD, lambda: head(key), key)

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, if_match: str | None = None
    ) -> ObjectReply:
        """See `StorageBackend.get`."""
        if end is not None and (start < 0 or end <= start):
            raise InvalidArgumentError("a range is [start, end) with 0 <= start < end")
        act = partial(self._opened, key, start, end, if_match)
        return await self._link.send(_GET, act, key, spoilt=partial(act, cut=True))

    def _opened(
        self, key: str, start: int, end: int | None, if_match: str | None, *, cut: bool = False
    ) -> SimulatedReply:
        found = self._store.find(key)
        info, body = found.info, found.body
        if if_match is not None and info.etag != if_match:
            self._store.demand(key, if_match)
        if start or end is not None:
            first = max(0, len(body) + start) if start < 0 else start
            if first >= len(body):
                raise InvalidArgumentError("the range starts at or beyond the object's end")
            body = body[first:end]
        at = self._dice.randrange(len(body)) if cut and self._dice and body else None
        return SimulatedReply(info, body, self._wait, at)

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        attributes: Attributes,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """See `StorageBackend.put`."""
        self._check_write(key, attributes, len(data), self.limits.max_put)
        conditional = self._check_condition(if_none_match, if_match)
        # A copy: it may arrive when the caller's buffer is used for something else.
        body = bytes(data)
        store = self._store
        return await self._link.send(
            _PUT_IF if conditional else _PUT,
            lambda: store.put(
                key, body, attributes, if_none_match=if_none_match, if_match=if_match
            ),
            key,
        )

    async def create_multipart(self, key: str, attributes: Attributes) -> str:
        """See `StorageBackend.create_multipart`."""
        self._check_write(key, attributes)
        act = partial(self._store.uploads.begin, key, attributes)
        return await self._link.send(_CREATE, act, key)

    async def put_part(
        self, key: str, upload_id: str, number: int, data: bytes | memoryview
    ) -> Part:
        """See `StorageBackend.put_part`."""
        self._check_part(number, len(data))
        act = partial(self._store.uploads.put, key, upload_id, number, bytes(data))
        return await self._link.send(_PART, act, key)

    async def copy_part(
        self, key: str, upload_id: str, number: int, source: str, start: int, end: int, etag: str
    ) -> Part:
        """See `StorageBackend.copy_part`."""
        self._check_part(number, end - start)
        act = partial(self._store.uploads.copy, key, upload_id, number, source, start, end, etag)
        return await self._link.send(_COPY_PART, act, key)

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """See `StorageBackend.complete_multipart`. The upload stays when this fails."""
        conditional = self._check_condition(if_none_match, if_match)
        act = partial(
            self._store.uploads.complete,
            key,
            upload_id,
            tuple(parts),
            if_none_match=if_none_match,
            if_match=if_match,
        )
        return await self._link.send(_COMPLETE_IF if conditional else _COMPLETE, act, key)

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """See `StorageBackend.abort_multipart`."""
        await self._link.send(_ABORT, partial(self._store.uploads.abort, key, upload_id), key)

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """See `StorageBackend.delete`."""
        if if_match is not None:
            self._need(StorageCapability.CONDITIONAL_DELETE)
        request = _DELETE if if_match is None else _DELETE_IF
        await self._link.send(request, lambda: self._store.delete(key, if_match), key)

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `StorageBackend.delete_many`. One by one, in any order, and not at once."""
        if len(keys) > self.limits.max_delete_batch:
            raise InvalidArgumentError(f"{self.limits.max_delete_batch} keys at most at a time")
        acts = [partial(self._store.delete, key) for key in keys]
        failed = await self._link.send_each(_DELETE_MANY, acts)
        return {keys[index]: InternalError("the store failed to delete it") for index in failed}

    async def copy(
        self,
        source: str,
        target: str,
        attributes: Attributes,
        *,
        etag: str,
        if_none_match: bool = False,
    ) -> Written:
        """See `StorageBackend.copy`."""
        self._check_write(target, attributes)
        if if_none_match:
            self._need(StorageCapability.CONDITIONAL_COPY)
        act = partial(
            self._store.copy, source, target, attributes, etag, if_none_match=if_none_match
        )
        return await self._link.send(_COPY_IF if if_none_match else _COPY, act, target)

    async def list(
        self, prefix: str, *, delimiter: Literal["/"] | None, cursor: str | None, limit: int
    ) -> BackendPage:
        """See `StorageBackend.list`."""
        if not 1 <= limit <= self.limits.max_page:
            raise InvalidArgumentError(f"a page has 1 to {self.limits.max_page} keys")
        act = partial(page, self._store, prefix, delimiter, cursor)
        return await self._link.send(
            _LIST, partial(act, limit), prefix, spoilt=lambda: act(self._short(limit))
        )

    def _short(self, limit: int) -> int:
        return limit if self._dice is None else self._dice.randrange(min(limit, 3))

    async def presign(
        self, key: str, method: Literal["GET", "PUT"], *, expires_in: int, attributes: Attributes
    ) -> Presigned:
        """See `StorageBackend.presign`. Whoever holds the result gives it to `follow`."""
        self._need(StorageCapability.PRESIGN)
        if not 1 <= expires_in <= self.limits.max_presign:
            raise InvalidArgumentError(f"a URL lives 1 to {self.limits.max_presign} seconds")
        self._check_write(key, attributes)
        return presigned(self._store, key, method, expires_in, attributes)

    def translate(self, error: Exception) -> PlatformError | None:
        """Nothing but a `PlatformError` leaves it."""
        return None

    async def ping(self) -> None:
        """See `StorageBackend.ping`."""
        await self._link.send(_PING, lambda: None)

    def native(self) -> SimulatedStore:
        """The store."""
        return self._store

    async def close(self) -> None:
        """Nothing is held open."""

    def _check_write(self, key: str, attributes: Attributes, size: int = 0, most: int = 0) -> None:
        self._store.check_key(key)
        if attributes.metadata:
            self._store.check_attributes(attributes)
        if size > most:
            raise InvalidArgumentError(f"a body in one piece has {most} bytes at most")

    def _check_part(self, number: int, size: int) -> None:
        if not (1 <= number <= self.limits.max_parts and size <= self.limits.max_part):
            raise InvalidArgumentError(
                f"parts have numbers from 1 to {self.limits.max_parts} and "
                f"{self.limits.max_part} bytes at most"
            )

    def _check_condition(self, if_none_match: bool, if_match: str | None) -> bool:
        if if_none_match:
            self._need(StorageCapability.CONDITIONAL_CREATE)
        if if_match is not None:
            self._need(StorageCapability.CONDITIONAL_REPLACE)
        return if_none_match or if_match is not None

    def _need(self, capability: StorageCapability) -> None:
        if capability not in self.capabilities:
            raise UnsupportedError(f"this store lacks {capability}", not_sent=True)


async def _nothing() -> None:
    pass


__all__ = ["SMALL_LIMITS", "SimulatedStorage"]
