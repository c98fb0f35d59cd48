"""Waiting, trying again, and stopping: on a clock that moves only when it is slept on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from cm_platform.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
)
from cm_platform.resilience import CircuitBreaker, RetryBudget, RetryPolicy, retrying

from .doubles import READ, Caller, Face, FakeClock, LostError

NEVER = 1e9


class Attempts:
    """Fails so many times, then answers."""

    def __init__(self, failures: int, error: PlatformError | None = None) -> None:
        self.left = failures
        self.made = 0
        self.error = error

    async def __call__(self) -> str:
        self.made += 1
        if self.left > 0:
            self.left -= 1
            raise self.error or UnavailableError(f"attempt {self.made}", retryable=True)
        return "answer"


def retried(
    face: Face,
    clock: FakeClock,
    attempts: Attempts,
    *,
    first: PlatformError | None = None,
    policy: RetryPolicy | None = None,
    budget: RetryBudget | None = None,
    deadline: float = NEVER,
) -> str:
    return face.run(
        retrying(
            attempts,
            first or UnavailableError("attempt 0", retryable=True),
            policy or RetryPolicy(),
            budget or RetryBudget(clock, floor=1000),
            face.runtime(clock),
            deadline,
            lambda error: error.retryable,
        )
    )


def test_the_first_success_ends_it(face: Face, clock: FakeClock) -> None:
    attempts = Attempts(1)
    assert retried(face, clock, attempts) == "answer"
    assert (attempts.made, len(clock.slept)) == (2, 2)


def test_the_first_attempt_is_one_of_the_policys(face: Face, clock: FakeClock) -> None:
    attempts = Attempts(100)
    with pytest.raises(UnavailableError, match="attempt 3") as caught:
        retried(face, clock, attempts, policy=RetryPolicy(attempts=4))
    assert attempts.made == 3
    assert not caught.value.retryable


def test_a_policy_of_one_attempt_makes_no_other(face: Face, clock: FakeClock) -> None:
    attempts = Attempts(0)
    with pytest.raises(UnavailableError, match="attempt 0"):
        retried(face, clock, attempts, policy=RetryPolicy(attempts=1))
    assert (attempts.made, clock.slept) == (0, [])


def test_the_wait_is_anything_from_nothing_to_the_exponential_bound(clock: FakeClock) -> None:
    policy = RetryPolicy(attempts=6, initial=0.5, maximum=3.0)
    waits: list[list[float]] = []
    for _ in range(300):
        clock.slept.clear()
        with pytest.raises(UnavailableError):
            retried(Face(False), clock, Attempts(100), policy=policy)
        waits.append(list(clock.slept))
    for number, bound in enumerate((0.5, 1.0, 2.0, 3.0, 3.0)):
        seen = [wait[number] for wait in waits]
        assert 0 <= min(seen) < bound * 0.1
        assert bound * 0.9 < max(seen) <= bound


def test_what_the_other_side_asks_for_is_waited(face: Face, clock: FakeClock) -> None:
    slow = RateLimitedError("slow down", retryable=True, retry_after=17.0)
    assert retried(face, clock, Attempts(1, slow), first=slow) == "answer"
    assert clock.slept == [17.0, 17.0]


def test_a_short_retry_after_does_not_shorten_the_wait(clock: FakeClock) -> None:
    slow = RateLimitedError("slow down", retryable=True, retry_after=1e-9)
    policy = RetryPolicy(attempts=2, initial=5.0, maximum=5.0)
    for _ in range(50):
        retried(Face(False), clock, Attempts(0), first=slow, policy=policy)
    assert max(clock.slept) > 1.0


def test_a_wait_that_would_pass_the_deadline_is_not_begun(face: Face, clock: FakeClock) -> None:
    slow = RateLimitedError("slow down", retryable=True, retry_after=10.0)
    attempts = Attempts(100, slow)
    with pytest.raises(RateLimitedError):
        retried(face, clock, attempts, first=slow, deadline=clock.now + 25.0)
    assert clock.slept == [10.0, 10.0]
    attempts = Attempts(0)
    with pytest.raises(RateLimitedError):
        retried(face, clock, attempts, first=slow, deadline=clock.now + 10.0)
    assert attempts.made == 0


def test_what_must_not_be_retried_ends_it(face: Face, clock: FakeClock) -> None:
    gone = NotFoundError("gone")
    attempts = Attempts(100, gone)
    with pytest.raises(NotFoundError) as caught:
        retried(face, clock, attempts)
    assert caught.value is gone
    assert attempts.made == 1


def test_a_foreign_exception_passes_untouched(face: Face, clock: FakeClock) -> None:
    error = KeyError("x")

    async def attempt() -> str:
        raise error

    with pytest.raises(KeyError) as caught:
        retried(face, clock, attempt)  # type: ignore[arg-type]
    assert caught.value is error


# The budget -------------------------------------------------------------------------------


def test_an_exhausted_budget_stops_the_retries(face: Face, clock: FakeClock) -> None:
    budget = RetryBudget(clock, floor=2, floor_rate=0)
    attempts = Attempts(100)
    with pytest.raises(UnavailableError) as caught:
        retried(face, clock, attempts, budget=budget, policy=RetryPolicy(attempts=20))
    assert attempts.made == 2
    assert not caught.value.retryable


def test_calls_earn_a_share_of_a_retry_up_to_a_bound(clock: FakeClock) -> None:
    budget = RetryBudget(clock, share=0.1, floor=0, floor_rate=0)
    for _ in range(9):
        budget.deposit()
    assert not budget.withdraw()
    for _ in range(2):
        budget.deposit()
    assert budget.withdraw()
    assert not budget.withdraw()
    for _ in range(100_000):
        budget.deposit()
    granted = sum(budget.withdraw() for _ in range(1000))
    assert granted == RetryBudget.MAXIMUM


def test_time_refills_the_floor_and_no_more(clock: FakeClock) -> None:
    budget = RetryBudget(clock, floor=3, floor_rate=1.0)
    assert [budget.withdraw() for _ in range(4)] == [True, True, True, False]
    clock.now += 2.0
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]
    clock.now += 1e6
    assert [budget.withdraw() for _ in range(4)] == [True, True, True, False]


def test_a_script_that_makes_ten_calls_a_day_retries_each_of_them(clock: FakeClock) -> None:
    budget = RetryBudget(clock)
    for _ in range(30):
        assert retried(Face(False), clock, Attempts(2), budget=budget) == "answer"
        clock.now += 8640.0


def test_withdrawals_of_many_threads_never_exceed_the_budget(clock: FakeClock) -> None:
    budget = RetryBudget(clock, floor=50, floor_rate=0)
    with ThreadPoolExecutor(16) as pool:
        granted = sum(pool.map(lambda _: budget.withdraw(), range(2000)))
    assert granted == 50


@pytest.mark.parametrize("breaks", [False, True], ids=["all-fail", "one-in-three-fails"])
def test_an_outage_does_not_become_a_storm(breaks: bool) -> None:
    calls = 10_000
    made = 0

    def flaky() -> str:
        nonlocal made
        made += 1
        if breaks and made % 3:
            return "answer"
        raise LostError

    # A breaker that never opens: the budget alone must hold.
    caller = Caller(Face(False), flaky, breaker=CircuitBreaker(FakeClock(), failures=1_000_000_000))
    began = caller.clock.now
    for _ in range(calls):
        caller.clock.now += 0.01
        with suppress(UnavailableError):
            caller.run(READ)
    regained = caller.clock.now - began
    assert caller.backend.calls <= calls * 1.1 + 10 + regained
    assert caller.backend.calls <= calls * 1.2


# The breaker ------------------------------------------------------------------------------

LOST = UnavailableError("lost")


def is_open(breaker: CircuitBreaker) -> bool:
    try:
        breaker.check()
    except UnavailableError:
        return True
    return False


def opened(clock: FakeClock, failures: int = 3) -> CircuitBreaker:
    breaker = CircuitBreaker(clock, failures=failures, open_for=10.0)
    for _ in range(failures):
        breaker.check()
        breaker.failed(LOST)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row(clock: FakeClock) -> None:
    breaker = CircuitBreaker(clock, failures=3)
    for error in (LOST, DeadlineExceededError("late")):
        breaker.failed(error)
        assert not is_open(breaker)
    breaker.failed(LOST)
    assert is_open(breaker)


def test_an_answer_in_between_starts_the_count_anew(clock: FakeClock) -> None:
    breaker = CircuitBreaker(clock, failures=3)
    for _ in range(10):
        breaker.failed(LOST)
        breaker.failed(LOST)
        breaker.succeeded()
    assert not is_open(breaker)


@pytest.mark.parametrize(
    "error",
    [
        PermissionDeniedError("m"),
        NotFoundError("m"),
        RateLimitedError("m", retryable=True),
        InvalidArgumentError("m"),
    ],
    ids=lambda error: error.code,
)
def test_what_one_tenant_can_cause_counts_as_an_answer(
    clock: FakeClock, error: PlatformError
) -> None:
    breaker = CircuitBreaker(clock, failures=3)
    for _ in range(10):
        breaker.failed(LOST)
        breaker.failed(LOST)
        breaker.failed(error)
    assert not is_open(breaker)


def test_open_it_refuses_and_says_until_when(clock: FakeClock) -> None:
    breaker = opened(clock)
    clock.now += 4.0
    with pytest.raises(UnavailableError, match="the last 3 attempts were not answered") as caught:
        breaker.check()
    assert (caught.value.retryable, caught.value.not_sent) == (True, True)
    assert caught.value.retry_after == pytest.approx(6.0)


def test_when_the_time_is_up_one_call_probes(clock: FakeClock) -> None:
    breaker = opened(clock)
    clock.now += 10.0
    assert [is_open(breaker) for _ in range(3)] == [False, True, True]


def test_of_many_threads_one_probes(clock: FakeClock) -> None:
    for _ in range(20):
        breaker = opened(clock)
        clock.now += 10.0
        together = threading.Barrier(8)

        def passes(breaker: CircuitBreaker = breaker, wait: Any = together.wait) -> bool:
            wait(10)
            return not is_open(breaker)

        with ThreadPoolExecutor(8) as pool:
            probes = [pool.submit(passes) for _ in range(8)]
        assert sum(probe.result() for probe in probes) == 1


def test_a_probe_that_is_answered_closes_it(clock: FakeClock) -> None:
    breaker = opened(clock)
    clock.now += 10.0
    breaker.check()
    breaker.succeeded()
    assert [is_open(breaker) for _ in range(3)] == [False] * 3
    breaker.failed(LOST)
    assert not is_open(breaker)


def test_a_probe_that_fails_opens_it_for_as_long_again(clock: FakeClock) -> None:
    breaker = opened(clock)
    clock.now += 10.0
    breaker.check()
    breaker.failed(LOST)
    clock.now += 9.9
    assert is_open(breaker)
    clock.now += 0.1
    assert not is_open(breaker)


def test_a_probe_that_a_tenants_error_ends_closes_it(clock: FakeClock) -> None:
    breaker = opened(clock)
    clock.now += 10.0
    breaker.check()
    breaker.failed(PermissionDeniedError("m"))
    assert not is_open(breaker)


def test_a_probe_that_was_cancelled_lets_another_be_made(clock: FakeClock) -> None:
    breaker = opened(clock)
    clock.now += 10.0
    breaker.check()
    assert is_open(breaker)
    breaker.released()
    assert [is_open(breaker) for _ in range(2)] == [False, True]


def test_release_while_closed_changes_nothing(clock: FakeClock) -> None:
    breaker = CircuitBreaker(clock, failures=2)
    breaker.failed(LOST)
    breaker.released()
    breaker.failed(LOST)
    assert is_open(breaker)
