"""A reply that outlives the call: what is still to come of it, and its end."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from .errors import InvalidArgumentError, PlatformError
from .operation import Operation

if TYPE_CHECKING:
    from .executor import Endpoint, Executor

T = TypeVar("T")

logger = logging.getLogger("cm_platform.executor")


class Reply(Protocol):
    """An answered request of which more is to come."""

    async def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        ...


R = TypeVar("R", bound=Reply)

Reopen: TypeAlias = "Callable[[Any, R], Awaitable[R]]"
"""Given the backend and the first reply, opens one that brings what is still missing, or raises
when that can no longer be had. May be called several times for one failure."""


class Stream(Generic[R]):
    """A reply under way. It is used once, by `items` or by `once`; each closes it.

    Each wait for more has the deadline of the operation; what the caller does between two has
    none. What fails is classified as by `Executor.run`, and the breaker hears of it. It is final,
    unless the kind says how to `reopen`: then a retryable failure costs a new reply, as long as
    the retry budget lasts and not all attempts of the policy fail one after the other, without
    an item between them.
    """

    __slots__ = ("_current", "closed", "endpoint", "executor", "operation", "reply", "used")

    def __init__(
        self, executor: Executor, operation: Operation, endpoint: Endpoint, reply: R
    ) -> None:
        self.executor = executor
        self.operation = operation
        self.endpoint = endpoint
        """Who answered: further requests that belong to the same reply stay there."""
        self.reply = reply
        """The first answer: status and headers."""
        self.used = False
        """Whether somebody reads it already, or did."""
        self.closed = False
        self._current = reply

    async def items(
        self, iterate: Callable[[R], AsyncIterator[T]], *, reopen: Reopen[R] | None = None
    ) -> AsyncIterator[T]:
        """What comes of the reply, one by one.

        iterate: the items of a reply; asked again for each that `reopen` opens.
        """
        self._begin()
        failures = 0
        walk: AsyncIterator[T] | None = None
        try:
            while True:
                try:
                    if walk is None:
                        walk = iterate(self._current)
                    item = await self._in_time(anext(walk))
                except StopAsyncIteration:
                    return
                except Exception as caught:  # noqa: BLE001 - classified, as by the executor
                    walk = None  # a generator that failed has ended
                    failures += 1
                    await self._recover(caught, failures, reopen)
                    continue
                failures = 0
                yield item
        finally:
            try:
                # Left to the garbage collector, it would outlive its connection for a while.
                if isinstance(walk, AsyncGenerator):
                    await _quietly(walk.aclose)
            finally:
                await self.close()

    async def once(self, ask: Callable[[R], Awaitable[T]], *, reopen: Reopen[R] | None = None) -> T:
        """The one thing that is wanted of the reply.

        ask: awaits it from a reply; asked again for each that `reopen` opens.
        """
        self._begin()
        failures = 0
        try:
            while True:
                try:
                    return await self._in_time(ask(self._current))
                except Exception as caught:  # noqa: BLE001 - classified, as by the executor
                    failures += 1
                    await self._recover(caught, failures, reopen)
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of the connection; what is still to come is not waited for."""
        if not self.closed:
            self.closed = True
            await _quietly(self._current.close)

    def _begin(self) -> None:
        if self.used or self.closed:
            raise InvalidArgumentError("a reply can be read once; ask for it again")
        self.used = True

    async def _in_time(self, wait: Awaitable[T]) -> T:
        patience = self.executor.timeout or self.endpoint.timeout
        async with self.endpoint.runtime.timeout(patience):
            return await wait

    async def _recover(self, caught: Exception, failures: int, reopen: Reopen[R] | None) -> None:
        """Open another reply; raises when that is of no use."""
        endpoint = self.endpoint
        error = self.executor.classified(caught, self.operation, endpoint)
        if not self.closed:
            # A reply that somebody closed fails as well, and the backend is well.
            self.executor.judge(caught, error, endpoint)
        if (
            reopen is None
            or not error.retryable
            or failures >= endpoint.policy.attempts
            or self.closed
            or not endpoint.budget.withdraw()
        ):
            error.retryable = False
            raise error from (caught if error is not caught else None)
        logger.debug("%s on %s: opens the rest", self.operation.span_name, endpoint.name)
        await _quietly(self._current.close)
        rest = await self.executor.run(
            self.operation, lambda backend: reopen(backend, self.reply), endpoint=endpoint
        )
        await self._go_on_with(rest, error)

    async def _go_on_with(self, rest: R, error: PlatformError) -> None:
        self._current = rest
        if self.closed:
            # Somebody else closed the stream while the rest was asked for.
            await _quietly(rest.close)
            raise error


async def _quietly(close: Callable[[], Awaitable[None]]) -> None:
    try:
        await close()
    except Exception as error:  # noqa: BLE001 - a broken connection may refuse even this
        logger.debug("a reply could not be closed: %s", type(error).__name__)


__all__ = ["Reopen", "Reply", "Stream"]
