"""How bytes come out of a store: an opened object, and ranges that travel together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from cm_platform import arguments
from cm_platform.errors import IntegrityError, InvalidArgumentError
from cm_platform.executor import Endpoint, Executor
from cm_platform.runtime import Runtime

from . import operations
from .backend import ObjectInfo, ObjectReply, StorageBackend
from .download import Download, open_download
from .lending import PartialFile
from .writing import Progress

_MOST: Final = 2**62


class AsyncStoredObject:
    """An object opened for reading: its description, and its body on the wire.

    Read it once, with `read`, `chunks` or `write_to`; each closes it. Close it, or leave its
    `with` block, to skip the rest. A connection cut on the way is resumed: same version or
    `precondition_failed`.
    """

    __slots__ = ("_download", "_progress", "_runtime", "info")

    info: ObjectInfo
    """Of the whole object, also when a range of it was asked for."""

    def __init__(
        self,
        info: ObjectInfo,
        download: Download[ObjectReply],
        runtime: Runtime,
        progress: Progress | None,
    ) -> None:
        self.info = info
        self._download = download
        self._runtime = runtime
        self._progress = progress

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.info.key!r}, size={self.info.size})"

    async def read(self) -> bytes:
        """The body, in memory."""
        if self._progress is None:
            return await self._download.read()
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they come: at most a few MiB of it are in memory."""
        done, total, progress = 0, self._download.size, self._progress
        try:
            async for chunk in self._download.chunks():
                if progress is not None:
                    done += len(chunk)
                    progress(done, total)
                yield chunk
        finally:
            # An inner generator that is left midway ends when it is collected: too late.
            await self.close()

    async def write_to(self, path: os.PathLike[str]) -> None:
        """Write the body to a file, which appears under its name only when it is whole."""
        target = await self._target(path)
        try:
            file = PartialFile(target)
            try:
                await self._runtime.call(file.open)
                async for chunk in self.chunks():
                    await self._runtime.call(file.write, chunk)
                await self._runtime.call(file.commit)
            finally:
                file.close()
        finally:
            await self.close()

    async def _target(self, path: object) -> Path:
        if isinstance(path, str | os.PathLike):
            return Path(cast("os.PathLike[str]", path))
        await self.close()
        raise InvalidArgumentError(
            f"write_to takes a path (pathlib.Path), not {type(path).__name__}"
        )

    async def close(self) -> None:
        """Let go of the connection; what was not read is not fetched."""
        await self._download.close()

    async def __aenter__(self) -> Self:
        """The object itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()


def open_object(
    executor: Executor,
    endpoint: Endpoint,
    key: str,
    span: tuple[int, int | None],
    if_match: str | None,
) -> Coroutine[Any, Any, Download[ObjectReply]]:
    """Open an object, or bytes [start, end) of it, so that what is cut can be resumed."""
    first, last = span

    def open_at(
        backend: StorageBackend, position: int, until: int | None, opened: ObjectReply | None
    ) -> Awaitable[ObjectReply]:
        if opened is None:
            return backend.get(key, start=first, end=last, if_match=if_match)
        begin = first if first >= 0 else max(0, opened.info.size + first)
        return backend.get(
            key,
            start=begin + position,
            end=last if until is None else begin + until,
            if_match=opened.info.etag,
        )

    def size(reply: ObjectReply) -> int:
        whole = reply.info.size
        if first < 0:
            return min(-first, whole)
        return (whole if last is None else min(last, whole)) - first

    return open_download(executor, operations.GET, open_at, size=size, endpoint=endpoint)


async def digest_of(stored: AsyncStoredObject, expected: str | None = None) -> ObjectInfo:
    """Read an object to its end; its description with the digest that its bytes have.

    expected: the digest to compare with, instead of the one recorded with the object.
    Raises `integrity` when they differ.
    """
    digest = hashlib.sha256()
    async for chunk in stored.chunks():
        digest.update(chunk)
    found, info = digest.hexdigest(), stored.info
    expected = expected or info.sha256
    if expected is not None and expected != found:
        raise IntegrityError("the stored bytes do not have the SHA-256 that they were sent with")
    return replace(info, sha256=found)


def check_range(start: int, length: int | None) -> tuple[int, int | None]:
    """`start` and `end` for the backend; `invalid_argument` for what is no range."""
    if not (_is_offset(start) and (length is None or _is_offset(length))):
        raise InvalidArgumentError("start and length are integers of bytes, below 2**62")
    if length is None:
        return start, None
    if start < 0:
        raise InvalidArgumentError("a negative start (the last bytes) goes without a length")
    if length <= 0:
        raise InvalidArgumentError("length must be at least 1 byte")
    return start, start + length


def _is_offset(value: object) -> bool:
    # Their sum must fit the signed 64 bits that clients have for it.
    return isinstance(value, int) and not isinstance(value, bool) and -_MOST < value < _MOST


def coalesce(ranges: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """The spans [start, end) to fetch so that each range (start, length) lies in one.

    gap: bytes between two ranges that are cheaper to fetch than to skip.
    Raises `invalid_argument` for what is no range.
    """
    _check_ranges(ranges)
    arguments.whole(gap, "gap (bytes)", 0, _MOST - 1)
    spans: list[tuple[int, int]] = []
    for start, length in sorted(ranges):
        end = start + length
        if spans and start <= spans[-1][1] + gap:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _check_ranges(ranges: object) -> None:
    # An iterator would be used up here, and nothing of it fetched.
    if isinstance(ranges, str | bytes) or not isinstance(ranges, Sequence):
        raise InvalidArgumentError(
            f"ranges is a sequence of (start, length), such as a list, not {type(ranges).__name__}"
        )
    for pair in cast("Sequence[object]", ranges):
        if not isinstance(pair, tuple | list) or len(cast("Sequence[object]", pair)) != 2:
            raise InvalidArgumentError("each of the ranges is a pair (start, length)")
        start, length = cast("Sequence[Any]", pair)
        check_range(start, length)
        if length is None or start < 0:
            raise InvalidArgumentError("get_ranges takes starts from 0, each with a length")


def cut(
    spans: Sequence[tuple[int, int]], bodies: Sequence[bytes], start: int, length: int
) -> bytes:
    """The part that was asked for, out of the spans that were fetched."""
    for (begin, end), body in zip(spans, bodies, strict=True):
        if begin <= start and start + length <= end:
            piece = body[start - begin : start - begin + length]
            if not piece:
                break
            return piece
    raise InvalidArgumentError("a range starts at or beyond the object's end")


__all__ = [
    "AsyncStoredObject",
    "check_range",
    "coalesce",
    "cut",
    "digest_of",
    "open_object",
]
