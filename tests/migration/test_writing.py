"""Writing while data moves: the authority first, then the other side, all of it under an intent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from cm_platform.config import MigrationConfig
from cm_platform.errors import (
    AlreadyExistsError,
    AmbiguousError,
    DeadlineExceededError,
    PermissionDeniedError,
    PlatformError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
)
from cm_platform.migration import points
from cm_platform.migration.ledger import Terms
from cm_platform.migration.mover import Sides
from cm_platform.migration.points import Point
from cm_platform.migration.storage.assembling import assemble
from cm_platform.migration.storage.writes import INLINE
from cm_platform.routing import Stage
from cm_platform.runtime import AsyncRuntime, drive
from cm_platform.storage.backend import REVISION, Attributes
from cm_platform.storage.local.store import BACKEND, LocalConfig

from .doubles import (
    ACT,
    LEASE,
    LONGEST,
    QUARANTINE,
    SETTLING,
    SUBJECT,
    CrashError,
    Process,
    Store,
    World,
    crash_at,
    do_at,
    late,
    lost,
    refused,
)

SIDES = [Stage.DUALWRITE, Stage.LIVE]


@pytest.fixture(params=SIDES)
def one(request: pytest.FixtureRequest, world: World) -> Process:
    """In a stage where the source is right, and in one where the target is."""
    found = world.process().to(request.param)
    found.put("k", b"before")
    return found


def right(world: World) -> Store:
    return world.source if world.state().authority == "source" else world.target


def other(world: World) -> Store:
    return world.target if world.state().authority == "source" else world.source


def both(world: World) -> bytes | None:
    """What both sides have, with the same revision."""
    assert world.source.find("k") == world.target.find("k")
    assert world.source.revisions() == world.target.revisions()
    return world.source.find("k")


# It goes well ---------------------------------------------------------------------------------


def test_the_authority_is_written_first_and_the_intent_stands_before_and_after(
    world: World, one: Process
) -> None:
    seen: list[tuple[str, int]] = []
    for name, store in (("right", right(world)), ("other", other(world))):
        store.before("put", lambda name=name: seen.append((name, world.pending().count)))  # type: ignore[misc]
    one.put("k", b"after")
    assert seen == [("right", 1), ("other", 1)]
    assert both(world) == b"after"
    assert world.pending().count == 0


def test_a_write_costs_each_side_one_put_and_one_look(world: World, one: Process) -> None:
    for store in (world.source, world.target):
        store.calls.clear()
    world.ledger.calls.clear()
    one.put("k", b"after")
    assert sorted(world.source.calls) == sorted(world.target.calls) == ["head", "put"]
    assert [call for call in world.ledger.calls if call != "state"] == ["begin", "end"]


def test_many_keys_are_removed_on_both_sides(world: World, one: Process) -> None:
    for number in range(30):
        one.put(f"{number}", b"")
    assert drive(one.storage.delete_many([str(n) for n in range(30)])) == {}
    assert world.source.all() == world.target.all() == {"k": b"before"}
    assert world.pending().count == 0


# The authority does not take it ---------------------------------------------------------------


def test_what_never_left_changes_nothing_and_leaves_no_intent(world: World, one: Process) -> None:
    right(world).before("put", refused)
    with pytest.raises(UnavailableError) as caught:
        one.put("k", b"after")
    assert caught.value.not_sent
    assert both(world) == b"before"
    assert world.pending().count == 0


@pytest.mark.parametrize("error", [PermissionDeniedError, RateLimitedError])
def test_what_is_refused_changes_nothing_and_leaves_no_intent(
    world: World, one: Process, error: type[PlatformError]
) -> None:
    def refuse() -> None:
        raise error("no")

    right(world).before("put", refuse)
    with pytest.raises(error):
        one.put("k", b"after")
    assert both(world) == b"before"
    assert world.pending().count == 0


@pytest.mark.parametrize("failure", [lost, late])
@pytest.mark.parametrize("landed", [True, False])
def test_what_is_not_answered_keeps_its_intent_until_nothing_can_land_any_more(
    world: World, one: Process, failure: Callable[[], None], landed: bool
) -> None:
    (right(world).after if landed else right(world).before)("put", failure)
    with pytest.raises((UnavailableError, DeadlineExceededError)) as caught:
        one.put("k", b"after")
    assert not caught.value.not_sent
    assert other(world).find("k") == b"before"
    assert one.repair() == {}
    assert world.pending().count == 1
    world.clock.advance(QUARANTINE)
    assert one.repair() == {}
    assert both(world) == (b"after" if landed else b"before")
    assert world.pending().count == 0


def test_what_lands_within_the_quarantine_is_brought_over(world: World, one: Process) -> None:
    right(world).before("put", late)
    with pytest.raises(DeadlineExceededError):
        one.put("k", b"after")
    world.clock.advance(QUARANTINE - 0.1)
    one.repair()
    drive(right(world).inner.put("k", b"after", Attributes(metadata={REVISION: "late"})))
    world.clock.advance(0.1)
    one.repair()
    assert both(world) == b"after"


def test_a_conflict_with_others_leaves_no_intent(world: World, one: Process) -> None:
    with pytest.raises(AlreadyExistsError):
        one.put("k", b"after", if_none_match=True)
    with pytest.raises(PreconditionFailedError):
        one.put("k", b"after", if_match="t-x" if right(world) is world.target else "x")
    assert both(world) == b"before"
    assert world.pending().count == 0


def test_a_conflict_with_ourselves_is_brought_over(world: World, one: Process) -> None:
    # The request was delivered twice: it has happened, and is refused.
    def twice() -> None:
        attributes = Attributes(metadata={REVISION: "mine"})
        drive(right(world).inner.put("new", b"mine", attributes, if_none_match=True))
        raise AlreadyExistsError("the key is taken")

    right(world).before("put", twice)
    with pytest.raises(AlreadyExistsError):
        one.put("new", b"mine", if_none_match=True)
    assert world.target.find("new") == world.source.find("new") == b"mine"
    assert world.source.revisions()["new"] == world.target.revisions()["new"] == "mine"
    assert world.pending().count == 0


def test_keys_that_could_not_be_removed_are_told_and_compared(world: World, one: Process) -> None:
    one.put("other", b"")
    inner = right(world).inner
    removed = inner.delete_many

    async def some(keys: list[str]) -> dict[str, PlatformError]:
        assert await removed([key for key in keys if key != "k"]) == {}
        return {"k": PermissionDeniedError("locked")}

    inner.delete_many = some
    try:
        failures = drive(one.storage.delete_many(["k", "other"]))
    finally:
        del inner.delete_many
    assert list(failures) == ["k"]
    assert world.source.all() == world.target.all() == {"k": b"before"}
    assert world.pending().count == 0


def test_a_removal_that_is_not_answered_is_followed_up(world: World, one: Process) -> None:
    right(world).after("delete_many", lost)
    with pytest.raises(UnavailableError):
        drive(one.storage.delete_many(["k", "absent"]))
    assert world.keys_pending() == ["absent", "k"]
    world.clock.advance(QUARANTINE)
    one.repair()
    assert world.source.all() == world.target.all() == {}


# The other side does not follow ---------------------------------------------------------------


@pytest.mark.parametrize("failure", [lost, late, refused])
def test_where_the_other_side_fails_the_write_is_answered_and_somebody_looks_after_it(
    world: World, one: Process, failure: Callable[[], None]
) -> None:
    for method in ("put", "head", "delete"):
        other(world).before(method, failure, always=True)
    one.put("k", b"after")
    one.delete("gone")
    assert one.get("k") == b"after"
    assert world.keys_pending() == ["gone", "k"]
    other(world).calm()
    world.clock.advance(QUARANTINE)
    assert one.repair() == {}
    assert both(world) == b"after"
    assert world.pending().count == 0


def test_where_the_mirrors_answer_is_lost_the_intent_outlives_what_may_land(
    world: World, one: Process
) -> None:
    other(world).after("put", lost)
    one.put("k", b"after")
    # They are the same, and yet a second delivery may still come.
    assert both(world) == b"after"
    assert world.pending().count == 1
    one.repair()
    assert world.pending().count == 1
    world.clock.advance(QUARANTINE)
    one.repair()
    assert world.pending().count == 0


def test_a_late_mirror_does_not_bring_back_what_was_replaced(world: World, one: Process) -> None:
    two = world.process()
    other(world).before("put", late)
    one.put("k", b"first")
    two.put("k", b"second")
    # Now the first mirror lands: nobody was told.
    drive(other(world).inner.put("k", b"first", Attributes(metadata={REVISION: "first"})))
    assert world.pending().count >= 1
    world.clock.advance(QUARANTINE)
    two.repair()
    assert both(world) == b"second"


def test_a_late_mirror_does_not_bring_back_what_was_removed(world: World, one: Process) -> None:
    two = world.process()
    other(world).before("put", late)
    one.put("k", b"first")
    two.delete("k")
    drive(other(world).inner.put("k", b"first", Attributes(metadata={REVISION: "first"})))
    world.clock.advance(QUARANTINE)
    two.repair()
    assert both(world) is None


def test_the_background_follows_up_what_was_left(world: World, one: Process) -> None:
    other(world).before("put", refused)
    other(world).before("head", refused)
    one.put("k", b"after")
    assert world.pending().count == 1
    assert one.runtime.background() == 1
    assert both(world) == b"after"
    assert world.pending().count == 0


def test_the_background_is_woken_once_at_a_time(world: World, one: Process) -> None:
    other(world).before("put", refused, always=True)
    other(world).before("head", refused, always=True)
    for number in range(5):
        one.put(f"{number}", b"")
    assert len(one.runtime.waiting) == 1
    other(world).calm()
    one.runtime.background()
    other(world).before("put", refused)
    other(world).before("head", refused)
    one.put("k", b"again")
    assert len(one.runtime.waiting) == 1


def test_a_large_object_follows_after_its_writer_was_answered(world: World, one: Process) -> None:
    key = "large"
    drive(
        right(world).inner.put(
            key, memoryview(bytearray(INLINE + 1)), Attributes(metadata={REVISION: "r"})
        )
    )
    right(world).before("copy", lambda: None)
    etag = one.head(key).etag
    drive(one.storage.copy(key, "copy", Attributes(metadata={REVISION: "c"}), etag=etag))
    assert other(world).find("copy") is None
    assert world.keys_pending() == ["copy"]
    assert one.runtime.background() == 1
    assert other(world).find("copy") == bytes(INLINE + 1)
    assert world.pending().count == 0


# Two writers at once --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point", [Point.INTENT_BEGUN, Point.AUTHORITY_CHANGED, Point.OTHER_CHANGED, Point.COMPARED]
)
@pytest.mark.parametrize("act", ["put", "delete"])
def test_whoever_comes_in_between_both_sides_end_up_the_same(
    world: World, one: Process, point: Point, act: str
) -> None:
    two = world.process()
    do_at(point, lambda: two.put("k", b"between") if act == "put" else two.delete("k"))
    one.put("k", b"after")
    assert both(world) == right(world).find("k")
    if point is Point.INTENT_BEGUN:
        assert both(world) == b"after"
    assert world.pending().count == 0


def test_who_comes_between_the_look_and_the_copy_is_not_overwritten(
    world: World, one: Process
) -> None:
    two = world.process()
    other(world).before("put", refused)
    do_at(Point.COPY_BEGUN, lambda: two.put("k", b"between"))
    one.put("k", b"after")
    assert both(world) == b"between"


# Dying ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point", [Point.INTENT_BEGUN, Point.AUTHORITY_CHANGED, Point.OTHER_CHANGED, Point.COMPARED]
)
def test_who_dies_leaves_an_intent_and_somebody_finishes_it(
    world: World, one: Process, point: Point
) -> None:
    crash_at(point)
    with pytest.raises(CrashError):
        one.put("k", b"after")
    two = world.process()
    assert world.pending().count == 1
    assert two.repair() == {}
    assert world.pending().count == 1
    world.clock.advance(ACT + QUARANTINE)
    assert two.repair() == {}
    assert world.pending().count == 0
    assert both(world) == (b"before" if point is Point.INTENT_BEGUN else b"after")


def test_who_repairs_and_dies_is_repaired(world: World, one: Process) -> None:
    crash_at(Point.AUTHORITY_CHANGED)
    with pytest.raises(CrashError):
        one.put("k", b"after")
    for point in (Point.REPAIR_CLAIMED, Point.COPY_BEGUN, Point.REPAIR_DONE):
        world.clock.advance(ACT + QUARANTINE)
        crash_at(point)
        with pytest.raises(CrashError):
            world.process().repair()
        assert world.pending().count == 1
    world.clock.advance(ACT + QUARANTINE)
    assert world.process().repair() == {}
    assert both(world) == b"after"
    assert world.pending().count == 0


# Too late -------------------------------------------------------------------------------------


def test_who_is_late_and_not_yet_taken_over_finishes_it(world: World, one: Process) -> None:
    right(world).after("put", lambda: world.clock.advance(10 * ACT))
    one.put("k", b"after")
    assert both(world) == b"after"
    assert world.pending().count == 0


def test_who_is_late_and_was_taken_over_still_sees_both_sides_the_same(
    world: World, one: Process
) -> None:
    two = world.process()

    def overslept() -> None:
        world.clock.advance(ACT + QUARANTINE)
        two.repair()

    right(world).before("put", overslept)
    one.put("k", b"after")
    assert both(world) == b"after"
    assert world.pending().count == 0


def test_who_is_so_late_that_the_sides_have_changed_is_told_that_it_may_be_undone(
    world: World, one: Process
) -> None:
    two = world.process()
    stage = Stage.LIVE if right(world) is world.source else Stage.SHADOW

    def overslept() -> None:
        world.clock.advance(ACT + QUARANTINE)
        two.to(stage)

    right(world).before("put", overslept)
    with pytest.raises(AmbiguousError, match="Read before you write again"):
        one.put("k", b"after")
    assert both(world) == b"before"
    assert world.pending().count == 0


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.COMPLETE])
def test_without_an_intent_who_is_late_sees_afterwards_what_it_is_worth(
    world: World, stage: Stage
) -> None:
    one, two = world.process().to(stage), world.process()
    one.put("k", b"before")

    def overslept() -> None:
        world.clock.advance(LEASE + LONGEST)
        if stage is Stage.OFF:
            two.to(Stage.DUALWRITE)
            two.backfill()

    right(world).before("put", overslept)
    one.put("k", b"after")
    assert right(world).find("k") == b"after"
    if stage is Stage.OFF:
        assert both(world) == b"after"
    assert world.pending().count == 0


def test_without_an_intent_who_is_late_past_a_flip_is_told(world: World) -> None:
    one, two = world.process(), world.process()
    one.put("k", b"before")

    def overslept() -> None:
        world.clock.advance(SETTLING)
        two.to(Stage.LIVE)

    world.source.before("put", overslept)
    with pytest.raises(AmbiguousError):
        one.put("k", b"after")
    assert both(world) == b"before"


def test_who_is_late_while_the_ledger_is_down_is_told(world: World) -> None:
    one = world.process()
    one.put("k", b"before")

    def overslept() -> None:
        world.clock.advance(2 * SETTLING)
        world.ledger.before("state", lost, always=True)

    world.source.before("put", overslept)
    with pytest.raises(AmbiguousError):
        one.put("k", b"after")


# Cancelled ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point",
    [Point.INTENT_BEGUN, Point.AUTHORITY_CHANGED, Point.OTHER_CHANGED, Point.COMPARED],
)
def test_who_is_cancelled_leaves_its_intent_to_whoever_repairs(
    tmp_path: Path, point: Point
) -> None:
    world = World(tmp_path)
    world.process().to(Stage.DUALWRITE)

    async def run() -> None:
        runtime = AsyncRuntime(clock=world.clock)
        source, target = [
            await BACKEND.open(LocalConfig(path=tmp_path / name), runtime)
            for name in ("source", "target")
        ]
        settings = MigrationConfig(source="source", target="target", **world.config)
        terms = Terms("move", "source", "target", lease=LEASE)
        moving = assemble(
            Sides(source, target),
            world.ledger,
            SUBJECT,
            terms,
            settings,
            runtime,
            act=ACT,
            prefix="",
        )
        there = asyncio.Event()

        async def hook(reached: Point) -> None:
            if reached is point:
                there.set()
                await asyncio.Event().wait()

        points.hook = hook
        attributes = Attributes(metadata={REVISION: "mine"})
        putting = asyncio.ensure_future(moving.backend.put("k", b"1", attributes))
        await asyncio.wait_for(there.wait(), 10)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        points.hook = None
        for opened in (moving.backend, source, target, runtime):
            await opened.close()

    try:
        asyncio.run(run())
        assert world.pending().count == 1
        two = world.process()
        assert two.repair() == {}
        assert world.pending().count == 1
        world.clock.advance(ACT + QUARANTINE)
        assert two.repair() == {}
        assert world.pending().count == 0
        assert both(world) == (None if point is Point.INTENT_BEGUN else b"1")
    finally:
        world.close()
