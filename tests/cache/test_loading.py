"""`get_or_set`: leases, outages, what is stale, and what each caller gets."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from cm_platform.cache.entry import Encoding, Entry, encode, scope_of
from cm_platform.cache.loading import LEASE
from cm_platform.cache.sync import Cache
from cm_platform.errors import (
    DeadlineExceededError,
    IntegrityError,
    InvalidArgumentError,
    PlatformError,
    QuotaExceededError,
    RateLimitedError,
    UnavailableError,
)

from .doubles import World, failing, world_of

LOCK = "acme/~default!l:key"


class Menu(BaseModel):
    name: str
    price: float = 1.0


def counting(made: Callable[[int], Any] = lambda n: n) -> Callable[[], Any]:
    """A factory that tells how often it was asked."""
    asked = 0

    def factory() -> Any:
        nonlocal asked
        asked += 1
        return made(asked)

    return factory


def never() -> Any:
    raise AssertionError("computed")


@pytest.fixture
def tasks() -> Iterator[World]:
    """A world of the async face: tasks show without a race what threads would race for."""
    with world_of("async") as world:
        yield world


# Leases ---------------------------------------------------------------------------------------


def test_a_lease_is_given_back(world: World, cache: Cache) -> None:
    assert cache.get_or_set("key", lambda: LOCK in world.shared.kept) is True
    assert LOCK not in world.shared.kept


@pytest.mark.parametrize("raised", [LookupError, GeneratorExit])
def test_a_lease_is_given_back_after_a_failure(
    world: World, cache: Cache, raised: type[BaseException]
) -> None:
    def fail() -> Any:
        assert LOCK in world.shared.kept
        raise raised

    with pytest.raises(raised):
        cache.get_or_set("key", fail)
    assert LOCK not in world.shared.kept


def test_what_another_process_computes_is_waited_for(world: World, cache: Cache) -> None:
    there = world.elsewhere()
    world.shared.put(LOCK, b"another", LEASE)

    def finish() -> None:
        there.set("key", "theirs")

    world.once_before("get_many", finish, skip=3)
    assert cache.get_or_set("key", never) == "theirs"


def test_who_waits_takes_over_when_the_lease_ends(world: World, cache: Cache) -> None:
    world.shared.put(LOCK, b"of a process that died", LEASE)
    begun = world.clock.now
    assert cache.get_or_set("key", counting()) == 1
    assert LEASE <= world.clock.now - begun < LEASE + 1
    assert cache.get("key") == 1


def test_who_waits_for_as_long_as_it_may_computes_for_itself(world: World, cache: Cache) -> None:
    world.shared.put(LOCK, b"another", None)
    begun = world.clock.now
    assert cache.with_timeout(3).get_or_set("key", counting()) == 1
    assert world.clock.now - begun < 4
    assert world.shared.kept[LOCK] == (b"another", None)


def test_a_lease_that_ended_meanwhile_is_not_anybody_elses(world: World, cache: Cache) -> None:
    def slow() -> int:
        world.clock.move(LEASE + 1)
        world.shared.put(LOCK, b"another", LEASE)
        return 1

    assert cache.get_or_set("key", slow, ttl=1000) == 1
    assert world.shared.get(LOCK) == b"another"


def test_what_was_kept_between_a_look_and_the_lease_is_not_computed(
    world: World, cache: Cache
) -> None:
    there = world.elsewhere()
    world.once_before("compare_and_set", lambda: there.set("key", "theirs"))
    assert cache.get_or_set("key", never) == "theirs"
    assert LOCK not in world.shared.kept


# Outages --------------------------------------------------------------------------------------


OUTAGES: list[PlatformError] = [
    UnavailableError("no", not_sent=True),
    DeadlineExceededError("no"),
    RateLimitedError("no", not_sent=True),
    QuotaExceededError("full"),
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: error.code)
@pytest.mark.parametrize(
    ("method", "skip"), [("get_many", 0), ("get_many", 1), ("get_many", 2), ("set", 0)]
)
def test_a_cache_that_fails_at_any_step_is_done_without(
    world: World, cache: Cache, error: PlatformError, method: str, skip: int
) -> None:
    world.once_before(method, failing(error), skip=skip)
    assert cache.get_or_set("key", counting(), type=int) == 1
    assert LOCK not in world.shared.kept


def test_a_cache_that_does_not_answer_is_asked_once(
    world: World, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    """Each question may take as long as an operation may."""
    asked: list[str] = []

    def silent(name: str, *_: Any) -> None:
        asked.append(name)
        raise DeadlineExceededError("no answer")

    world.here.backend.before = silent
    with caplog.at_level(logging.WARNING, "cm_platform.cache"):
        assert cache.get_or_set("key", lambda: "the-value") == "the-value"
    assert asked == ["get_many"]
    assert "deadline_exceeded" in caplog.text
    assert "the-value" not in caplog.text


def test_what_is_computed_without_the_cache_is_of_the_same_type(world: World, cache: Cache) -> None:
    world.once_before("get_many", failing(UnavailableError("no")))
    assert cache.get_or_set("key", lambda: {"name": "soup"}, type=Menu) == Menu(name="soup")
    world.once_before("get_many", failing(UnavailableError("no")))
    with pytest.raises(InvalidArgumentError):
        cache.get_or_set("key", object)


def test_a_defect_is_no_outage(world: World, cache: Cache) -> None:
    world.shared.put("acme/~default!g", b"no version", None)
    with pytest.raises(IntegrityError):
        cache.get_or_set("key", never)
    assert LOCK not in world.shared.kept


# What is cleared while it is computed -----------------------------------------------------------


def test_what_is_computed_from_before_a_clear_does_not_count(world: World, cache: Cache) -> None:
    there = world.elsewhere()
    for act in (there.clear, lambda: there.invalidate_tag("tag")):

        def factory(act: Callable[[], None] = act) -> str:
            act()
            return "before"

        assert cache.get_or_set("key", factory, tags=("tag",)) == "before"
        assert cache.get("key") is None
        assert there.get("key") is None
        assert cache.get_or_set("key", lambda: "after", tags=("tag",)) == "after"
        assert there.get("key") == "after"
        cache.delete("key")


# What is stale ----------------------------------------------------------------------------------


def refreshed(world: World, cache: Cache, expected: Any) -> None:
    """Wait until the background has kept a value."""
    world_wait(world, lambda: cache.get("key") == expected)


def world_wait(world: World, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        if world.here.is_async:
            world.here.run(asyncio.sleep(0.001))
        else:
            time.sleep(0.001)


def test_a_stale_value_is_served_and_computed_anew(world: World, cache: Cache) -> None:
    factory = counting()
    options: dict[str, Any] = {"ttl": 10, "stale": 20}
    assert cache.get_or_set("key", factory, **options) == 1
    world.clock.move(11)
    assert cache.get("key") is None
    assert cache.get_or_set("key", factory, **options) == 1
    refreshed(world, cache, 2)
    assert cache.get_or_set("key", never, **options) == 2


def test_the_background_leaves_it_to_another_process_that_computes(
    world: World, cache: Cache
) -> None:
    cache.set("key", "old", ttl=10, stale=1000)
    world.clock.move(11)
    world.shared.put(LOCK, b"another", LEASE)
    assert cache.get_or_set("key", never, ttl=10, stale=1000) == "old"
    world_wait(world, lambda: world.here.calls[-1] == "compare_and_set")
    # Who can take nothing stale waits for the other's lease to end, and gets a value.
    assert cache.get_or_set("key", lambda: "new", ttl=10) == "new"


def test_who_waits_for_a_background_that_fails_takes_what_is_stale(tasks: World) -> None:
    service: Any = tasks.cache()
    service = service.target
    world = tasks

    async def both() -> list[Any]:
        await service.set("key", "old", ttl=10, stale=1000)
        world.clock.move(11)
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def fail() -> Any:
            begun.set()
            await go_on.wait()
            raise LookupError

        options = {"ttl": 10, "stale": 5, "stale_if_error": 100}
        first = await service.get_or_set("key", fail, **options)
        await begun.wait()
        world.clock.move(10)
        second = asyncio.create_task(service.get_or_set("key", fail, **options))
        third = asyncio.create_task(service.get_or_set("key", fail, ttl=10))
        for _ in range(5):
            await asyncio.sleep(0)
        go_on.set()
        return [first, *await asyncio.gather(second, third, return_exceptions=True)]

    first, second, third = world.here.run(both())
    assert (first, second) == ("old", "old")
    assert isinstance(third, LookupError)


def test_what_is_stale_and_of_another_type_hides_no_failure(world: World, cache: Cache) -> None:
    cache.set("key", "no menu", ttl=10, stale=100)
    world.clock.move(11)

    def fail() -> Any:
        raise LookupError("the reason")

    with pytest.raises(LookupError, match="the reason"):
        cache.get_or_set("key", fail, ttl=10, stale_if_error=100, type=Menu)


def test_one_refresh_is_under_way_at_a_time(tasks: World) -> None:
    service: Any = tasks.cache()
    service = service.target
    world = tasks

    async def many() -> int:
        await service.set("key", "old", ttl=10, stale=1000)
        world.clock.move(11)
        begun = 0
        go_on = asyncio.Event()

        async def compute() -> str:
            nonlocal begun
            begun += 1
            await go_on.wait()
            return "new"

        for _ in range(100):
            assert await service.get_or_set("key", compute, ttl=10, stale=1000) == "old"
        await asyncio.sleep(0)
        under_way = len(asyncio.all_tasks()) - 1
        go_on.set()
        assert begun == 1
        return under_way

    assert world.here.run(many()) == 1
    refreshed(world, world.cache(), "new")


def test_a_refresh_that_fails_leaves_room_for_the_next(world: World, cache: Cache) -> None:
    cache.set("key", "old", ttl=10, stale=1000)
    world.clock.move(11)
    failed = 0

    def fail() -> Any:
        nonlocal failed
        failed += 1
        raise LookupError

    options: dict[str, Any] = {"ttl": 10, "stale": 1000}
    for expected in (1, 2):
        assert cache.get_or_set("key", fail, **options) == "old"
        world_wait(world, functools.partial(lambda n: failed == n, expected))
        world_wait(world, lambda: LOCK not in world.shared.kept)
    world_wait(world, lambda: cache.get_or_set("key", lambda: "new", **options) == "new")


# Values -----------------------------------------------------------------------------------------


def test_each_who_waited_has_a_value_of_its_own(tasks: World) -> None:
    service: Any = tasks.cache()
    service = service.target
    world = tasks

    async def together() -> list[Any]:
        async def compute() -> Any:
            await asyncio.sleep(0)
            return {"name": "soup", "price": 2.0}

        found: tuple[Any, ...] = await asyncio.gather(
            service.get_or_set("key", compute),
            service.get_or_set("key", compute),
            service.get_or_set("key", compute, type=Menu),
        )
        return list(found)

    first, second, third = world.here.run(together())
    assert first == second == {"name": "soup", "price": 2.0}
    assert first is not second
    assert third == Menu(name="soup", price=2.0)


def test_none_is_of_any_type(world: World, cache: Cache) -> None:
    def nothing(asked: int) -> None:
        assert asked == 1

    factory = counting(nothing)
    for _ in range(3):
        assert cache.get_or_set("key", factory, negative_ttl=5, type=Menu) is None
    world.clock.move(6)
    assert cache.get_or_set("key", lambda: Menu(name="soup"), type=Menu) == Menu(name="soup")


def test_none_that_is_not_kept_is_of_any_type(cache: Cache) -> None:
    assert cache.get_or_set("key", lambda: None, type=Menu) is None
    assert cache.get("key", "absent") == "absent"


def test_jitter_leaves_some_time(
    world: World, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.999)
    times: list[float] = []

    def before(name: str, args: Any, kwargs: Any) -> None:
        if name == "set":
            times.append(kwargs["ttl"])

    world.here.backend.before = before
    cache.get_or_set("key", lambda: 1, ttl=0.0001, jitter=0.999)
    assert times == [0.001]


@pytest.mark.parametrize(
    "left",
    [
        b"of another program",
        encode(Entry(Encoding.STR, 0, 0, 0, b"of another tenant", scope=scope_of("b/", "default"))),
    ],
)
def test_what_somebody_else_left_is_computed_anew(
    world: World, cache: Cache, caplog: pytest.LogCaptureFixture, left: bytes
) -> None:
    world.shared.put("acme/~default:key", left, None)
    with pytest.raises(IntegrityError) as caught:
        cache.get("key")
    assert "of another" not in str(caught.value)
    assert cache.get_or_set("key", lambda: "mine") == "mine"
    assert cache.get("key") == "mine"
    assert "of another" not in caplog.text


def test_an_entry_that_has_expired_is_computed_where_the_store_is_not_exact(world: World) -> None:
    world.shared.capabilities = frozenset()
    world.shared.limits = replace(world.shared.limits, min_ttl=60.0)
    cache = world.cache()
    assert cache.get_or_set("key", counting(), ttl=5) == 1
    # The store keeps it on; what stands in it ends it.
    value, _ = world.shared.kept["acme/~default:key"]
    world.shared.put("acme/~default:key", value, None)
    world.clock.move(4.9)
    assert cache.get_or_set("key", never, ttl=5) == 1
    world.clock.move(0.2)
    assert cache.get("key") is None
    assert cache.get_or_set("key", lambda: "new", ttl=5) == "new"


def test_a_damaged_value_is_computed_anew(world: World, cache: Cache) -> None:
    entry = Entry(Encoding.JSON, 0, 0, 0, b"{", scope=scope_of("acme/", "default"))
    world.shared.put("acme/~default:key", encode(entry), None)
    with pytest.raises(IntegrityError):
        cache.get("key")
    assert cache.get_or_set("key", lambda: "new") == "new"
