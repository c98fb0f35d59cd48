"""`storage.local`: objects as files below a directory, for development, tests and one machine.

Complete and strict, not a toy: writes are atomic and conditional across any number of
processes on the machine. Network file systems are as good as their locks (flock) and renames.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import Field

from cm_platform.errors import (
    ConfigInvalidError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    UnsupportedError,
)
from cm_platform.limits import limits
from cm_platform.registry import Backend
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings
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

from . import listing
from .body import LocalBody, LocalReply
from .conditions import UNCONDITIONAL, Condition, Ticket
from .errors import classify
from .files import CHUNK, DIRECTORY_MODE, read_range
from .locks import KeyLocks
from .objects import Objects
from .sweep import sweep_objects
from .uploads import Uploads

T = TypeVar("T")

CAPABILITIES: Final = frozenset(StorageCapability) - {StorageCapability.PRESIGN}

MAX_REQUEST_LIFETIME: Final = 5.0
"""A cancelled call's thread works on, but looks for its caller under the lock, just before it
commits. What can still land is one rename that had passed that point: microseconds, and these
five seconds are for a machine that stalls."""


class LocalConfig(Settings):
    """A directory with objects as files, for development, tests and one machine.

    path: the directory; made when it is missing. Several processes may share it.
    fsync: a write is answered when it would survive a power cut. Without it a write survives
        the death of the process, which is what atomicity needs, and costs far less.
    lacks: capabilities to do without, for standing in for a store that has fewer.
    max_request_lifetime: seconds that a write may go on after its caller gave up: as long as this
        disk may hang.
    """

    path: Path
    fsync: bool = False
    max_request_lifetime: float = Field(
        default=MAX_REQUEST_LIFETIME, gt=0, le=3600, allow_inf_nan=False
    )
    lacks: frozenset[StorageCapability] = frozenset()


class LocalStorage:
    """A `StorageBackend` over a directory."""

    def __init__(self, config: LocalConfig, runtime: Runtime) -> None:
        self.capabilities = CAPABILITIES - config.lacks
        self.limits = StorageLimits(**limits("storage", "local"))
        self.max_request_lifetime = config.max_request_lifetime
        self._runtime = runtime
        self._root = config.path
        root = str(config.path)
        self._objects = Objects(
            f"{root}/objects", KeyLocks(f"{root}/locks"), runtime.clock, fsync=config.fsync
        )
        self._uploads = Uploads(f"{root}/uploads", self._objects)

    async def head(self, key: str, *, uncarried: bool = False) -> ObjectInfo:
        """See `StorageBackend.head`. A sidecar holds what `Attributes` can say, and no more."""
        info = await self._runtime.call(self._objects.read, key)
        return replace(info, uncarried=frozenset()) if uncarried else info

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, if_match: str | None = None
    ) -> ObjectReply:
        """See `StorageBackend.get`. Up to 1 MiB is read at once; more, while it is consumed."""
        _check_range(start, end)
        body = LocalBody()
        try:
            info = await self._runtime.call(self._open, key, start, end, if_match, body)
        except BaseException:
            body.close()
            raise
        return LocalReply(info, body, self._runtime)

    def _open(
        self, key: str, start: int, end: int | None, if_match: str | None, body: LocalBody
    ) -> ObjectInfo:
        info, descriptor = self._objects.open(key, etag=if_match)
        try:
            first, last = _resolve_range(start, end, info.size)
            if last - first > CHUNK:
                body.attach(descriptor, first, last)
                descriptor = -1
            else:
                body.fill(read_range(descriptor, first, last))
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return info

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
        condition = Condition(if_none_match, if_match)
        return await self._write(
            lambda ticket: self._objects.put(key, data, attributes, condition, ticket)
        )

    async def create_multipart(self, key: str, attributes: Attributes) -> str:
        """See `StorageBackend.create_multipart`."""
        return await self._runtime.call(self._uploads.begin, key, attributes)

    async def put_part(
        self, key: str, upload_id: str, number: int, data: bytes | memoryview
    ) -> Part:
        """See `StorageBackend.put_part`."""
        return await self._write(
            lambda ticket: self._uploads.put(key, upload_id, number, data, ticket)
        )

    async def copy_part(
        self, key: str, upload_id: str, number: int, source: str, start: int, end: int, etag: str
    ) -> Part:
        """See `StorageBackend.copy_part`. A source that is gone is `not_found`."""
        return await self._write(
            lambda ticket: self._uploads.copy(
                key, upload_id, number, source, start, end, etag, ticket
            )
        )

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """See `StorageBackend.complete_multipart`.

        `invalid_argument` for a part that was not uploaded or has another etag, and for parts
        that do not rise by number. The upload stays when a condition fails.
        """
        condition = Condition(if_none_match, if_match)
        return await self._write(
            lambda ticket: self._uploads.complete(key, upload_id, parts, condition, ticket)
        )

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """See `StorageBackend.abort_multipart`."""
        await self._runtime.call(self._uploads.abort, key, upload_id)

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """See `StorageBackend.delete`."""
        condition = Condition(if_match=if_match)
        await self._write(lambda ticket: self._objects.delete(key, condition, ticket))

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `StorageBackend.delete_many`."""
        return await self._write(lambda ticket: self._delete_each(keys, ticket))

    def _delete_each(self, keys: Sequence[str], ticket: Ticket) -> dict[str, PlatformError]:
        failures: dict[str, PlatformError] = {}
        for key in keys:
            try:
                self._objects.delete(key, UNCONDITIONAL, ticket)
            except PlatformError as error:
                failures[key] = error
            except OSError as error:
                failures[key] = classify(error) or InternalError("the delete failed")
        return failures

    async def copy(
        self,
        source: str,
        target: str,
        attributes: Attributes,
        *,
        etag: str,
        if_none_match: bool = False,
    ) -> Written:
        """See `StorageBackend.copy`. The copy shares the bytes on disk, where links are known."""
        condition = Condition(if_none_match)
        return await self._write(
            lambda ticket: self._objects.copy(source, target, attributes, etag, condition, ticket)
        )

    async def list(
        self, prefix: str, *, delimiter: Literal["/"] | None, cursor: str | None, limit: int
    ) -> BackendPage:
        """See `StorageBackend.list`.

        An object whose sidecar is damaged is listed by its key alone: with no bytes and an
        empty etag, which no object has. `head` says why (`integrity`); delete it, or put it
        again.
        """
        return await self._runtime.call(
            listing.page,
            self._objects.top,
            prefix,
            delimiter=delimiter,
            cursor=cursor,
            limit=limit,
            check_there=self._objects.check_there,
        )

    async def presign(
        self, key: str, method: Literal["GET", "PUT"], *, expires_in: int, attributes: Attributes
    ) -> Presigned:
        """Always `unsupported`: there is no server that a URL could lead to."""
        raise UnsupportedError("storage.local cannot presign: it has no server to send anybody to")

    def translate(self, error: Exception) -> PlatformError | None:
        """See `StorageBackend.translate`."""
        return classify(error)

    async def sweep(self, *, older_than: float) -> int:
        """Remove what crashed writers left and uploads that nobody continued; how many.

        older_than: seconds since the last change. Take more than the longest write: one that
        loses its files to a sweep fails with `unavailable` and can be made again. Reads the
        whole store, so it is for operators and runs by itself never.
        """
        if older_than < 0:
            raise InvalidArgumentError("`older_than` is a number of seconds from 0")
        # The file system's clock, which is the machine's, not the runtime's.
        before = time.time() - older_than
        return await self._runtime.call(self._sweep, before)

    def _sweep(self, before: float) -> int:
        swept = sweep_objects(self._objects.top, self._objects.locks, before)
        return swept + self._uploads.sweep(before)

    async def ping(self) -> None:
        """Look whether the directory is there and writable."""
        await self._runtime.call(self._ping)

    def _ping(self) -> None:
        self._objects.check_there()
        for directory in (self._objects.top, self._uploads.top):
            if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionDeniedError(
                    "the store's directory is not readable and writable for this process"
                )

    def native(self) -> Path:
        """The directory."""
        return self._root

    async def close(self) -> None:
        """Nothing is held open between calls."""

    async def _write(self, work: Callable[[Ticket], T]) -> T:
        ticket = Ticket()
        try:
            return await self._runtime.call(work, ticket)
        except BaseException:
            ticket.withdraw()
            raise


def _check_range(start: int, end: int | None) -> None:
    if end is not None and (start < 0 or end <= start):
        raise InvalidArgumentError(
            "a range is [start, end) with 0 <= start < end; a negative start counts from the "
            "object's end and takes no end"
        )


def _resolve_range(start: int, end: int | None, size: int) -> tuple[int, int]:
    if (start, end) == (0, None):
        return 0, size
    first = max(0, size + start) if start < 0 else start
    if first >= size:
        raise InvalidArgumentError(f"the range starts at or beyond the object's {size} bytes")
    return first, size if end is None else min(end, size)


def _make_directories(root: Path) -> None:
    root.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    for name in ("objects", "uploads", "locks"):
        (root / name).mkdir(DIRECTORY_MODE, exist_ok=True)


async def _open(config: LocalConfig, runtime: Runtime) -> LocalStorage:
    if find_spec("fcntl") is None:
        raise ConfigInvalidError(
            "storage.local needs file locks (fcntl), which this platform does not have; "
            "run it on Linux, macOS or WSL"
        )
    try:
        await runtime.call(_make_directories, config.path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno is not None else "no reason given"
        raise ConfigInvalidError(
            f"storage.local cannot use the directory {str(config.path)!r}: {reason}"
        ) from error
    return LocalStorage(config, runtime)


BACKEND: Final = Backend(
    name="storage.local", config=LocalConfig, open=_open, capabilities=CAPABILITIES
)

__all__ = ["BACKEND", "LocalConfig", "LocalStorage"]
