"""The path of a call: refused early, made once, retried when safe, and its errors placed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cm_platform.errors import (
    DeadlineExceededError,
    InternalError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
    UnavailableError,
    UnsupportedError,
)
from cm_platform.executor import Executor
from cm_platform.operation import Operation
from cm_platform.resilience import CircuitBreaker, RetryPolicy

from .doubles import (
    ONCE,
    READ,
    WRITE,
    Caller,
    Face,
    FakeClock,
    ForbiddenError,
    LostError,
    RefusedError,
    ScriptedBackend,
    StrangeError,
    until,
)

PATIENCE = 10.0


def test_a_call_that_succeeds_is_made_once(face: Face) -> None:
    caller = Caller(face, "answer")
    assert caller.run() == "answer"
    assert (caller.backend.calls, caller.clock.slept) == (1, [])


@pytest.mark.parametrize(
    ("operation", "requires"),
    [(Operation("storage", "x", "read", requires="flying"), None), (READ, "flying")],
    ids=["by-operation", "by-arguments"],
)
def test_what_the_backend_lacks_is_refused_before_the_call(
    face: Face, operation: Operation, requires: str | None
) -> None:
    caller = Caller(face, "answer")
    with pytest.raises(UnsupportedError, match="lacks the capability 'flying'") as caught:
        caller.run(operation, requires=requires)
    assert caller.backend.calls == 0
    assert caught.value.not_sent
    assert str(caught.value).startswith(f"storage.{operation.name} on scripted: ")


def test_an_open_breaker_does_not_hide_that_something_is_unsupported(face: Face) -> None:
    caller = Caller(face, LostError(), breaker=CircuitBreaker(FakeClock(), failures=1))
    with pytest.raises(UnavailableError):
        caller.run()
    with pytest.raises(UnsupportedError):
        caller.run(READ, requires="flying")


def test_what_the_backend_has_is_called(face: Face) -> None:
    assert Caller(face, "answer").run(READ, requires="presign") == "answer"


def test_a_handle_that_is_held_follows_the_route(face: Face) -> None:
    caller = Caller(face, "old")
    new = face.endpoint(ScriptedBackend("new"), caller.clock, name="other")
    assert caller.run() == "old"
    caller.route.endpoint, caller.route.next = None, new
    assert [caller.run(), caller.run()] == ["new", "new"]
    assert caller.route.refreshed == 1


def test_a_call_that_was_pinned_does_not_follow_the_route(face: Face) -> None:
    caller = Caller(face, "old")
    caller.route.endpoint = face.endpoint(ScriptedBackend("new"), caller.clock)
    assert caller.run(READ, endpoint=caller.endpoint) == "old"
    assert caller.run() == "new"


# Retries ----------------------------------------------------------------------------------


def test_a_read_is_retried(face: Face) -> None:
    caller = Caller(face, LostError(), RefusedError(), "answer")
    assert caller.run(READ) == "answer"
    assert caller.backend.calls == 3


@pytest.mark.parametrize("operation", [READ, WRITE, ONCE], ids=lambda o: o.name)
def test_what_was_not_sent_is_retried_whatever_it_is(face: Face, operation: Operation) -> None:
    caller = Caller(face, RefusedError(), RefusedError(), "answer")
    assert caller.run(operation) == "answer"


def test_an_answer_is_not_retried(face: Face) -> None:
    caller = Caller(face, ForbiddenError())
    with pytest.raises(PermissionDeniedError):
        caller.run()
    assert caller.backend.calls == 1


def test_after_the_last_attempt_an_error_is_no_longer_retryable(face: Face) -> None:
    caller = Caller(face, LostError(), policy=RetryPolicy(attempts=3))
    with pytest.raises(UnavailableError) as caught:
        caller.run()
    assert caller.backend.calls == 3
    assert not caught.value.retryable


def test_no_retry_is_begun_that_would_pass_the_deadline(face: Face) -> None:
    asks = UnavailableError("busy", retryable=True, retry_after=30.0)
    caller = Caller(face, asks, timeout=50.0)
    began = caller.clock.now
    with pytest.raises(UnavailableError):
        caller.run()
    assert (caller.backend.calls, caller.clock.now - began) == (2, 30.0)


def test_with_timeout_sets_another_deadline_for_the_whole(face: Face) -> None:
    asks = UnavailableError("busy", retryable=True, retry_after=30.0)
    caller = Caller(face, asks, timeout=500.0)
    caller.executor = caller.executor.with_timeout(20.0)
    with pytest.raises(UnavailableError):
        caller.run()
    assert caller.clock.slept == []


# The breaker ------------------------------------------------------------------------------


def breaking(face: Face, *steps: Any, failures: int = 3, **options: Any) -> Caller:
    caller = Caller(face, *steps, policy=RetryPolicy(attempts=1), **options)
    caller.endpoint.breaker = CircuitBreaker(caller.clock, failures=failures, open_for=10.0)
    return caller


def fail(caller: Caller, times: int) -> None:
    for _ in range(times):
        with pytest.raises(PlatformError):
            caller.run()


def test_a_backend_that_does_not_answer_is_not_asked_for_a_while(face: Face) -> None:
    caller = breaking(face, LostError())
    fail(caller, 5)
    assert caller.backend.calls == 3


def test_while_it_is_open_every_call_fails_at_once(face: Face) -> None:
    caller = breaking(face, LostError())
    fail(caller, 3)
    caller.endpoint.policy = RetryPolicy(attempts=4)
    began = caller.clock.now
    with pytest.raises(UnavailableError, match="not asked") as caught:
        caller.run()
    assert caller.clock.now == began
    # Nothing was attempted, so that whoever called may come back.
    assert (caught.value.retryable, caught.value.retry_after) == (True, 10.0)
    assert str(caught.value).startswith("storage.get on scripted: ")


def test_retries_end_when_it_opens(face: Face) -> None:
    caller = breaking(face, LostError(), failures=2)
    caller.endpoint.policy = RetryPolicy(attempts=9)
    with pytest.raises(UnavailableError, match="the connection was lost"):
        caller.run()
    assert caller.backend.calls == 2


def test_a_probe_that_is_answered_opens_the_way(face: Face) -> None:
    caller = breaking(face, LostError(), LostError(), LostError(), "answer")
    fail(caller, 3)
    caller.clock.now += 10.0
    assert [caller.run(), caller.run()] == ["answer", "answer"]


def test_a_cancelled_probe_lets_another_be_made() -> None:
    async def hangs() -> None:
        await asyncio.sleep(60)

    caller = breaking(Face(True), LostError(), LostError(), LostError(), hangs, "answer")
    fail(caller, 3)
    caller.clock.now += 10.0

    async def cancelled() -> None:
        task = asyncio.create_task(caller.executor.run(READ, lambda backend: backend.call()))
        await until(lambda: caller.backend.calls == 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert caller.run() == "answer"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_probe_lets_another_be_made(interruption: type[BaseException]) -> None:
    face = Face(False)
    caller = breaking(face, LostError(), LostError(), LostError(), interruption(), "answer")
    fail(caller, 3)
    caller.clock.now += 10.0
    with pytest.raises(interruption):
        caller.run()
    assert caller.run() == "answer"


def test_a_backend_that_cannot_classify_does_not_leave_its_probe_for_ever(face: Face) -> None:
    caller = breaking(face, LostError(), LostError(), LostError(), StrangeError(), "answer")
    fail(caller, 3)
    caller.clock.now += 10.0

    def broken(error: Exception) -> None:
        raise ZeroDivisionError

    caller.endpoint.translate = broken
    with pytest.raises(InternalError, match="the backend raised StrangeError") as caught:
        caller.run()
    assert isinstance(caught.value.__cause__, StrangeError)
    assert caller.run() == "answer"


def hanging() -> Any:
    return asyncio.sleep(60)


def test_a_deadline_interrupts_async_code() -> None:
    caller = Caller(Face(True), hanging, timeout=0.01)
    with pytest.raises(DeadlineExceededError, match="no answer before the deadline") as caught:
        caller.run()
    assert isinstance(caught.value, TimeoutError)
    assert str(caught.value).startswith("storage.get on scripted: ")


def test_a_callers_own_short_deadline_does_not_trip_the_breaker() -> None:
    caller = breaking(Face(True), hanging, timeout=60.0)
    caller.executor = caller.executor.with_timeout(0.005)
    fail(caller, 5)
    assert caller.backend.calls == 5


def test_the_configured_deadline_trips_it() -> None:
    caller = breaking(Face(True), hanging, timeout=0.005)
    fail(caller, 5)
    assert caller.backend.calls == 3


def test_a_longer_deadline_of_the_callers_does_not_save_a_backend_that_hangs() -> None:
    caller = breaking(Face(True), hanging, timeout=0.005)
    caller.executor = caller.executor.with_timeout(0.01)
    fail(caller, 5)
    assert caller.backend.calls == 3


def test_a_timeout_of_the_backends_own_trips_it_whatever_the_caller_wants(face: Face) -> None:
    caller = breaking(face, DeadlineExceededError("the socket's", retryable=True))
    caller.executor = caller.executor.with_timeout(5.0)
    fail(caller, 5)
    assert caller.backend.calls == 3


def test_one_tenants_credentials_trip_nothing(face: Face) -> None:
    caller = breaking(face, ForbiddenError())
    fail(caller, 20)
    assert caller.backend.calls == 20


# Errors -----------------------------------------------------------------------------------


def test_an_error_is_placed_and_its_cause_chained(face: Face) -> None:
    cause = ForbiddenError("CANARY")
    with pytest.raises(PermissionDeniedError) as caught:
        Caller(face, cause).run(WRITE)
    error = caught.value
    assert (error.service, error.operation, error.backend) == ("storage", "put", "scripted")
    assert error.__cause__ is cause
    assert "CANARY" not in str(error)


def test_an_error_that_is_placed_already_stays_where_it_is(face: Face) -> None:
    inner = NotFoundError("gone", service="cache", operation="touch", backend="redis")
    with pytest.raises(NotFoundError) as caught:
        Caller(face, inner).run()
    assert caught.value is inner
    assert str(inner) == "cache.touch on redis: gone"


def test_a_backends_own_error_keeps_its_cause(face: Face) -> None:
    cause = OSError("socket")
    error = NotFoundError("gone")
    error.__cause__ = cause
    with pytest.raises(NotFoundError) as caught:
        Caller(face, error).run()
    assert caught.value.__cause__ is cause


def test_what_the_backend_does_not_know_becomes_internal(face: Face) -> None:
    cause = StrangeError("CANARY")
    with pytest.raises(InternalError, match="the backend raised StrangeError") as caught:
        Caller(face, cause).run()
    assert caught.value.__cause__ is cause
    assert not caught.value.retryable
    assert "CANARY" not in str(caught.value)


def test_a_cancellation_passes_untouched() -> None:
    error = asyncio.CancelledError("mine")
    caller = Caller(Face(True), error)

    async def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            await caller.executor.run(READ, lambda backend: backend.call())

    asyncio.run(run())
    assert caller.backend.calls == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["ctrl-c", "exit"])
def test_an_interruption_passes_untouched(error: BaseException) -> None:
    caller = Caller(Face(False), error)
    with pytest.raises(type(error)) as caught:
        caller.run()
    assert caught.value is error
    assert caller.backend.calls == 1


def test_an_executor_knows_who_serves(face: Face) -> None:
    caller = Caller(face, "answer")
    executor: Executor = caller.executor
    assert face.run(executor.endpoint()) is caller.endpoint
