"""What is recorded of a cache's use, what it means for a move, and what a stage needs."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.config import NamespaceConfig
from cm_platform.errors import PreconditionFailedError, UnavailableError, UnsupportedError
from cm_platform.limits import limits
from cm_platform.migration.cache.classes import Home, by_group, judge
from cm_platform.migration.cache.mix import mix_subject
from cm_platform.migration.cache.names import Kept, place_of, read_name
from cm_platform.migration.cache.plan import longest_exact
from cm_platform.migration.stages import BACKFILL
from cm_platform.routing import Stage
from cm_platform.runtime import drive

from .conftest import Make
from .world import LATE, PREFIX, SOAK, SUBJECT, Process, World

KV = limits("cache", "workers_kv")


def recorded(process: Process) -> dict[str, dict[str, int]]:
    """What the ledger has of it, by namespace."""
    process.background()
    drive(process.backend.close())
    return by_group(drive(process.world.ledger.inner.counts(mix_subject(SUBJECT))))


def found(process: Process) -> dict[str, Any]:
    """The plan."""
    body: dict[str, Any] = dict(drive(process.migration.plan()).body)
    return body


def test_names_are_told_by_their_form() -> None:
    assert read_name("~default:key") == (Kept.VALUE, "default")
    assert read_name("~a-b_c:~x!g") == (Kept.VALUE, "a-b_c")
    assert read_name("~default!g") == (Kept.GENERATION, "default")
    assert read_name("~default!t:x:y") == (Kept.TAG, "default")
    assert read_name("~default!l:key") == (Kept.LOCK, "default")
    for key in ("key", "", "~Default:key", "~:key", "~default", "~default!gg"):
        assert read_name(key) == (Kept.RAW, "")


@pytest.mark.parametrize(
    ("group", "place"),
    [
        ("default", (PREFIX, "default")),
        ("paris/default", (f"{PREFIX}paris/", "default")),
        ("(raw)", None),
        ("paris/(raw)", None),
    ],
)
def test_a_group_is_a_namespace_of_a_site(group: str, place: Any) -> None:
    assert place_of(group, PREFIX) == place


def test_the_mix_is_recorded_by_namespace(world: World) -> None:
    process = world.process()
    # What it takes to begin is not counted here.
    process.cache.set("first", b"x")
    process.cache.increment("first-n", ttl=60)
    drive(process.mover.forget())
    for _ in range(40):
        process.cache.get("key")
    process.cache.set("key", b"x")
    process.cache.set("key", b"x")
    process.cache.delete("key")
    process.cache.increment("n", ttl=600)
    process.cache.increment("m", ttl=None)
    process.cache.set("lock", 1, only_if="absent", ttl=30)
    process.cache.touch("lock", 1000)
    process.space("big").set("k" * 520, b"x" * 3_000_000)
    process.space("short").set("key", b"x", ttl=5)
    process.cache.clear()
    process.cache.invalidate_tag("red")
    mix = recorded(process)
    default = mix["default"]
    assert 32 <= default["read"] <= 96
    assert default["write"] == 2
    assert default["written again at once"] == 1
    assert default["delete"] == 1
    assert default["counter"] == 2
    # A conditional write and a touch; a clear is none.
    assert default["condition"] == 2
    assert default["exact within 3600"] == 2
    assert default["exact within 60"] == 1
    assert default["exact for ever"] == 1
    assert mix["big"]["key over 512"] >= 1
    assert mix["big"]["value over 1999000"] >= 1
    assert mix["short"]["ends before 60"] >= 1
    assert longest_exact({"default": default}) == float("inf")


def test_what_single_flight_does_is_no_condition(world: World) -> None:
    process = world.process()
    assert process.cache.get_or_set("key", lambda: 1) == 1
    assert "condition" not in recorded(process)["default"]


def test_what_could_not_be_written_down_is_not_lost(world: World) -> None:
    def away() -> None:
        raise UnavailableError("nobody is there")

    process = world.process()
    process.cache.set("n", 1, ttl=60)
    process.cache.increment("n", ttl=60)
    world.ledger.before("count", away)
    drive(process.backend.close())
    assert recorded(process)["default"]["counter"] == 1


@pytest.mark.parametrize(
    ("counts", "home"),
    [
        ({"read": 1600, "write": 10}, Home.WORKERS_KV),
        ({"read": 1600, "write": 10, "counter": 1}, Home.DURABLE_OBJECTS),
        ({"write": 10, "condition": 1}, Home.DURABLE_OBJECTS),
        ({"write": 1000, "written again at once": 5}, Home.WORKERS_KV),
        ({"write": 1000, "written again at once": 50}, Home.DURABLE_OBJECTS),
        ({"write": 10, "ends before 60": 1}, Home.DURABLE_OBJECTS),
        ({"write": 10, "key over 512": 1}, Home.DURABLE_OBJECTS),
        ({"write": 10, "key over 1024": 1}, Home.STAYS),
        ({"write": 10, "value over 1999000": 1}, Home.WORKERS_KV),
        ({"write": 10, "value over 1999000": 1, "counter": 1}, Home.STAYS),
        ({"write": 10, "value over 26214400": 1}, Home.STAYS),
    ],
)
def test_where_a_namespace_can_live(counts: dict[str, int], home: Home) -> None:
    verdict = judge("default", counts)
    assert verdict.home is home
    assert bool(verdict.why) == (home is not Home.WORKERS_KV)
    assert judge("(raw)", counts).home is Home.STAYS


def test_what_the_target_cannot_do_is_an_obstacle(make: Make) -> None:
    world = make(target_lacks=LATE)
    process = world.process()
    process.cache.increment("n", ttl=60)
    process.space("locks").set("lock", 1, only_if="absent", ttl=60)
    plan = found(process)
    assert [one["examples"] for one in plan["obstacles"]] == [["default"], ["locks"]]
    assert "Durable Objects" in plan["obstacles"][0]["what"]
    assert plan["namespaces"]["locks"]["home"] == "durable_objects"
    with pytest.raises(PreconditionFailedError):
        drive(process.migration.start(accept_losses=True, no_other_writers=True))


def test_what_cannot_move_without_loss_is_an_obstacle(world: World) -> None:
    process = world.process()
    process.cache.increment("n", ttl=None)
    process.space("long").increment("n", ttl=SOAK * 2)
    process.space("fine").increment("n", ttl=SOAK)
    plan = found(process)
    examples = [one["examples"] for one in plan["obstacles"]]
    assert examples == [["default"], ["long"]]


def test_keys_of_other_programs_are_an_obstacle(make: Make) -> None:
    process = make(namespaces={"shared": NamespaceConfig(encoding="raw")}).process()
    (obstacle,) = found(process)["obstacles"]
    assert obstacle["examples"] == ["shared"]
    seen = make().process()
    drive(seen.backend.set(PREFIX, "raw-key", b"value", ttl=None))
    (obstacle,) = found(seen)["obstacles"]
    assert obstacle["examples"] == ["(raw)"]


def test_what_asks_for_its_own_writes_does_not_go_to_who_shows_them_late(make: Make) -> None:
    asks = {"sessions": NamespaceConfig(consistency="read_your_writes")}
    assert found(make(namespaces=asks).process())["obstacles"] == []
    (obstacle,) = found(make(namespaces=asks, target_lacks=LATE).process())["obstacles"]
    assert obstacle["examples"] == ["sessions"]


def test_nothing_recorded_must_be_accepted(world: World) -> None:
    process = world.process()
    with pytest.raises(PreconditionFailedError, match="accept"):
        drive(process.migration.start(no_other_writers=True))


def test_counters_are_refused_where_they_cannot_be(make: Make) -> None:
    world = make(target_lacks=LATE)
    process = world.process().to(Stage.SHADOW)
    assert CacheCapability.ATOMIC_INCREMENT in process.cache.capabilities()
    assert process.cache.increment("n", ttl=60) == 1
    # Nobody saw it when it was planned; it is seen now.
    drive(process.migration.backfill())
    assert not drive(process.migration.verify())["clean"]
    with pytest.raises(PreconditionFailedError, match="not clean"):
        drive(process.migration.advance(Stage.LIVE))
    drive(process.migration.advance(Stage.LIVE, override="nobody needs it"))
    process.learn()
    assert CacheCapability.ATOMIC_INCREMENT not in process.cache.capabilities()
    with pytest.raises(UnsupportedError) as caught:
        process.cache.increment("n", ttl=60)
    assert caught.value.not_sent
    with pytest.raises(UnsupportedError, match="Durable Objects"):
        drive(process.backend.increment(PREFIX, "~default:n", 1, initial=None, ttl=60))
    # And it is there again when the migration goes back.
    process.to(Stage.SHADOW)
    assert process.cache.increment("n", ttl=60) == 2


def test_what_is_recorded_can_be_forgotten(world: World) -> None:
    process = world.process()
    process.cache.increment("n", ttl=None)
    assert found(process)["obstacles"]
    drive(process.mover.forget())
    assert not found(process)["obstacles"]


# The flush ------------------------------------------------------------------------------------


def test_a_flush_waits_until_nobody_writes_as_before(world: World) -> None:
    process = world.process().to(Stage.DUALWRITE)
    before = world.clock.now
    note = drive(process.migration.backfill())
    assert world.clock.now - before >= process.migration.terms.settling - 2 * 5
    assert note["complete"]
    assert world.target.raw("~default!g") == b"%d" % note["version"]


def test_a_flush_that_holds_is_not_made_again(world: World) -> None:
    process = world.process().to(Stage.SHADOW)
    first = drive(process.migration.backfill())
    world.clock.advance(10)
    assert drive(process.migration.backfill())["version"] == first["version"]
    assert drive(process.migration.backfill(resume=False))["version"] > first["version"]


def test_what_is_right_is_not_flushed(world: World) -> None:
    process = world.process().to(Stage.LIVE)
    with pytest.raises(PreconditionFailedError, match="Roll back first"):
        drive(process.migration.backfill(resume=False))


def test_counters_that_only_the_target_may_have_are_not_flushed(world: World) -> None:
    process = world.process().to(Stage.LIVE)
    process.cache.set("key", b"value", ttl=None)
    process.to(Stage.SHADOW)
    drive(process.migration.backfill(resume=False))
    process.cache.increment("n", ttl=60)
    with pytest.raises(PreconditionFailedError, match="lost"):
        drive(process.migration.backfill(resume=False))


def test_counters_that_the_target_may_still_have_keep_a_migration_from_beginning_anew(
    world: World,
) -> None:
    process = world.process().to(Stage.LIVE)
    assert process.cache.increment("n", 5, ttl=600) == 5
    process.to(Stage.OFF)
    drive(process.migration.advance(Stage.DUALWRITE))
    process.learn()
    with pytest.raises(PreconditionFailedError, match="lost"):
        drive(process.migration.backfill())
    assert process.cache.increment("n", ttl=600) == 6
    world.clock.advance(2 * 3600)
    assert drive(process.migration.backfill())["complete"]


def test_a_new_run_needs_a_new_flush(world: World) -> None:
    process = world.process().to(Stage.LIVE)
    process.to(Stage.OFF)
    process.to(Stage.DUALWRITE)
    assert BACKFILL not in drive(world.ledger.inner.notes(SUBJECT))
    with pytest.raises(PreconditionFailedError, match="backfill"):
        drive(process.migration.advance(Stage.SHADOW))


def test_a_store_that_was_left_alone_needs_a_new_flush(make: Make) -> None:
    process = make(target_lacks=LATE).process().to(Stage.LIVE)
    process.to(Stage.SHADOW)
    found = drive(process.migration.verify())
    assert not found["clean"]
    assert "not flushed" in found["problems"][0]
    with pytest.raises(PreconditionFailedError, match="not clean"):
        drive(process.migration.advance(Stage.LIVE))
    drive(process.migration.backfill())
    assert drive(process.migration.verify())["clean"]
    drive(process.migration.advance(Stage.LIVE))


def test_what_must_be_exact_is_written_down_before_it_is_done(world: World) -> None:
    process = world.process()

    def away() -> None:
        raise UnavailableError("nobody is there", retryable=True)

    world.ledger.before("count", away)
    with pytest.raises(UnavailableError) as caught:
        process.cache.increment("n", ttl=60)
    assert caught.value.not_sent
    assert process.cache.get("n") is None
    assert process.cache.increment("n", ttl=60) == 1
    counts = by_group(drive(world.ledger.inner.counts(mix_subject(SUBJECT))))
    assert longest_exact(counts) == 60
    # Once by each process.
    world.ledger.calls.clear()
    assert process.cache.increment("n", ttl=60) == 2
    assert "count" not in world.ledger.calls


# Shadow reads ---------------------------------------------------------------------------------


def compared(process: Process) -> dict[str, int]:
    """What shadow reads found."""
    drive(process.backend.close())
    counts = drive(process.world.ledger.inner.counts(SUBJECT))
    return {name: times for (_, name), times in counts.items()}


def test_shadow_reads_find_the_same(make: Make) -> None:
    process = make(shadow_sample=1.0, shadow_per_second=1000.0).process().to(Stage.SHADOW)
    process.cache.set("key", b"value")
    process.background()
    process.cache.get("key")
    process.background()
    assert compared(process) == {"compared": 1, "same": 1}


def test_shadow_reads_allow_for_what_is_late(make: Make) -> None:
    world = make(shadow_sample=1.0, shadow_per_second=1000.0)
    process = world.process().to(Stage.SHADOW)
    process.cache.set("late", b"value", ttl=None)
    process.cache.get("late")
    # The look comes before the copy.
    process.runtime.waiting.sort(key=lambda work: "copy" in getattr(work, "__qualname__", ""))
    process.background()
    assert compared(process) == {}
    world.clock.advance(121)
    process.cache.get("late")
    process.background()
    found = compared(process)
    assert set(found) == {"compared", "same"}


@pytest.mark.parametrize(
    ("change", "how"),
    [("lose", "missing on the target"), ("value", "value"), ("time", "time"), ("form", "form")],
)
def test_shadow_reads_find_what_differs(make: Make, change: str, how: str) -> None:
    world = make(shadow_sample=1.0, shadow_per_second=1000.0)
    process = world.process().to(Stage.SHADOW)
    process.cache.set("key", b"value", ttl=None)
    process.background()
    copy = world.target.raw("~default:key")
    assert copy is not None
    if change == "lose":
        world.target.lose("~default:key")
    else:
        other = {
            "value": copy + b"!",
            "time": copy[:18] + bytes(7) + b"\x01" + copy[26:],
            "form": b"something",
        }[change]
        world.target.plant("~default:key", other)
    process.cache.get("key")
    process.background()
    world.clock.advance(121)
    process.cache.get("key")
    process.background()
    assert compared(process)[how] == 1


def test_shadow_reads_let_go_of_what_was_written_since(make: Make) -> None:
    world = make(shadow_sample=1.0, shadow_per_second=1000.0)
    process = world.process().to(Stage.SHADOW)
    process.cache.set("key", b"value", ttl=None)
    process.background()
    world.target.lose("~default:key")
    process.cache.get("key")
    process.background()
    process.cache.set("key", b"newer", ttl=None)
    process.runtime.drop()
    process.runtime.waiting.clear()
    world.clock.advance(121)
    process.cache.get("absent")
    process.background()
    assert compared(process) == {"compared": 1, "pending": 1}
