"""What was left on the other side when a stage is entered that does not ask it: it must not come
back to who has not heard of the stage, and a counter must not begin anew."""

from __future__ import annotations

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.migration.cache.marks import LONGEST
from cm_platform.routing import Stage
from cm_platform.runtime import drive

from .conftest import Make
from .test_races import Died, die
from .world import LATE, LEASE, SOAK, Process, World

KEY = "~default:key"


def rolled_back(process: Process, to: Stage = Stage.OFF) -> None:
    """Back in one go, without a moment's rest."""
    drive(process.migration.rollback(to))


def on_target(world: World, key: str = "key", value: bytes | int = b"value") -> Process:
    """A process in `live`, with a value that it has written there."""
    process = world.process().to(Stage.LIVE)
    process.cache.set(key, value, ttl=None)
    return process


@pytest.mark.parametrize("how", ["delete", "clear", "set"])
def test_what_is_ended_in_off_is_ended_for_who_still_reads_by_shadow(
    world: World, how: str
) -> None:
    process = on_target(world)
    stale = world.process()
    rolled_back(process, Stage.SHADOW)
    stale.learn()
    assert stale.cache.get("key") == b"value"
    rolled_back(process)
    other = world.process()
    if how == "delete":
        other.cache.delete("key")
    elif how == "clear":
        other.cache.clear()
    else:
        other.cache.set("key", b"newer", ttl=1)
        world.clock.advance(1.5)
    assert stale.cache.get("key") is None
    stale.background()
    stale.learn()
    assert stale.cache.get("key") is None
    assert other.cache.get("key") is None


def test_what_is_deleted_when_complete_is_deleted_for_who_still_reads_by_live(make: Make) -> None:
    world = make(soak=0.0)
    process = world.process()
    process.cache.set("key", b"value", ttl=None)
    process.to(Stage.LIVE)
    drive(process.migration.verify())
    stale = world.process().learn()
    drive(process.migration.advance(Stage.RAMPDOWN))
    drive(process.migration.advance(Stage.COMPLETE))
    other = world.process()
    other.cache.delete("key")
    assert stale.cache.get("key") is None
    stale.background()
    assert other.cache.get("key") is None


def test_what_is_deleted_after_a_new_beginning_is_deleted_for_who_still_reads_by_shadow(
    world: World,
) -> None:
    process = on_target(world)
    rolled_back(process, Stage.SHADOW)
    stale = world.process().learn()
    rolled_back(process)
    drive(process.migration.advance(Stage.DUALWRITE))
    world.process().cache.delete("key")
    assert stale.cache.get("key") is None


@pytest.mark.parametrize("to", [Stage.DUALWRITE, Stage.OFF])
def test_a_counter_goes_on_after_a_way_back_in_one_go(world: World, to: Stage) -> None:
    process = world.process().to(Stage.LIVE)
    assert process.cache.increment("key", 5, ttl=600) == 5
    rolled_back(process, to)
    process.learn()
    fresh = world.process()
    assert fresh.cache.get("key") == 5
    assert fresh.cache.increment("key", ttl=600) == 6
    assert process.cache.increment("key", ttl=600) == 7
    process.background()
    assert fresh.cache.get("key") == 7


def test_a_counter_that_nobody_touched_is_read_in_rampdown(world: World) -> None:
    process = world.process()
    assert process.cache.increment("key", 5, ttl=SOAK) == 5
    process.to(Stage.RAMPDOWN)
    assert process.cache.get("key") == 5
    assert world.process().cache.increment("key", ttl=SOAK) == 6


def test_what_is_off_again_asks_nobody_else_in_the_end(world: World) -> None:
    process = on_target(world)
    assert process.cache.increment("n", ttl=600) == 1
    rolled_back(process)
    process.learn()
    world.clock.advance(3600 + 2 * process.migration.terms.settling + 60)
    process.cache.set("other", b"1")
    world.target.calls.clear()
    process.cache.set("other", b"2")
    assert process.cache.get("other") == b"2"
    process.cache.delete("other")
    assert process.cache.increment("other", ttl=60) == 1
    process.background()
    assert not world.target.calls


def test_what_is_complete_asks_nobody_else_in_the_end(world: World) -> None:
    process = world.process().to(Stage.COMPLETE)
    world.clock.advance(process.migration.terms.settling)
    world.source.calls.clear()
    process.cache.set("key", b"1")
    assert process.cache.get("key") == b"1"
    process.cache.delete("key")
    assert not world.source.calls


def test_who_brings_a_value_over_stops_when_the_stage_has_changed(world: World) -> None:
    process = world.process()
    process.cache.set("key", b"value", ttl=None)
    process.to(Stage.LIVE)
    assert process.cache.get("key") == b"value"
    other = world.process().to(Stage.COMPLETE)
    world.clock.advance(10 * other.migration.terms.settling)
    other.cache.delete("key")
    # So long it had to wait for its turn.
    process.background()
    assert other.cache.get("key") is None
    assert process.cache.get("key") is None


def test_a_counter_on_its_way_lives_as_long_as_it_should(make: Make) -> None:
    world = make(soak=2 * 86_400.0)
    process = world.process()
    assert process.cache.increment("key", 5, ttl=3 * LONGEST) == 5
    process.to(Stage.LIVE)
    assert process.cache.get("key") == 5
    # The source has given it away, and the target has not got it.
    world.target.after("compare_and_set", lambda: None)
    world.target.before("compare_and_set", lambda: None)
    world.source.after("compare_and_set", die)
    with pytest.raises(Died):
        process.background()
    world.clock.advance(LONGEST + 1)
    other = world.process()
    assert other.cache.get("key") == 5
    assert other.cache.increment("key") == 6


def test_a_store_that_cannot_compare_needs_no_patience_with_counters(make: Make) -> None:
    lacks = frozenset({CacheCapability.COMPARE_AND_SET, CacheCapability.ATOMIC_INCREMENT})
    world = make(target_lacks=lacks)
    process = on_target(world)
    rolled_back(process)
    process.learn()
    world.clock.advance(process.migration.terms.settling)
    assert CacheCapability.ATOMIC_INCREMENT in process.cache.capabilities()


def test_a_late_store_is_left_alone_at_once(make: Make) -> None:
    world = make(target_lacks=LATE)
    process = on_target(world)
    rolled_back(process)
    process.learn()
    world.clock.advance(LEASE)
    world.target.calls.clear()
    process.cache.set("key", b"newer")
    assert process.cache.get("key") == b"newer"
    assert not world.target.calls
