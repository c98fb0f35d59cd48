"""A reply that outlives the call, resumed where its connection was cut."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from .errors import InternalError, UnavailableError
from .operation import Operation

if TYPE_CHECKING:
    from .executor import Endpoint, Executor

logger = logging.getLogger("cm_platform.executor")

# Above this size a body is collected piece by piece, so that a cut connection costs the rest
# and not the whole.
WHOLE_READ: Final = 8 * 1024 * 1024


class Reply(Protocol):
    """An answered request whose body is still on the wire."""

    async def read(self) -> bytes:
        """The rest of the body."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


R = TypeVar("R", bound=Reply)


class Stream(Generic[R]):
    """A reply under way: its bytes, resumed where the connection was cut."""

    def __init__(
        self,
        executor: Executor,
        operation: Operation,
        endpoint: Endpoint,
        reply: R,
        open_at: Callable[[Any, int, Any], Awaitable[R]],
        size: int,
    ) -> None:
        self._executor = executor
        self._operation = operation
        self._endpoint = endpoint
        self._open_at = open_at
        self._reply = reply
        self._current = reply
        self.size = size
        """Bytes that the body must have."""
        self._position = 0
        self._started = False
        self.closed = False

    @property
    def reply(self) -> R:
        """The first answer: status and headers."""
        return self._reply

    async def read(self) -> bytes:
        """The whole body; closes the stream."""
        if self.size <= WHOLE_READ and not self._started:
            self._begin()
            try:
                return await self._read_whole()
            finally:
                await self.close()
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces; closes the stream at its end. Can be used once."""
        self._begin()
        stalls = 0
        try:
            while self._position < self.size:
                try:
                    async for chunk in self._timed(self._current.chunks()):
                        self._position += len(chunk)
                        stalls = 0
                        yield chunk
                    if self._position < self.size:
                        raise UnavailableError("the body ended too early", retryable=True)
                except Exception as caught:  # noqa: BLE001 - classified, as by the executor
                    stalls += 1
                    await self._resume(caught, stalls)
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of the connection; the rest of the body is not read."""
        if not self.closed:
            self.closed = True
            await self._current.close()

    def _begin(self) -> None:
        if self._started or self.closed:
            raise InternalError("a body can be read once; get the object again")
        self._started = True

    async def _read_whole(self) -> bytes:
        runtime = self._endpoint.runtime
        stalls = 0
        while True:
            try:
                async with runtime.timeout(self._patience):
                    body = await self._current.read()
                if len(body) == self.size:
                    return body
                raise UnavailableError("the body ended too early", retryable=True)
            except Exception as caught:  # noqa: BLE001 - classified, as by the executor
                stalls += 1
                await self._resume(caught, stalls)

    async def _timed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        runtime = self._endpoint.runtime
        if not runtime.is_async:
            async for chunk in chunks:
                yield chunk
            return
        while True:
            try:
                async with runtime.timeout(self._patience):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            yield chunk

    async def _resume(self, caught: Exception, stalls: int) -> None:
        """Open the rest; raises when that is of no use."""
        error = self._executor.classified(caught, self._operation, self._endpoint)
        policy = self._endpoint.policy
        if not error.retryable or stalls >= policy.attempts:
            error.retryable = False
            raise error from (caught if error is not caught else None)
        self._endpoint.breaker.failed(error)
        logger.debug(
            "%s on %s: resumes at byte %d of %d",
            self._operation.span_name,
            self._endpoint.name,
            self._position,
            self.size,
        )
        await self._current.close()
        position = self._position
        self._current = await self._executor.run(
            self._operation,
            lambda backend: self._open_at(backend, position, self._reply),
            endpoint=self._endpoint,
        )

    @property
    def _patience(self) -> float:
        return self._executor.timeout or self._endpoint.timeout


__all__ = ["WHOLE_READ", "Reply", "Stream"]
