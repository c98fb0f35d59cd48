"""An object's bytes on their way here: all of them, of one version, resumed where they were cut."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from io import BytesIO
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast

from cm_platform.errors import IntegrityError, UnavailableError
from cm_platform.executor import Endpoint, Executor
from cm_platform.operation import Operation
from cm_platform.stream import Stream

logger = logging.getLogger("cm_platform.storage")

# Above this size a body is collected piece by piece, so that a cut connection costs the rest
# and not the whole.
WHOLE_READ: Final = 8 * 1024 * 1024

PARALLEL_READS: Final = 4


class Body(Protocol):
    """An answered request whose bytes are still on the wire."""

    async def read(self) -> bytes:
        """The rest of the bytes."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


R = TypeVar("R", bound=Body)

OpenAt: TypeAlias = "Callable[[Any, int, int | None, Any], Awaitable[R]]"
"""Given the backend, where in the body to begin, where to end (None: at its end), and the first
reply (None at first), asks for that: of the same version, or an error."""


async def open_download(
    executor: Executor,
    operation: Operation,
    open_at: OpenAt[R],
    *,
    size: Callable[[R], int],
    endpoint: Endpoint | None = None,
) -> Download[R]:
    """Ask for a body; it is answered, and not yet read.

    size: given the first reply, how many bytes the body must have.
    """
    stream = await executor.stream(
        operation, lambda backend: open_at(backend, 0, None, None), endpoint=endpoint
    )
    return Download(stream, open_at, size(stream.reply))


class Download(Generic[R]):
    """A body under way. It is read once, by `read` or by `chunks`; each closes it.

    Raises `integrity` for more bytes than were announced; fewer are a cut connection.
    """

    def __init__(self, stream: Stream[R], open_at: OpenAt[R], size: int) -> None:
        self._stream = stream
        self._open_at = open_at
        self.size = size
        """Bytes that the body must have."""
        self._position = 0

    @property
    def reply(self) -> R:
        """The first answer: status and headers."""
        return self._stream.reply

    async def read(self) -> bytes:
        """The whole body, in memory."""
        if self.size <= WHOLE_READ:
            return await self._stream.once(self._whole, reopen=self._rest)
        # Each byte goes straight to its place: to join pieces would take the memory twice, and
        # for a body of this size fresh memory costs more than the bytes that are put there.
        held = BytesIO(bytes(self.size))
        with held.getbuffer() as target:
            if self.size <= 2 * WHOLE_READ or self._stream.used:
                await _fill(target, self.chunks())
            else:
                await self._fill_from_both_ends(target)
        return held.getvalue()

    def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they come."""
        return self._stream.items(self._pieces, reopen=self._rest)

    async def close(self) -> None:
        """Let go of the connection; the rest of the body is not read."""
        await self._stream.close()

    async def _whole(self, reply: R) -> bytes:
        body = await reply.read()
        _check_length(len(body), self.size)
        return body

    async def _pieces(self, reply: R) -> AsyncIterator[bytes]:
        if self._position < self.size:
            async for chunk in reply.chunks():
                self._position += len(chunk)
                if self._position > self.size:
                    break
                yield chunk
            _check_length(self._position, self.size)

    async def _rest(self, backend: Any, first: R) -> R:
        if 0 < self.size <= self._position:
            # Cut after the last byte: there is no rest, and to ask for it would be an error.
            return first
        logger.debug("a download goes on at byte %d of %d", self._position, self.size)
        return await self._open_at(backend, self._position, None, first)

    async def _fill_from_both_ends(self, target: memoryview) -> None:
        """The reply under way brings the beginning; further requests bring the end, part by
        part, until they meet. One connection alone does not fill a fast line."""
        unclaimed = deque(range(0, self.size, WHOLE_READ))

        async def from_the_beginning() -> None:
            chunks = self.chunks()
            done = claimed = 0
            while True:
                while done < claimed:
                    chunk = await anext(chunks)
                    # The last one may reach into what somebody else has claimed: it has the same
                    # bytes there, of the same version.
                    target[done : done + len(chunk)] = chunk
                    done += len(chunk)
                try:
                    claimed = min(unclaimed.popleft() + WHOLE_READ, self.size)
                except IndexError:
                    break
            await cast("AsyncGenerator[bytes, None]", chunks).aclose()

        async def from_the_end() -> None:
            with suppress(IndexError):
                while True:
                    start = unclaimed.pop()
                    await self._part(target, start, min(start + WHOLE_READ, self.size))

        async def all_or_nothing(read: Callable[[], Awaitable[None]]) -> None:
            try:
                await read()
            except BaseException:
                # Nobody can interrupt the others' threads, but they need not begin another part.
                unclaimed.clear()
                raise

        ways = [from_the_beginning, *([from_the_end] * (PARALLEL_READS - 1))]
        runtime = self._stream.endpoint.runtime
        try:
            await runtime.gather(map(all_or_nothing, ways), limit=PARALLEL_READS)
        finally:
            await self.close()

    async def _part(self, target: memoryview, start: int, end: int) -> None:
        async def fetch(backend: Any) -> None:
            reply = await self._open_at(backend, start, end, self.reply)
            try:
                with target[start:end] as place:
                    await _fill(place, reply.chunks())
            finally:
                await reply.close()

        stream = self._stream
        await stream.executor.run(stream.operation, fetch, endpoint=stream.endpoint)


async def _fill(target: memoryview, chunks: AsyncIterator[bytes]) -> None:
    """Put the pieces one after the other; together they must fill it."""
    done = 0
    try:
        async for chunk in chunks:
            end = done + len(chunk)
            if end > len(target):
                _check_length(end, len(target))
            target[done:end] = chunk
            done = end
    finally:
        # Left to the garbage collector, it would outlive its connection for a while.
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    _check_length(done, len(target))


def _check_length(length: int, announced: int) -> None:
    if length > announced:
        raise IntegrityError("the body is longer than was announced")
    if length < announced:
        raise UnavailableError("the body ended too early", retryable=True)


__all__ = ["PARALLEL_READS", "WHOLE_READ", "Body", "Download", "OpenAt", "open_download"]
