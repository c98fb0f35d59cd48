"""A store behind the breaker that all tenants share: what opens it, and what does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cm_platform.errors import (
    DeadlineExceededError,
    NotFoundError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
)
from cm_platform.migration.guarding import Guarded, Unbroken
from cm_platform.migration.ledger import Fenced
from cm_platform.migration.persistence import persist
from cm_platform.resilience import CircuitBreaker, NotAskedError
from cm_platform.runtime import drive

from .doubles import CalmRuntime, DrivenClock


class Store:
    """Raises what it is told to; cancelled and slow where it is told so."""

    limits = "a bound"

    def __init__(self, clock: DrivenClock) -> None:
        self.clock = clock
        self.error: BaseException | None = None
        self.takes = 0.0
        self.calls = 0

    async def get(self, key: str, *, start: int = 0) -> tuple[str, int]:
        self.calls += 1
        self.clock.advance(self.takes)
        if self.error is not None:
            raise self.error
        return key, start

    async def ping(self) -> None:
        self.calls += 1

    async def close(self) -> None:
        self.calls += 1

    def translate(self, error: Exception) -> PlatformError | None:
        return UnavailableError("translated") if isinstance(error, ConnectionError) else None


class World:
    def __init__(self) -> None:
        self.clock = DrivenClock()
        self.store = Store(self.clock)
        self.breaker = CircuitBreaker(self.clock, failures=2, open_for=10)
        self.guarded: Any = Guarded(self.store, self.breaker, self.clock, name="old", patience=30.0)

    def fail(self, error: BaseException, times: int = 2) -> None:
        self.store.error = error
        # What the store can explain is raised as it explains it, and explained only once.
        kind = UnavailableError if isinstance(error, ConnectionResetError) else type(error)
        for _ in range(times):
            with pytest.raises(kind) as caught:
                drive(self.guarded.get("k"))
            assert error in (caught.value, caught.value.__cause__)
        self.store.error = None

    @property
    def is_open(self) -> bool:
        return bool(self.breaker.open_until)


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_answered_is_handed_on(world: World) -> None:
    assert drive(world.guarded.get("k", start=3)) == ("k", 3)
    assert world.guarded.limits == "a bound"
    assert not hasattr(world.guarded, "put")


@pytest.mark.parametrize(
    "error",
    [UnavailableError("x"), DeadlineExceededError("x"), ConnectionResetError(), TimeoutError()],
    ids=lambda error: type(error).__name__,
)
def test_silence_opens_it(world: World, error: Exception) -> None:
    world.fail(error)
    assert world.is_open
    with pytest.raises(NotAskedError) as caught:
        drive(world.guarded.get("k"))
    assert (caught.value.backend, caught.value.not_sent) == ("old", True)
    assert world.store.calls == 2


@pytest.mark.parametrize(
    "error",
    [NotFoundError("x"), RateLimitedError("x"), Fenced("x"), ValueError("x")],
    ids=lambda error: type(error).__name__,
)
def test_an_answer_opens_nothing_whatever_it_is(world: World, error: Exception) -> None:
    world.fail(UnavailableError("x"), times=1)
    world.fail(error, times=1)
    world.fail(UnavailableError("x"), times=1)
    assert not world.is_open


def test_who_gives_up_says_nothing_of_the_store(world: World) -> None:
    world.store.takes = 29.0
    world.fail(asyncio.CancelledError(), times=5)
    assert not world.is_open


def test_who_was_cancelled_after_long_waited_for_an_answer(world: World) -> None:
    world.store.takes = 30.0
    world.fail(asyncio.CancelledError())
    assert world.is_open


def test_a_probe_that_is_cancelled_leaves_the_next_one_to_others(world: World) -> None:
    world.fail(UnavailableError("x"))
    world.clock.advance(10)
    world.fail(asyncio.CancelledError(), times=1)
    assert drive(world.guarded.get("k")) == ("k", 0)
    assert not world.is_open


def test_it_is_looked_at_and_closed_in_any_case(world: World) -> None:
    world.fail(UnavailableError("x"))
    drive(world.guarded.ping())
    drive(world.guarded.close())
    assert world.store.calls == 4


def test_the_breaker_before_a_migration_never_opens() -> None:
    breaker = Unbroken(DrivenClock(), failures=1)
    for _ in range(5):
        breaker.failed(UnavailableError("x"))
    assert breaker.check() is False


def test_whoever_moves_data_waits_as_long_as_the_breaker_says(world: World) -> None:
    world.fail(UnavailableError("x", retryable=True))
    runtime = CalmRuntime(world.clock)
    assert drive(persist(runtime, world.guarded.get, "k")) == ("k", 0)
    assert world.clock.slept == [10.0]
