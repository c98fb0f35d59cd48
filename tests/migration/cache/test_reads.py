"""What is read in each stage: what counts, from where it is, and nothing of before."""

from __future__ import annotations

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.entry import Encoding, Entry, encode, scope_of
from cm_platform.errors import UnavailableError
from cm_platform.migration.cache.marks import is_moved, is_tombstone
from cm_platform.routing import Stage
from cm_platform.runtime import drive

from .conftest import Make
from .world import BOUND, LATE, LEASE, PREFIX, World, cache_over

KEY = "~default:key"


def entry(value: bytes, *, stamp: int = 0, ends: int = 0) -> bytes:
    """An entry of the default namespace."""
    scope = scope_of(PREFIX, "default")
    return encode(Entry(Encoding.BYTES, stamp, ends, ends, value, scope=scope))


@pytest.mark.parametrize("stage", list(Stage))
def test_what_is_written_in_a_stage_is_read_in_it(world: World, stage: Stage) -> None:
    process = world.process().to(stage)
    process.cache.set("key", b"value")
    assert process.cache.get("key") == b"value"
    process.cache.delete("key")
    assert process.cache.get("key") is None


def test_what_was_there_before_is_there_in_all_stages_that_fall_back(world: World) -> None:
    process = world.process()
    process.cache.set("key", b"value", ttl=None)
    for stage in (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE):
        process.to(stage)
        assert process.cache.get("key") == b"value", stage
    # It was read, so it has moved.
    process.background()
    process.to(Stage.COMPLETE)
    assert process.cache.get("key") == b"value"


def test_what_nobody_used_stays_behind(world: World) -> None:
    process = world.process()
    process.cache.set("key", b"value", ttl=None)
    process.to(Stage.RAMPDOWN)
    assert process.cache.get("key") is None


def test_a_read_moves_what_it_finds_and_the_other_side_knows(world: World) -> None:
    process = world.process()
    process.cache.set("key", b"value", ttl=None)
    process.to(Stage.LIVE)
    assert process.cache.get("key") == b"value"
    process.background()
    moved = world.source.raw(KEY)
    assert moved is not None
    assert is_moved(moved)
    world.source.calls.clear()
    assert process.cache.get("key") == b"value"
    assert not world.source.calls


def test_what_moves_keeps_its_end(world: World) -> None:
    process = world.process()
    process.cache.set("key", b"value", ttl=1000)
    process.to(Stage.LIVE)
    left = process.cache.ttl("key")
    process.cache.get("key")
    process.background()
    assert left is not None
    assert process.cache.ttl("key") == pytest.approx(left)
    world.clock.advance(left + 1)
    assert process.cache.get("key") is None
    assert world.target.raw(KEY) is None


def test_an_end_holds_even_if_the_store_keeps_the_value(make: Make) -> None:
    world = make(source_lacks=LATE)
    process = world.process()
    process.cache.set("key", b"value", ttl=200)
    process.to(Stage.LIVE)
    kept = world.source.raw(KEY)
    assert kept is not None
    world.source.plant(KEY, kept)
    assert process.cache.get("key") == b"value"
    world.clock.advance(201)
    assert process.cache.get("key") is None


def test_what_the_target_has_from_before_never_surfaces(world: World) -> None:
    straight = cache_over(world.target, world.process().runtime)
    straight.set("key", b"old", ttl=None)
    process = world.process()
    for stage in Stage:
        process.to(stage)
        assert process.cache.get("key") is None, stage
    # Not even to who does without the migration.
    assert straight.get("key") is None


def test_what_the_target_has_from_before_is_no_value_though_the_flush_did_not_reach_it(
    world: World,
) -> None:
    process = world.process().to(Stage.SHADOW)
    world.target.plant("~strange:key", entry(b"old"))
    process.to(Stage.LIVE)
    assert process.space("strange").get("key") is None


def test_a_lost_generation_clears(world: World) -> None:
    process = world.process().to(Stage.LIVE)
    process.cache.set("key", b"value", ttl=None)
    process.cache.clear()
    world.target.lose("~default!g")
    assert process.cache.get("key") is None
    assert world.process().learn().cache.get("key") is None


def test_a_clear_holds_on_both_sides(world: World) -> None:
    process = world.process()
    process.cache.set_many({"left": b"1", "moved": b"2"}, ttl=None)
    process.to(Stage.LIVE)
    process.cache.get("moved")
    process.background()
    process.cache.clear()
    assert process.cache.get_many(["left", "moved"]) == {}
    process.to(Stage.SHADOW)
    assert process.cache.get_many(["left", "moved"]) == {}


def test_a_tag_holds_on_both_sides(world: World) -> None:
    process = world.process()
    process.cache.set_many({"left": b"1", "moved": b"2"}, ttl=None, tags=("red",))
    process.cache.set("other", b"3", ttl=None, tags=("blue",))
    process.to(Stage.LIVE)
    assert process.cache.get("moved") == b"2"
    process.background()
    process.cache.invalidate_tag("red")
    assert process.cache.get_many(["left", "moved", "other"]) == {"other": b"3"}
    fresh = world.process().learn()
    assert fresh.cache.get_many(["left", "moved", "other"]) == {"other": b"3"}


def test_a_tag_that_was_raised_before_the_change_holds_after_it(make: Make) -> None:
    world = make(target_lacks=LATE)
    process = world.process()
    process.cache.set("key", b"value", ttl=None, tags=("red",))
    kept = world.source.raw(KEY)
    assert kept is not None
    process.cache.invalidate_tag("red")
    assert process.cache.get("key") is None
    world.source.plant(KEY, kept)
    process.to(Stage.LIVE)
    # The target, which loses nothing, has never heard of the tag.
    assert world.process().learn().cache.get("key") is None


def test_a_tag_that_the_old_side_lost_is_not_taken_for_never_raised(make: Make) -> None:
    world = make(target_lacks=LATE)
    process = world.process()
    process.cache.set("key", b"value", ttl=None, tags=("red",))
    process.cache.set("plain", b"value", ttl=None)
    process.to(Stage.LIVE)
    world.source.lose("~default!t:red")
    assert world.process().learn().cache.get_many(["key", "plain"]) == {"plain": b"value"}


def test_a_delete_stands_against_a_store_that_shows_it_late(make: Make) -> None:
    world = make(source_lacks=LATE)
    process = world.process()
    process.cache.set("key", b"secret", ttl=None)
    before = world.source.raw(KEY)
    assert before is not None
    process.to(Stage.LIVE)
    assert process.cache.get("key") == b"secret"
    process.cache.delete("key")
    # It shows what was there for a while.
    world.source.plant(KEY, before)
    assert process.cache.get("key") is None
    stone = world.target.raw(KEY)
    assert stone is not None
    assert is_tombstone(stone, world.clock.wall() + BOUND - 1)
    assert not is_tombstone(stone, world.clock.wall() + BOUND + 1)
    world.clock.advance(BOUND - 1)
    assert process.cache.get("key") is None


def test_an_end_stands_against_a_store_that_shows_older_values_late(make: Make) -> None:
    world = make(source_lacks=LATE)
    process = world.process()
    process.cache.set("key", b"old", ttl=None)
    before = world.source.raw(KEY)
    assert before is not None
    process.to(Stage.LIVE)
    process.cache.set("key", b"new", ttl=1)
    world.source.plant(KEY, before)
    world.clock.advance(2)
    assert process.cache.get("key") is None


def test_what_is_late_is_not_brought_over(make: Make) -> None:
    world = make(source_lacks=LATE)
    process = world.process()
    process.cache.set("key", b"value", ttl=None)
    process.to(Stage.LIVE)
    assert process.cache.get("key") == b"value"
    process.background()
    assert world.target.raw(KEY) is None


def test_copies_are_no_values(make: Make) -> None:
    world = make(target_lacks=LATE)
    process = world.process().to(Stage.SHADOW)
    process.cache.set("key", b"first", ttl=None)
    process.background()
    copy = world.target.raw(KEY)
    assert copy is not None
    assert copy.endswith(b"first")
    process.cache.set("key", b"second", ttl=None)
    # The copy of it never arrives.
    process.runtime.drop()
    process.runtime.waiting.clear()
    process.to(Stage.LIVE)
    assert process.cache.get("key") == b"second"
    world.source.lose(KEY)
    assert process.cache.get("key") is None


def test_an_answer_of_the_ledger_is_used_for_its_time_only(world: World) -> None:
    process = world.process().to(Stage.LIVE)
    process.cache.set("key", b"value")

    def away() -> None:
        raise UnavailableError("nobody is there", retryable=True)

    world.ledger.before("state", away, always=True)
    assert process.cache.get("key") == b"value"
    world.clock.advance(LEASE + 1)
    with pytest.raises(UnavailableError):
        process.cache.get("key")
    world.ledger.calm()
    assert process.cache.get("key") == b"value"


def test_stores_that_lose_nothing_need_no_generation(make: Make) -> None:
    world = make(target_lacks=frozenset({CacheCapability.CONDITIONAL_SET}))
    process = world.process().to(Stage.LIVE)
    process.cache.set("key", b"value", ttl=None)
    assert world.process().learn().cache.get("key") == b"value"


def test_a_key_that_one_side_cannot_have_is_not_looked_for_there(world: World) -> None:
    process = world.process().to(Stage.LIVE)
    long = "k" * (world.target.limits.max_key - len(PREFIX) - 40)
    process.cache.set(long, b"value")
    assert process.cache.get(long) == b"value"
    assert drive(process.backend.get_many(PREFIX, ["x" * 2000])) == [None]
