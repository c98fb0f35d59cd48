"""How a body gets into a store: in one request or in parts, each retried by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final

from cm_platform.errors import InvalidArgumentError, NotFoundError, UnavailableError
from cm_platform.executor import Endpoint, Executor

from . import operations
from .backend import Attributes, Part, StorageBackend, StorageLimits, Written
from .body import MemorySource, Source
from .multipart import in_parts, plan_part_size
from .revision import Condition, landed

PART_SIZE: Final = 8 * 1024 * 1024
CONCURRENCY: Final = 4

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes done so far and the bytes in all, None while that is not known."""


async def store(
    executor: Executor,
    endpoint: Endpoint,
    key: str,
    source: Source,
    attributes: Attributes,
    condition: Condition,
    revision: str,
    part_size: int,
    progress: Progress | None,
) -> tuple[Written, int]:
    """Send a source whole or in parts; the answer, and its size.

    attributes: with the revision, by which the write is known again when its answer is lost.
    """
    limits: StorageLimits = endpoint.backend.limits
    part_size = plan_part_size(source.size, part_size, limits)
    if isinstance(source, MemorySource) and len(source.data) <= part_size:
        written = await put_whole(
            executor, endpoint, key, source.data, attributes, condition, revision
        )
        if progress is not None:
            progress(len(source.data), len(source.data))
        return written, len(source.data)
    pieces = source.pieces(part_size)
    first = await anext(pieces)
    second = None
    if len(first) == part_size and source.size != part_size:
        second = await anext(pieces, None)
    if second is None:
        source.finish()
        written = await put_whole(executor, endpoint, key, first, attributes, condition, revision)
        if progress is not None:
            progress(len(first), len(first))
        return written, len(first)
    counted = _Counted(first, second, pieces)
    del first, second  # else this frame holds two pieces until the last one is stored
    with executor.span(operations.PUT, endpoint):
        written = await put_parts(
            executor,
            endpoint,
            key,
            source,
            counted.pieces(),
            attributes,
            condition,
            revision,
            progress,
        )
    return written, counted.size


def put_whole(
    executor: Executor,
    endpoint: Endpoint,
    key: str,
    data: bytes | memoryview,
    attributes: Attributes,
    condition: Condition,
    revision: str,
) -> Coroutine[Any, Any, Written]:
    """Store a body with one request."""

    def call(backend: StorageBackend) -> Awaitable[Written]:
        return backend.put(
            key,
            data,
            attributes,
            if_none_match=condition.if_none_match,
            if_match=condition.if_match,
        )

    return executor.run(
        operations.PUT,
        call,
        requires=condition.requires,
        resolve=landed(key, revision),
        endpoint=endpoint,
    )


async def put_parts(
    executor: Executor,
    endpoint: Endpoint,
    key: str,
    source: Source,
    pieces: AsyncIterator[bytes | memoryview],
    attributes: Attributes,
    condition: Condition,
    revision: str,
    progress: Progress | None,
) -> Written:
    """Store a body in parts, a few at a time; abort what does not come to its end."""
    limits: StorageLimits = endpoint.backend.limits
    done = 0

    async def put_part(upload_id: str, number: int, piece: bytes | memoryview) -> Part:
        nonlocal done
        try:
            part: Part = await executor.run(
                operations.PUT_PART,
                lambda backend: backend.put_part(key, upload_id, number, piece),
                endpoint=endpoint,
            )
        except NotFoundError as error:
            # Of the upload, not of an object: to whoever puts one there is nothing to be found.
            raise UnavailableError("the upload was removed while its parts were sent") from error
        done += len(piece)
        if progress is not None:
            progress(done, source.size)
        return part

    async def parts(upload_id: str) -> AsyncIterator[Coroutine[Any, Any, Part]]:
        number = 0
        async for piece in pieces:
            number += 1
            if number > limits.max_parts:
                raise InvalidArgumentError(
                    f"the body has more than {limits.max_parts} parts; give a larger part_size"
                )
            yield put_part(upload_id, number, piece)

    async def fill(upload_id: str) -> list[Part]:
        stored = await endpoint.runtime.gather(parts(upload_id), limit=CONCURRENCY)
        source.finish()
        return stored

    return await in_parts(executor, endpoint, key, attributes, condition, revision, fill)


class _Counted:
    """Pieces, two of which are read already, and their size."""

    def __init__(
        self,
        first: bytes | memoryview,
        second: bytes | memoryview,
        rest: AsyncIterator[bytes | memoryview],
    ) -> None:
        self.size = 0
        self._read = [first, second]
        self._rest = rest

    async def pieces(self) -> AsyncIterator[bytes | memoryview]:
        while self._read:
            piece = self._read.pop(0)
            self.size += len(piece)
            yield piece
        async for piece in self._rest:
            self.size += len(piece)
            yield piece


__all__ = ["CONCURRENCY", "PART_SIZE", "Progress", "store"]
