"""What happens after a failed first attempt: retry, resolve, or say that it is not known."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from .errors import (
    AlreadyExistsError,
    AmbiguousError,
    DeadlineExceededError,
    InternalError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
)
from .operation import Operation, Outcome, Resolve
from .resilience import NotAskedError, retrying

if TYPE_CHECKING:
    from .executor import Endpoint, Executor

T = TypeVar("T")

logger = logging.getLogger("cm_platform.executor")


class Recovery(Generic[T]):
    """What happens after a failed first attempt."""

    def __init__(
        self,
        operation: Operation,
        call: Callable[[Any], Awaitable[T]],
        endpoint: Endpoint,
        resolve: Resolve | None,
        deadline: float,
        executor: Executor,
    ) -> None:
        self.operation = operation
        self.call = call
        self.endpoint = endpoint
        self.resolve = resolve
        self.deadline = deadline
        self.executor = executor
        self.attempts = 1
        self.in_doubt = False  # a write was sent, and it is not known what became of it
        self.may_land = False  # one timed out: it may be under way, whatever can be seen now

    async def after(self, error: PlatformError) -> T:
        """Retry what may be retried; resolve what is in doubt; raise what remains."""
        self._note(error)
        if self._may_retry(error):
            try:
                return await retrying(
                    self._again,
                    error,
                    self.endpoint.policy,
                    self.endpoint.budget,
                    self.endpoint.runtime,
                    self.deadline,
                    self._may_retry,
                )
            except PlatformError as last:
                error = last
        if self.in_doubt:
            return await self._settled(error)
        raise error

    async def _again(self) -> T:
        if self.in_doubt:
            # What landed need not be sent again, and must not, if it can be helped: in between,
            # others may have read it and built upon it.
            seen = await self._look()
            if not isinstance(seen, Outcome):
                return cast("T", seen)
        self.attempts += 1
        logger.debug(
            "%s on %s: attempt %d", self.operation.span_name, self.endpoint.name, self.attempts
        )
        try:
            return await self.executor.attempt(
                self.operation, self.call, self.endpoint, self.deadline
            )
        except PlatformError as error:
            self._note(error)
            raise

    async def _look(self) -> Any:
        """What became of the write, as far as it can be seen: its reply, or an Outcome."""
        if self.resolve is None or self.endpoint.runtime.clock.monotonic() >= self.deadline:
            return Outcome.UNKNOWN
        try:
            return await self.executor.attempt(
                self.operation, self.resolve.look, self.endpoint, self.deadline
            )
        except NotFoundError:
            # There being nothing does not prove that a deletion has happened: one that is still
            # under way would remove what somebody writes next, after it was said to be over.
            return Outcome.UNKNOWN if self.may_land else self.resolve.absent
        except PlatformError:
            return Outcome.UNKNOWN

    def _note(self, error: PlatformError) -> None:
        if self.operation.leaves_doubt and not error.not_sent and _unanswered(error):
            self.in_doubt = True
            self.may_land = self.may_land or isinstance(error, DeadlineExceededError)

    def _may_retry(self, error: PlatformError) -> bool:
        if (
            not error.retryable
            or self.endpoint.breaker.open_until
            or isinstance(error, NotAskedError)
        ):
            # While the breaker is open every call fails at once: waiting for it would pile up
            # callers, and let all of them go in the same moment.
            return False
        if error.not_sent or not self.operation.leaves_doubt:
            return True
        # A write that timed out may still be under way: a second one could land before it, and
        # the first would then overwrite whatever came after both.
        return self.operation.idempotent and not isinstance(error, DeadlineExceededError)

    async def _settled(self, error: PlatformError) -> T:
        """The outcome of a write in doubt: its reply after all, the error, or `ambiguous`."""
        outcome = await self._look()
        if not isinstance(outcome, Outcome):
            return cast("T", outcome)
        if outcome is Outcome.NOT_LANDED and isinstance(
            error, AlreadyExistsError | PreconditionFailedError
        ):
            raise error
        ambiguous = AmbiguousError(
            "the request was sent and not answered; it may or may not have taken effect, and may "
            "do so for a while. Read before you write again",
        )
        raise self.executor.placed(ambiguous, self.operation, self.endpoint) from error


def _unanswered(error: PlatformError) -> bool:
    return isinstance(error, UnavailableError | DeadlineExceededError | InternalError)


__all__ = ["Recovery"]
