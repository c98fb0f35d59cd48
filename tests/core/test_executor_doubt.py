"""Writes that were not answered: found out, or said to be ambiguous; never guessed."""

from __future__ import annotations

import asyncio

import pytest

from cm_platform.errors import (
    AlreadyExistsError,
    AmbiguousError,
    DeadlineExceededError,
    PermissionDeniedError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.operation import NOT_LANDED, UNKNOWN
from cm_platform.resilience import RetryPolicy

from .doubles import (
    ONCE,
    READ,
    WRITE,
    Caller,
    Face,
    ForbiddenError,
    LostError,
    RefusedError,
    resolving,
    until,
)

LATE = DeadlineExceededError("the socket's timeout", retryable=True)
CONFLICTS = [AlreadyExistsError, PreconditionFailedError]


def test_an_idempotent_write_whose_reply_was_lost_is_sent_again(face: Face) -> None:
    caller = Caller(face, LostError(), "answer")
    assert caller.run(WRITE) == "answer"
    assert caller.backend.calls == 2


def test_a_write_that_is_not_idempotent_is_never_sent_twice(face: Face) -> None:
    caller = Caller(face, LostError(), "answer")
    with pytest.raises(AmbiguousError) as caught:
        caller.run(ONCE)
    assert caller.backend.calls == 1
    assert isinstance(caught.value.__cause__, UnavailableError)
    assert str(caught.value).startswith("storage.append on scripted: ")
    assert not caught.value.retryable


@pytest.mark.parametrize("operation", [WRITE, ONCE], ids=lambda o: o.name)
def test_a_write_that_timed_out_is_not_sent_again(face: Face, operation: object) -> None:
    caller = Caller(face, LATE, "answer")
    with pytest.raises(AmbiguousError):
        caller.run(operation)  # type: ignore[arg-type]
    assert caller.backend.calls == 1


def test_a_write_that_timed_out_is_looked_for(face: Face) -> None:
    caller = Caller(face, LATE, "answer")
    assert caller.run(WRITE, resolve=resolving("found")) == "found"
    assert caller.backend.calls == 1


def test_a_read_that_timed_out_is_made_again(face: Face) -> None:
    assert Caller(face, LATE, "answer").run(READ) == "answer"


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_lost_reply_of_a_conditional_write_is_no_conflict(
    face: Face, conflict: type[PlatformError]
) -> None:
    # The first attempt landed; the second met what the first had written.
    caller = Caller(face, LostError(), conflict("somebody was here"))
    assert caller.run(WRITE, resolve=resolving("mine")) == "mine"


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_conflict_after_a_lost_request_is_the_true_one_if_it_did_not_land(
    face: Face, conflict: type[PlatformError]
) -> None:
    error = conflict("somebody was here")
    caller = Caller(face, LostError(), error)
    with pytest.raises(conflict) as caught:
        caller.run(WRITE, resolve=resolving(NOT_LANDED))
    assert caught.value is error


@pytest.mark.parametrize("conflict", CONFLICTS)
@pytest.mark.parametrize(
    "found", [UNKNOWN, LostError(), ForbiddenError()], ids=["unknown", "lost", "forbidden"]
)
def test_a_conflict_that_may_be_our_own_doing_is_ambiguous(
    face: Face, conflict: type[PlatformError], found: object
) -> None:
    caller = Caller(face, LostError(), conflict("somebody was here"))
    with pytest.raises(AmbiguousError) as caught:
        caller.run(WRITE, resolve=resolving(found))
    assert isinstance(caught.value.__cause__, conflict)


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_conflict_without_doubt_is_raised_without_a_look(
    face: Face, conflict: type[PlatformError]
) -> None:
    caller = Caller(face, RefusedError(), conflict("somebody was here"))
    with pytest.raises(conflict):
        caller.run(WRITE, resolve=resolving("must not be asked"))


def test_what_has_not_landed_may_still_land(face: Face) -> None:
    caller = Caller(face, LATE)
    with pytest.raises(AmbiguousError, match="may or may not have taken effect"):
        caller.run(WRITE, resolve=resolving(NOT_LANDED))


def test_doubt_of_an_early_attempt_is_not_forgotten(face: Face) -> None:
    caller = Caller(face, LostError(), ForbiddenError())
    with pytest.raises(AmbiguousError) as caught:
        caller.run(WRITE)
    assert isinstance(caught.value.__cause__, PermissionDeniedError)


def test_without_doubt_the_error_itself_is_raised(face: Face) -> None:
    caller = Caller(face, RefusedError(), policy=RetryPolicy(attempts=2))
    with pytest.raises(UnavailableError) as caught:
        caller.run(WRITE, resolve=resolving("must not be asked"))
    assert not caught.value.retryable


def test_a_read_is_never_ambiguous(face: Face) -> None:
    with pytest.raises(UnavailableError):
        Caller(face, LostError()).run(READ)


def test_nobody_looks_after_the_deadline(face: Face) -> None:
    caller = Caller(face, LostError(), timeout=5.0)
    caller.backend.steps = [lambda: _late(caller)]
    with pytest.raises(AmbiguousError):
        caller.run(WRITE, resolve=resolving("too late"))


def _late(caller: Caller) -> None:
    caller.clock.now += 10.0
    raise LostError


def test_a_write_that_the_deadline_cut_off_is_ambiguous() -> None:
    caller = Caller(Face(True), lambda: asyncio.sleep(60), timeout=0.01)
    with pytest.raises(AmbiguousError) as caught:
        caller.run(WRITE)
    assert isinstance(caught.value.__cause__, DeadlineExceededError)
    assert caller.backend.calls == 1


def test_a_cancelled_write_is_a_cancellation_and_nothing_else() -> None:
    caller = Caller(Face(True), lambda: asyncio.sleep(60))

    async def run() -> None:
        task = asyncio.create_task(
            caller.executor.run(
                WRITE, lambda backend: backend.call(), resolve=resolving("must not be asked")
            )
        )
        await until(lambda: caller.backend.calls == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert caller.backend.calls == 1
