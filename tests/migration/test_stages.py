"""Stages: gate by gate, what each needs, what an override is, and who says so in the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest

from cm_platform.errors import (
    InvalidArgumentError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.migration import points
from cm_platform.migration.ledger import Busy, Note, Pending, State, Terms, Transition
from cm_platform.migration.points import Point
from cm_platform.migration.progress import Progress
from cm_platform.migration.stages import (
    BACKFILL,
    VERIFICATION,
    Evidence,
    check_step,
    is_flip,
    missing,
    next_stage,
    previous_stage,
)
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.storage.backend import Attributes

from .doubles import (
    ACT,
    LEASE,
    QUARANTINE,
    CrashError,
    Process,
    World,
    crash_at,
    do_at,
    lost,
    refused,
)

ORDER = list(Stage)
NOTHING = Pending(0, 0, 0.0, 0, 0.0)
DONE: dict[str, Mapping[str, Any]] = {
    BACKFILL: {"complete": True, "since": 2},
    VERIFICATION: {"clean": True, "full": True, "pending": 0, "epoch": 4},
}


def evidence(
    stage: Stage,
    *,
    notes: Mapping[str, Mapping[str, Any]] = DONE,
    pending: Pending = NOTHING,
    counts: Mapping[tuple[str, str], int] | None = None,
    skipped: int = 0,
    max_divergence: float = 0.0,
    soak: float = 0.0,
    age: float = 0.0,
) -> Evidence:
    """As of a walk straight to this stage; everything is as it should be."""
    passed = ORDER[: ORDER.index(stage) + 1]
    log = [
        Transition(str(n), n + 1, float(n), "me", None if not n else passed[n - 1], to, {}, None)
        for n, to in enumerate(passed)
    ]
    flipped = 4 if Stage.LIVE in passed else 0
    return Evidence(
        State(Terms("m", "a", "b", soak=soak), stage, len(passed), 5.0, False, age, flipped),
        pending,
        {name: Note(body, 0.0) for name, body in notes.items()},
        counts or {},
        skipped,
        log,
        max_divergence,
    )


@pytest.mark.parametrize(("before", "to"), list(pairwise(ORDER)))
def test_with_everything_known_each_stage_leads_to_the_next(before: Stage, to: Stage) -> None:
    assert missing(to, evidence(before)) == []
    assert next_stage(before) is to
    check_step(before, to)


@pytest.mark.parametrize(("to", "before"), list(pairwise(ORDER[:-1])))
def test_going_back_needs_nothing(before: Stage, to: Stage) -> None:
    bad = evidence(
        before, notes={}, skipped=9, pending=Pending(9, 9, 99.0, 0, 0.0), counts=_shadow(1, 9)
    )
    assert missing(to, bad) == []
    assert previous_stage(before) is to
    check_step(before, to)


def _shadow(same: int, differed: int, **more: int) -> dict[tuple[str, str], int]:
    found = {("a/", "compared"): same + differed + sum(more.values()), ("a/", "same"): same}
    return {**found, ("a/", "size"): differed, **{("a/", name): n for name, n in more.items()}}


GATES: dict[str, tuple[Stage, dict[str, Any], str]] = {
    "shadow without a backfill": (Stage.DUALWRITE, {"notes": {}}, "backfill"),
    "shadow with half a backfill": (
        Stage.DUALWRITE,
        {"notes": {**DONE, BACKFILL: {"complete": False, "since": 2}}},
        "backfill",
    ),
    "shadow with a backfill of before": (
        Stage.DUALWRITE,
        {"notes": {**DONE, BACKFILL: {"complete": True, "since": 1}}},
        "backfill",
    ),
    "shadow with skipped keys": (Stage.DUALWRITE, {"skipped": 3}, "3"),
    "live without a backfill": (
        Stage.SHADOW,
        {"notes": {VERIFICATION: DONE[VERIFICATION]}},
        "backfill",
    ),
    "live without a verification": (
        Stage.SHADOW,
        {"notes": {BACKFILL: DONE[BACKFILL]}},
        "nothing was verified",
    ),
    "live with a verification of before": (
        Stage.SHADOW,
        {"notes": {**DONE, VERIFICATION: {**DONE[VERIFICATION], "epoch": 1}}},
        "verified",
    ),
    "live with a verification that is not clean": (
        Stage.SHADOW,
        {"notes": {**DONE, VERIFICATION: {"clean": False, "divergent": 2, "epoch": 3}}},
        "2 keys differ",
    ),
    "live with skipped keys": (Stage.SHADOW, {"skipped": 3}, "3"),
    "live with divergence": (Stage.SHADOW, {"counts": _shadow(99, 1)}, "1.00%"),
    "live above the bar": (
        Stage.SHADOW,
        {"counts": _shadow(97, 3), "max_divergence": 0.02},
        "2.00% may",
    ),
    "rampdown with divergence": (Stage.LIVE, {"counts": _shadow(1, 1)}, "50.00%"),
    "the end without a verification": (
        Stage.RAMPDOWN,
        {"notes": {BACKFILL: DONE[BACKFILL]}},
        "nothing was verified",
    ),
    "the end with a sample": (
        Stage.RAMPDOWN,
        {"notes": {**DONE, VERIFICATION: {**DONE[VERIFICATION], "full": False}}},
        "sample",
    ),
    "the end with keys that were not compared": (
        Stage.RAMPDOWN,
        {"notes": {**DONE, VERIFICATION: {**DONE[VERIFICATION], "pending": 7}}},
        "7 keys were not compared",
    ),
    "the end with a verification of before the flip": (
        Stage.RAMPDOWN,
        {"notes": {**DONE, VERIFICATION: {**DONE[VERIFICATION], "epoch": 3}}},
        "before the flip",
    ),
    "the end with intents to repair": (
        Stage.RAMPDOWN,
        {"pending": Pending(4, 4, 9.0, 0, 0.0)},
        "4 intents",
    ),
    "the end before the soak is over": (
        Stage.RAMPDOWN,
        {"soak": 100.0, "age": 89.0},
        "10 more seconds",
    ),
    "the end with divergence": (Stage.RAMPDOWN, {"counts": _shadow(0, 1)}, "100.00%"),
}


@pytest.mark.parametrize("name", GATES)
def test_what_is_not_known_is_named(name: str) -> None:
    before, lacking, told = GATES[name]
    (found,) = missing(next_stage(before), evidence(before, **lacking))
    assert told in found


def test_all_that_is_missing_is_named_together() -> None:
    found = missing(Stage.LIVE, evidence(Stage.SHADOW, notes={}, skipped=1, counts=_shadow(0, 1)))
    assert len(found) == 4


def test_divergence_up_to_the_bar_is_allowed() -> None:
    fine = evidence(Stage.SHADOW, counts=_shadow(98, 2), max_divergence=0.02)
    assert missing(Stage.LIVE, fine) == []


def test_what_somebody_was_writing_or_could_not_be_read_is_no_divergence() -> None:
    counts = _shadow(90, 0, pending=5, unreadable=5)
    assert missing(Stage.LIVE, evidence(Stage.SHADOW, counts=counts)) == []


def test_the_soak_is_counted_from_the_arrival() -> None:
    # Live was entered at 3, rampdown at 4.
    assert missing(Stage.COMPLETE, evidence(Stage.RAMPDOWN, soak=100.0, age=99.0)) == []


@pytest.mark.parametrize("before", ORDER)
@pytest.mark.parametrize("to", ORDER)
def test_only_neighbours_follow_each_other_and_nothing_follows_the_end(
    before: Stage, to: Stage
) -> None:
    near = abs(ORDER.index(before) - ORDER.index(to)) == 1
    if near and before is not Stage.COMPLETE:
        check_step(before, to)
    else:
        with pytest.raises(InvalidArgumentError):
            check_step(before, to)


def test_the_authority_changes_between_shadow_and_live_only() -> None:
    flips = {(a, b) for a, b in pairwise(ORDER) if is_flip(a, b)}
    assert flips == {(Stage.SHADOW, Stage.LIVE)}
    assert is_flip(Stage.LIVE, Stage.SHADOW)


def test_there_is_nothing_before_off_and_nothing_after_the_end() -> None:
    with pytest.raises(InvalidArgumentError):
        previous_stage(Stage.OFF)
    with pytest.raises(InvalidArgumentError):
        previous_stage(Stage.COMPLETE)
    with pytest.raises(InvalidArgumentError):
        next_stage(Stage.COMPLETE)


# As the operator meets them -------------------------------------------------------------------


def test_a_stage_that_is_not_supported_is_refused_with_the_reason(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    with pytest.raises(PreconditionFailedError, match="does not support shadow") as caught:
        one.advance()
    assert caught.value.not_sent
    assert world.state().stage is Stage.DUALWRITE
    assert len(drive(one.migration.log())) == 2


def test_an_override_is_explicit_and_recorded(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    for empty in ("", "  "):
        with pytest.raises(InvalidArgumentError):
            one.advance(override=empty)
    step = one.advance(override="nobody reads this tenant")
    assert step.state.stage is Stage.SHADOW
    assert step.overridden == tuple(drive(one.migration.log())[-1].evidence["missing"])
    line = drive(one.migration.log())[-1]
    assert (line.reason, line.who) == ("nobody reads this tenant", "tester")


def test_an_override_that_was_not_needed_is_not_recorded_as_one(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    one.backfill()
    step = one.advance(override="to be sure")
    assert step.overridden == ()
    assert drive(one.migration.log())[-1].reason is None


def test_the_log_says_what_was_known(world: World) -> None:
    one = world.process()
    one.put("k", b"1")
    one.to(Stage.LIVE)
    line = drive(one.migration.log())[-1]
    assert (line.before, line.to, line.epoch) == (Stage.SHADOW, Stage.LIVE, 4)
    assert line.evidence[BACKFILL]["complete"] is True
    assert line.evidence[VERIFICATION]["clean"] is True
    assert line.evidence["missing"] == []


def test_to_be_sure_of_the_stage_it_can_be_named(world: World) -> None:
    one = world.process().to(Stage.SHADOW)
    for wrong in (Stage.OFF, Stage.SHADOW, Stage.RAMPDOWN, Stage.COMPLETE):
        with pytest.raises(InvalidArgumentError):
            one.advance(wrong)
    for wrong in (Stage.SHADOW, Stage.LIVE, Stage.COMPLETE):
        with pytest.raises(InvalidArgumentError):
            one.rollback(wrong)
    assert world.state().stage is Stage.SHADOW


def test_the_soak_is_waited_for(world: World) -> None:
    one = world.process(soak=1000.0)
    one.to(Stage.RAMPDOWN)
    one.verify()
    with pytest.raises(PreconditionFailedError, match="soak"):
        one.advance()
    world.clock.advance(1000)
    one.advance()
    assert world.state().stage is Stage.COMPLETE


def test_after_a_rollback_the_soak_begins_anew(world: World) -> None:
    one = world.process(soak=1000.0)
    one.to(Stage.RAMPDOWN)
    world.clock.advance(999)
    one.rollback(Stage.SHADOW)
    one.to(Stage.RAMPDOWN)
    one.verify()
    world.clock.advance(900)
    with pytest.raises(PreconditionFailedError, match="soak"):
        one.advance()


def test_after_a_rollback_the_end_needs_another_verification(world: World) -> None:
    one = world.process().to(Stage.RAMPDOWN)
    one.verify()
    one.rollback(Stage.SHADOW)
    one.advance()
    one.advance()
    with pytest.raises(PreconditionFailedError, match="before the flip"):
        one.advance()


def test_divergence_that_was_mended_is_not_held_against_it_for_ever(world: World) -> None:
    one = world.process(shadow_sample=1.0)
    one.put("k", b"1")
    one.to(Stage.SHADOW)
    world.clock.advance(LEASE)
    world.target.remove("k")
    one.get("k")
    one.runtime.background()
    drive(one.storage.close())
    assert any("100.00% of 1 shadow reads" in line for line in drive(one.migration.missing()))
    # Brought in line, and all of it compared: what was seen before says nothing of now.
    one.backfill()
    assert one.verify()["clean"]
    assert drive(one.migration.missing()) == []
    one.advance()


# A change of sides ----------------------------------------------------------------------------


@pytest.fixture
def one(world: World) -> Process:
    """About to go live."""
    found = world.process()
    found.put("k", b"1")
    found.to(Stage.SHADOW)
    found.verify()
    return found


def test_a_flip_waits_a_lease_before_it_pauses_and_pauses_for_no_time(
    world: World, one: Process
) -> None:
    began = world.clock.now
    paused: list[float] = []
    do_at(Point.FLIP_PAUSED, lambda: paused.append(world.clock.now))
    step = one.advance()
    assert paused[0] - began >= LEASE
    assert step.paused < 0.1
    assert step.state.authority == "target"
    assert not world.state().paused
    assert world.state().lease == LEASE


def _hold(world: World, seconds: float) -> Callable[[], object]:
    """A write under way, which ends after so many seconds."""
    two = world.process()
    _, held = drive(two.intents.begin(["held"]))
    assert held is not None
    end = world.clock.now + seconds

    def look() -> None:
        if world.clock.now >= end:
            drive(two.intents.finish(held, ["held"]))
        else:
            world.clock.asleep.append(look)

    return look


def test_a_write_that_is_under_way_is_waited_for(world: World, one: Process) -> None:
    world.clock.asleep.append(_hold(world, LEASE + 0.5))
    step = one.advance()
    assert 0.1 < step.paused < 1.0
    assert world.state().stage is Stage.LIVE


def test_a_pause_that_does_not_drain_is_undone_and_tried_again(world: World, one: Process) -> None:
    two = world.process()
    world.clock.asleep.append(_hold(world, LEASE + 3))
    told: list[str] = []
    written: list[float] = []

    def watch(progress: Progress) -> None:
        told.append(progress.waiting or "")
        if "writes" in told[-1]:
            two.put("meanwhile", b"1")
            written.append(world.clock.now)

    step = one.advance(report=watch)
    assert step.state.stage is Stage.LIVE
    assert any("waiting for 1 writes" in line for line in told)
    assert written
    assert world.same()


def test_a_flip_that_takes_too_long_changes_nothing_and_can_be_tried_again(
    world: World, one: Process
) -> None:
    two = world.process()
    _, held = drive(two.intents.begin(["held"]))
    assert held is not None

    def renewed() -> None:
        drive(two.intents.renew(held))
        world.clock.asleep.append(renewed)

    world.clock.asleep.append(renewed)
    with pytest.raises(UnavailableError) as caught:
        one.advance(patience=30)
    world.clock.asleep.clear()
    assert caught.value.retryable
    state = world.state()
    assert (state.stage, state.paused, state.lease) == (Stage.SHADOW, False, LEASE)
    two.put("k", b"2")
    drive(two.intents.finish(held, ["held"]))
    one.advance()
    assert one.get("k") == b"2"


def test_an_announcement_that_ran_out_is_made_again_while_nobody_waits(
    world: World, one: Process
) -> None:
    def busy() -> None:
        raise Busy("it must have been announced for 5 s")

    world.ledger.before("move", busy)
    began = world.clock.now
    step = one.advance()
    assert step.state.stage is Stage.LIVE
    assert world.clock.now - began >= 2 * LEASE
    assert step.paused < 1


def test_what_the_dead_left_is_repaired_by_the_flip(world: World, one: Process) -> None:
    crash_at(Point.AUTHORITY_CHANGED)
    with pytest.raises(CrashError):
        world.process().put("k", b"22")
    one.advance()
    assert one.get("k") == b"22"
    assert world.same()


def test_what_cannot_be_repaired_stops_the_flip_and_not_the_writers(
    world: World, one: Process
) -> None:
    drive(world.source.inner.put("odd", b"", Attributes(content_disposition="é")))
    drive(one.intents.begin(["odd"]))
    world.clock.advance(ACT + QUARANTINE)
    with pytest.raises(UnavailableError):
        one.advance(patience=60)
    assert world.state().stage is Stage.SHADOW
    one.put("k", b"2")


@pytest.mark.parametrize("method", ["announce", "pause", "pending", "move"])
@pytest.mark.parametrize("answered", [False, True])
def test_an_answer_of_the_ledger_that_is_lost_is_asked_for_again(
    world: World, one: Process, method: str, answered: bool
) -> None:
    (world.ledger.after if answered else world.ledger.before)(method, lost)
    step = one.advance()
    assert (step.state.stage, step.state.epoch) == (Stage.LIVE, 4)
    assert [line.to for line in drive(one.migration.log())][-2:] == [Stage.SHADOW, Stage.LIVE]
    assert world.state().epoch == 4


def test_a_step_whose_answer_is_lost_for_good_is_seen_by_who_asks(
    world: World, one: Process
) -> None:
    world.ledger.after("move", lost, always=True)
    with pytest.raises(UnavailableError):
        one.advance()
    world.ledger.calm()
    assert world.state().stage is Stage.LIVE
    # Who names the stage does not go too far.
    with pytest.raises(InvalidArgumentError):
        one.advance(Stage.LIVE)
    assert one.get("k") == b"1"


@pytest.mark.parametrize(
    "point", [Point.FLIP_ANNOUNCED, Point.FLIP_PAUSED, Point.FLIP_DRAINED, Point.MOVED]
)
def test_who_dies_in_a_flip_leaves_a_tenant_that_works(
    world: World, one: Process, point: Point
) -> None:
    # Nothing is undone: the process is no more.
    async def dead(reached: Point) -> None:
        if reached is point:
            for method in ("pause", "announce"):
                world.ledger.before(method, refused, always=True)
            raise CrashError

    points.hook = dead
    with pytest.raises(CrashError):
        one.advance()
    points.hook = None
    world.ledger.calm()
    two = world.process()
    two.put("k", b"2")
    assert two.get("k") == b"2"
    if point is not Point.MOVED:
        assert world.state().stage is Stage.SHADOW
        world.process().advance()
    assert world.state().stage is Stage.LIVE
    assert two.get("k") == b"2"
    assert world.same()


def test_two_who_flip_at_once_change_it_once(world: World, one: Process) -> None:
    two = world.process()
    do_at(Point.FLIP_ANNOUNCED, lambda: two.advance(Stage.LIVE))
    with pytest.raises(UnavailableError, match="somebody else"):
        one.advance(Stage.LIVE)
    state = world.state()
    assert (state.stage, state.epoch, state.paused) == (Stage.LIVE, 4, False)


def test_a_flip_that_somebody_else_rolled_back_is_not_made(world: World, one: Process) -> None:
    two = world.process()
    do_at(Point.FLIP_PAUSED, two.rollback)
    with pytest.raises(UnavailableError, match="somebody else"):
        one.advance()
    assert world.state().stage is Stage.DUALWRITE


def test_a_rollback_over_the_flip_waits_as_a_flip_does(world: World, one: Process) -> None:
    one.advance()
    world.process().put("k", b"22")
    began = world.clock.now
    step = one.rollback(Stage.DUALWRITE)
    assert world.clock.now - began >= LEASE
    assert step.state.stage is Stage.DUALWRITE
    assert one.get("k") == b"22"
    assert world.source.find("k") == b"22"


def test_reads_never_wait_for_a_flip(world: World, one: Process) -> None:
    two = world.process()
    two.get("k")
    seen: list[bytes] = []
    slept: list[int] = []

    async def hook(reached: Point) -> None:
        if reached in (Point.FLIP_ANNOUNCED, Point.FLIP_PAUSED, Point.FLIP_DRAINED, Point.MOVED):
            before = len(world.clock.slept)
            reply = await two.storage.get("k")
            seen.append(await reply.read())
            await reply.close()
            slept.append(len(world.clock.slept) - before)

    points.hook = hook
    one.advance()
    assert seen == [b"1"] * 4
    assert slept == [0] * 4


def test_ending_waits_for_writes_and_brings_nothing_back(world: World) -> None:
    one = world.process().to(Stage.RAMPDOWN)
    one.put("k", b"1")
    one.verify()
    crash_at(Point.AUTHORITY_CHANGED)
    with pytest.raises(CrashError):
        world.process().put("k", b"22")
    step = one.advance()
    assert step.state.stage is Stage.COMPLETE
    assert world.pending().count == 0
    assert world.same()
    assert world.target.find("k") == b"22"
