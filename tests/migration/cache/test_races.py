"""Who meets whom: writers, movers and counters, in neighbouring stages and across a change of
sides; and who dies on the way."""

from __future__ import annotations

import pytest

from cm_platform.errors import (
    AmbiguousError,
    DeadlineExceededError,
    PlatformError,
    UnavailableError,
)
from cm_platform.migration.cache.marks import is_coming, is_moved
from cm_platform.routing import Stage

from .conftest import Make
from .world import LATE, LEASE, Process, World, once

KEY = "~default:key"


class Died(BaseException):
    """A process that is no more."""


def die() -> None:
    raise Died


def left_behind(world: World, value: bytes | int = b"value") -> Process:
    """A process in `live`, with a value that was left on the source."""
    process = world.process()
    process.cache.set("key", value, ttl=None)
    return process.to(Stage.LIVE)


def flip(world: World, to: Stage) -> None:
    """Somebody moves the migration on, and nobody else hears of it yet."""
    world.process().to(to)


# Reading and moving ---------------------------------------------------------------------------


def test_a_delete_beats_who_brings_a_value_over(world: World) -> None:
    process = left_behind(world)
    other = world.process().learn()
    assert process.cache.get("key") == b"value"
    world.source.before("compare_and_set", once(lambda: other.cache.delete("key")))
    process.background()
    assert process.cache.get("key") is None
    assert other.cache.get("key") is None


def test_a_write_beats_who_brings_a_value_over(world: World) -> None:
    process = left_behind(world)
    other = world.process().learn()
    assert process.cache.get("key") == b"value"
    world.source.after("compare_and_set", once(lambda: other.cache.set("key", b"newer")))
    process.background()
    assert process.cache.get("key") == b"newer"
    assert other.cache.get("key") == b"newer"


@pytest.mark.parametrize(
    ("store", "when", "number"),
    [
        ("target", "before", 1),
        ("target", "after", 1),
        ("source", "after", 1),
        ("target", "before", 2),
    ],
)
def test_what_a_dead_mover_began_is_ended_by_who_asks_next(
    world: World, store: str, when: str, number: int
) -> None:
    process = left_behind(world, 7)
    assert process.cache.get("key") == 7
    watched = getattr(world, store)
    for _ in range(number - 1):
        getattr(watched, when)("compare_and_set", lambda: None)
    getattr(watched, when)("compare_and_set", die)
    with pytest.raises(Died):
        process.background()
    other = world.process().learn()
    assert other.cache.get("key") == 7
    assert other.cache.increment("key") == 8
    other.background()
    assert other.cache.get("key") == 8
    here, there = world.target.raw(KEY), world.source.raw(KEY)
    assert here is not None
    assert here.endswith(b"8")
    assert there is None or is_moved(there)


def test_a_place_that_nobody_fills_is_no_value(world: World) -> None:
    process = left_behind(world)
    assert process.cache.get("key") == b"value"
    world.target.after("compare_and_set", die)
    with pytest.raises(Died):
        process.background()
    place = world.target.raw(KEY)
    assert is_coming(place)
    world.source.lose(KEY)
    assert process.cache.get("key") is None
    process.cache.set("key", b"newer")
    assert process.cache.get("key") == b"newer"


def test_a_read_between_two_looks_finds_what_moves(world: World) -> None:
    process = left_behind(world, 7)
    other = world.process().learn()
    # After the look at the authority, before the look at the other side.
    world.target.after("get_many", once(lambda: other.cache.increment("key")))
    assert process.cache.get("key") == 8


# Across a change of sides ---------------------------------------------------------------------


def test_a_write_that_a_change_overtakes_is_made_again(world: World) -> None:
    process = world.process().to(Stage.SHADOW)
    other = world.process().learn()
    world.source.after("set", once(lambda: flip(world, Stage.LIVE)))
    process.cache.set("key", b"value", ttl=None)
    other.learn()
    assert process.cache.get("key") == b"value"
    assert other.cache.get("key") == b"value"
    assert world.target.raw(KEY) is not None
    assert is_moved(world.source.raw(KEY))


def test_a_write_of_before_does_not_come_back_when_a_newer_one_is_over(world: World) -> None:
    process = world.process().to(Stage.SHADOW)

    def overtake() -> None:
        other = world.process()
        other.to(Stage.LIVE)
        other.cache.set("key", b"newer", ttl=1)

    world.source.before("set", once(overtake))
    process.cache.set("key", b"older", ttl=None)
    # Both were under way at once; the older was made again, so it is the newer one now.
    world.clock.advance(2)
    assert process.cache.get("key") == b"older"
    process.cache.delete("key")
    assert world.process().learn().cache.get("key") is None


def test_who_still_reads_the_old_side_finds_nothing_outdated(world: World) -> None:
    stale = world.process().to(Stage.SHADOW)
    stale.cache.set("key", b"old", ttl=None)
    other = world.process().to(Stage.LIVE)
    other.cache.set("key", b"new", ttl=None)
    # It goes by what it was told, and by nothing else, for as long as that was lent.
    assert stale.cache.get("key") in (None, b"new")
    other.cache.delete("key")
    assert stale.cache.get("key") is None


def test_a_counter_is_counted_on_where_it_went(world: World) -> None:
    process = world.process()
    assert process.cache.increment("key", 5, ttl=3600) == 5
    process.to(Stage.SHADOW)
    flipped = once(lambda: flip(world, Stage.LIVE))
    world.source.before("increment", flipped)
    assert process.cache.increment("key", ttl=3600) == 6
    other = world.process().learn()
    assert other.cache.increment("key", ttl=3600) == 7
    assert process.cache.increment("key", ttl=3600) == 8
    # Who does not know of it yet comes to the same.
    for to in (Stage.RAMPDOWN, Stage.LIVE, Stage.SHADOW):
        flip(world, to)
        assert process.cache.increment("key", 0, ttl=3600) == 8
    assert process.cache.increment("key", ttl=3600) == 9
    assert other.cache.get("key") == 9


def test_who_acts_by_the_old_stage_cannot_begin_a_second_counter(world: World) -> None:
    stale = world.process().to(Stage.SHADOW)
    other = world.process().to(Stage.LIVE)
    assert other.cache.increment("key", ttl=3600) == 1
    assert stale.cache.increment("key", ttl=3600) == 2
    assert other.cache.get("key") == 2


def test_a_lock_is_held_by_one_across_a_change(world: World) -> None:
    first = world.process().to(Stage.SHADOW)
    assert first.cache.set("key", "first", only_if="absent", ttl=3600)
    second = world.process().to(Stage.LIVE)
    assert not second.cache.set("key", "second", only_if="absent", ttl=3600)
    assert not first.cache.set("key", "again", only_if="absent", ttl=3600)
    assert second.cache.get("key") == "first"
    assert second.cache.touch("key", 100)
    second.to(Stage.SHADOW)
    assert second.cache.set("key", "changed", only_if="present", ttl=3600)
    assert first.learn().cache.get("key") == "changed"


def test_a_clear_that_a_change_overtakes_clears(world: World) -> None:
    process = world.process().to(Stage.SHADOW)
    process.cache.set("key", b"value", ttl=None)
    world.source.before("compare_and_set", once(lambda: flip(world, Stage.LIVE)))
    process.cache.clear()
    assert process.cache.get("key") is None
    assert world.process().learn().cache.get("key") is None


def test_a_write_without_the_ledger_is_not_answered(world: World) -> None:
    process = world.process().to(Stage.LIVE)

    def away() -> None:
        raise UnavailableError("nobody is there", retryable=True)

    world.clock.advance(LEASE + 1)
    world.ledger.before("state", away, always=True)
    with pytest.raises(UnavailableError):
        process.cache.set("key", b"value")
    world.ledger.calm()
    # The answer ran out while it was written.
    process.learn()
    world.target.before("set", lambda: world.clock.advance(LEASE + 1))
    world.ledger.before("state", away, always=True)
    with pytest.raises(PlatformError) as caught:
        process.cache.set("key", b"value")
    assert caught.value.code in ("ambiguous", "unavailable")
    assert not caught.value.not_sent


def test_a_delete_that_the_other_side_did_not_take_is_none(world: World) -> None:
    process = left_behind(world)

    def silent() -> None:
        raise DeadlineExceededError("no answer", retryable=True)

    world.source.before("delete_many", silent)
    with pytest.raises((AmbiguousError, DeadlineExceededError)):
        process.cache.delete("key")
    assert process.cache.get("key") == b"value"
    process.cache.delete("key")
    assert process.cache.get("key") is None


def test_the_rehearsal_disturbs_nobody(world: World) -> None:
    process = world.process().to(Stage.DUALWRITE)

    def away() -> None:
        raise UnavailableError("nobody is there")

    for method in ("get_many", "set", "set_many", "compare_and_set", "delete_many", "increment"):
        world.target.before(method, away, always=True)
    process.cache.set("key", b"value")
    process.cache.delete("key")
    assert process.cache.increment("n", ttl=60) == 1
    process.cache.clear()
    process.background()
    assert process.cache.get("key") is None


def test_a_late_copy_does_not_replace_a_value(world: World) -> None:
    process = world.process().to(Stage.SHADOW)
    process.cache.set("key", 1, ttl=3600)
    waiting, process.runtime.waiting = process.runtime.waiting, []
    process.to(Stage.LIVE)
    assert process.cache.increment("key", ttl=3600) == 2
    process.runtime.waiting += waiting
    process.background()
    assert process.cache.get("key") == 2


def test_a_way_back_to_a_prompt_store_is_warm(world: World) -> None:
    process = world.process().to(Stage.LIVE)
    process.cache.set_many({"key": b"value", "n": 5}, ttl=None)
    process.to(Stage.SHADOW)
    assert process.cache.get("key") == b"value"
    assert process.cache.increment("n") == 6
    process.background()
    process.to(Stage.OFF)
    assert process.cache.get("key") == b"value"
    assert process.cache.increment("n") == 7


def test_a_way_back_from_a_late_store_is_cold_and_not_outdated(make: Make) -> None:
    world = make(target_lacks=LATE)
    process = world.process()
    process.cache.set_many({"old": b"1", "kept": b"2"}, ttl=None)
    process.to(Stage.LIVE)
    process.cache.set_many({"old": b"3", "new": b"4"}, ttl=None)
    process.to(Stage.SHADOW)
    assert process.cache.get_many(["old", "new", "kept"]) == {"kept": b"2"}
    # It is the source alone that counts: the target may be away.
    world.target.before("get_many", die, always=True)
    process.cache.set("again", b"5")
    assert process.cache.get("again") == b"5"
    world.target.calm()
    # And what it has from then does not count the next time either.
    process.to(Stage.LIVE)
    assert process.cache.get_many(["old", "new", "kept", "again"]) == {
        "kept": b"2",
        "again": b"5",
    }


def test_processes_that_were_there_find_their_values_after_a_way_back(world: World) -> None:
    process = world.process()
    process.cache.set("key", b"value", ttl=None)
    assert process.cache.increment("n", 5, ttl=3600) == 5
    process.to(Stage.LIVE)
    process.cache.clear()
    process.cache.set("key", b"newer", ttl=None)
    process.to(Stage.OFF)
    process.cache.set("other", b"value", ttl=None)
    assert process.cache.get("other") == b"value"
    assert world.process().learn().cache.get("other") == b"value"
    assert process.cache.increment("other-n", ttl=60) == 1
    assert process.cache.increment("other-n", ttl=60) == 2
