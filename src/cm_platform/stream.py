"""A reply that outlives the call, resumed where its connection was cut."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast

from .errors import IntegrityError, InvalidArgumentError, PlatformError, UnavailableError
from .operation import Operation

if TYPE_CHECKING:
    from .executor import Endpoint, Executor

logger = logging.getLogger("cm_platform.executor")

# Above this size a body is collected piece by piece, so that a cut connection costs the rest
# and not the whole.
WHOLE_READ: Final = 8 * 1024 * 1024

PARALLEL_READS: Final = 4


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

OpenAt: TypeAlias = "Callable[[Any, int, int | None, Any], Awaitable[R]]"
"""Given the backend, where in the body to begin, where to end (None: at its end), and the first
reply (None at first), asks for that: of the same version, or an error."""


class Stream(Generic[R]):
    """A reply under way: its bytes, resumed where the connection was cut."""

    def __init__(
        self,
        executor: Executor,
        operation: Operation,
        endpoint: Endpoint,
        reply: R,
        open_at: OpenAt[R],
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
        if self.size <= 2 * WHOLE_READ or self._started:
            return b"".join([chunk async for chunk in self.chunks()])
        return await self._read_from_both_ends()

    async def _read_from_both_ends(self) -> bytes:
        """The reply under way brings the beginning; further requests bring the end, part by
        part, until they meet. One connection alone does not fill a fast line."""
        unclaimed = deque(range(0, self.size, WHOLE_READ))
        parts: dict[int, bytes] = {}
        beginning: list[bytes] = []
        claimed = 0

        async def from_the_beginning() -> bytes:
            nonlocal claimed
            chunks = self.chunks()
            while True:
                while self._position < claimed:
                    beginning.append(await anext(chunks))
                try:
                    claimed = min(unclaimed.popleft() + WHOLE_READ, self.size)
                except IndexError:
                    break
            await cast("AsyncGenerator[bytes, None]", chunks).aclose()
            return b""

        async def from_the_end() -> bytes:
            with suppress(IndexError):
                while True:
                    start = unclaimed.pop()
                    parts[start] = await self._part(start, min(start + WHOLE_READ, self.size))
            return b""

        async def whole_or_nothing(read: Callable[[], Awaitable[bytes]]) -> bytes:
            try:
                return await read()
            except BaseException:
                # Nobody can interrupt the others' threads, but they need not begin another part.
                unclaimed.clear()
                raise

        ways = [from_the_beginning, *([from_the_end] * (PARALLEL_READS - 1))]
        try:
            await self._endpoint.runtime.gather(map(whole_or_nothing, ways), limit=PARALLEL_READS)
        finally:
            await self.close()
        # The last chunk of the beginning may reach into what somebody else has claimed.
        surplus = self._position - claimed
        if surplus > 0:
            beginning[-1] = beginning[-1][: len(beginning[-1]) - surplus]
        return b"".join([*beginning, *(parts[start] for start in sorted(parts))])

    async def _part(self, start: int, end: int) -> bytes:
        async def fetch(backend: Any) -> bytes:
            reply = await self._open_at(backend, start, end, self._reply)
            try:
                body = await reply.read()
            finally:
                await reply.close()
            if len(body) > end - start:
                raise IntegrityError("the body is longer than was announced")
            if len(body) < end - start:
                raise UnavailableError("the body ended too early", retryable=True)
            return body

        return await self._executor.run(self._operation, fetch, endpoint=self._endpoint)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces; closes the stream at its end. Can be used once."""
        self._begin()
        stalls = 0
        try:
            while self._position < self.size:
                try:
                    async for chunk in self._timed(self._current.chunks()):
                        self._position += len(chunk)
                        self._check_length(self._position)
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
            await self._let_go(self._current)

    async def _let_go(self, reply: R) -> None:
        try:
            await reply.close()
        except Exception as error:  # noqa: BLE001 - a broken connection may refuse even this
            logger.debug("a reply could not be closed: %s", type(error).__name__)

    def _check_length(self, length: int) -> None:
        if length > self.size:
            raise IntegrityError("the body is longer than was announced")

    def _begin(self) -> None:
        if self._started or self.closed:
            raise InvalidArgumentError("a body can be read once; ask for it again")
        self._started = True

    async def _read_whole(self) -> bytes:
        runtime = self._endpoint.runtime
        stalls = 0
        while True:
            try:
                async with runtime.timeout(self._patience):
                    body = await self._current.read()
                self._check_length(len(body))
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
        if (
            not error.retryable
            or stalls >= policy.attempts
            or self.closed
            or not self._endpoint.budget.withdraw()
        ):
            error.retryable = False
            raise error from (caught if error is not caught else None)
        self._executor.judge(caught, error, self._endpoint)
        logger.debug(
            "%s on %s: resumes at byte %d of %d",
            self._operation.span_name,
            self._endpoint.name,
            self._position,
            self.size,
        )
        await self._let_go(self._current)
        position = self._position
        rest = await self._executor.run(
            self._operation,
            lambda backend: self._open_at(backend, position, None, self._reply),
            endpoint=self._endpoint,
        )
        await self._go_on_with(rest, error)

    async def _go_on_with(self, rest: R, error: PlatformError) -> None:
        self._current = rest
        if self.closed:
            # Somebody else closed the stream while the rest was asked for.
            await self._let_go(rest)
            raise error

    @property
    def _patience(self) -> float:
        return self._executor.timeout or self._endpoint.timeout


__all__ = ["PARALLEL_READS", "WHOLE_READ", "OpenAt", "Reply", "Stream"]
