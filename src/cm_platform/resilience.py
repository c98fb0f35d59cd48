"""When to wait, when to try again and when to stop asking.

Everything here runs on an injected clock and knows neither kinds nor backends. Only failures
come here: a call that succeeds at once touches a counter and no more.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from .errors import DeadlineExceededError, PlatformError, UnavailableError
from .runtime import Clock, Runtime

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently.

    attempts: the first one included. initial, maximum: seconds; before attempt n+1 we wait a
    random time in [0, min(maximum, initial * 2**(n-1))] ("full jitter"), or what the other
    side asked for, if that is longer.
    """

    attempts: int = 4
    initial: float = 0.1
    maximum: float = 5.0


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    first: PlatformError,
    policy: RetryPolicy,
    budget: RetryBudget,
    runtime: Runtime,
    deadline: float,
    may_retry: Callable[[PlatformError], bool],
) -> T:
    """Go on after a failed first attempt: wait, attempt, and so on until one succeeds.

    first: how the first attempt failed; it counts as one of `policy.attempts`.
    deadline: on the runtime's clock; a wait that would pass it is not begun.
    may_retry: whether another attempt after this error is safe and of use.

    Raises the last error, `retryable` no more: whoever calls us must not multiply our attempts.
    """
    # Imported on the first failure: 40 ms that a process without failures never pays.
    from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

    clock = runtime.clock
    jittered = wait_random_exponential(multiplier=policy.initial, max=policy.maximum)

    def wait(state: RetryCallState) -> float:
        return max(jittered(state), _failure(state).retry_after or 0.0)

    def too_often(state: RetryCallState) -> bool:
        return state.attempt_number >= policy.attempts

    def too_late(state: RetryCallState) -> bool:
        return clock.monotonic() + state.upcoming_sleep >= deadline

    def too_costly(state: RetryCallState) -> bool:
        return not budget.withdraw()

    replayed = False

    async def again() -> T:
        nonlocal replayed
        if not replayed:
            replayed = True
            raise first
        return await attempt()

    try:
        return await AsyncRetrying(
            sleep=runtime.sleep,
            wait=wait,
            stop=lambda state: too_often(state) or too_late(state) or too_costly(state),
            retry=retry_if_exception(lambda e: isinstance(e, PlatformError) and may_retry(e)),
            reraise=True,
        )(again)
    except PlatformError as error:
        error.retryable = False
        raise


def _failure(state: RetryCallState) -> PlatformError:
    outcome = state.outcome
    error = outcome.exception() if outcome is not None else None
    if not isinstance(error, PlatformError):
        raise TypeError("only a PlatformError is retried") from error
    return error


class RetryBudget:
    """Retries as a share of calls, so that an outage does not become a storm.

    share: retries per call that a busy process may add; 0.1 bounds the amplification to 1.1.
    floor: retries that a process may make that has made no calls yet, and the most it regains
    by waiting, at `floor_rate` a second: a script that makes ten calls a day still retries.
    """

    __slots__ = ("_clock", "_floor", "_floor_rate", "_guard", "_refilled", "_share", "_tokens")

    MAXIMUM: Final = 100.0

    def __init__(
        self, clock: Clock, *, share: float = 0.1, floor: float = 10.0, floor_rate: float = 1.0
    ) -> None:
        self._clock = clock
        self._share = share
        self._floor = floor
        self._floor_rate = floor_rate
        self._tokens = floor
        self._refilled = clock.monotonic()
        self._guard = threading.Lock()

    def deposit(self) -> None:
        """A call was made. Not locked: on the hot path a lost update costs a tenth of a retry."""
        if self._tokens < self.MAXIMUM:
            self._tokens += self._share

    def withdraw(self) -> bool:
        """Whether a retry may be made now; takes it from the budget."""
        with self._guard:
            now = self._clock.monotonic()
            if self._tokens < self._floor:
                gained = (now - self._refilled) * self._floor_rate
                self._tokens = min(self._floor, self._tokens + gained)
            self._refilled = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


class NotAskedError(UnavailableError):
    """A breaker is open: the backend was not asked, and there is no use in asking again soon."""


class CircuitBreaker:
    """Stops asking a backend that does not answer.

    After `failures` attempts in a row that ended in `unavailable` or a timeout, every call fails
    at once for `open_for` seconds; then one call probes, and its outcome decides. Errors that
    one tenant can cause (credentials, conflicts, limits) count as answers.
    """

    __slots__ = (
        "_clock",
        "_failures",
        "_guard",
        "_in_a_row",
        "_open_for",
        "_probing",
        "open_until",
    )

    def __init__(self, clock: Clock, *, failures: int = 10, open_for: float = 10.0) -> None:
        self._clock = clock
        self._failures = failures
        self._open_for = open_for
        self._in_a_row = 0
        self._probing = False
        self._guard = threading.Lock()
        self.open_until = 0.0
        """On the clock; 0.0 while calls pass."""

    def check(self) -> bool:
        """Raise `unavailable` while open. When the time is up one call passes, as a probe: True."""
        if not self.open_until:
            return False
        with self._guard:
            wait = self.open_until - self._clock.monotonic()
            if self.open_until and (wait > 0 or self._probing):
                raise NotAskedError(
                    f"not asked: the last {self._in_a_row} attempts were not answered",
                    retryable=True,
                    retry_after=max(wait, 0.0),
                    not_sent=True,
                )
            self._probing = bool(self.open_until)
            return self._probing

    def succeeded(self) -> None:
        """The backend answered."""
        if self._in_a_row or self.open_until:
            with self._guard:
                self._in_a_row = 0
                self._probing = False
                self.open_until = 0.0

    def failed(self, error: PlatformError) -> None:
        """An attempt ended in this error."""
        if not isinstance(error, UnavailableError | DeadlineExceededError):
            self.succeeded()
            return
        with self._guard:
            self._in_a_row += 1
            if self._probing or self._in_a_row >= self._failures:
                self._probing = False
                self.open_until = self._clock.monotonic() + self._open_for

    def released(self) -> None:
        """The probe ended without an outcome (it was cancelled): another may be made."""
        with self._guard:
            self._probing = False


__all__ = ["CircuitBreaker", "NotAskedError", "RetryBudget", "RetryPolicy", "retrying"]
