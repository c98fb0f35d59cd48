"""Intents: begun behind the fence, held for a while, ended or left; somebody looks after each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cm_platform.errors import InternalError, UnavailableError
from cm_platform.migration.intents import Held, OverdueError
from cm_platform.migration.ledger import Purpose
from cm_platform.routing import Stage
from cm_platform.runtime import drive

from .doubles import (
    ACT,
    LEASE,
    QUARANTINE,
    SUBJECT,
    Process,
    World,
    late,
    lost,
    refused,
)


@pytest.fixture
def one(world: World) -> Process:
    return world.process().to(Stage.DUALWRITE)


def _begun(one: Process, *keys: str) -> Held:
    _, held = drive(one.intents.begin(keys))
    assert held is not None
    return held


# The fence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.COMPLETE])
def test_where_one_side_has_everything_there_are_no_intents(world: World, stage: Stage) -> None:
    one = world.process().to(stage)
    view, held = drive(one.intents.begin(["k"]))
    assert (view.stage, held) == (stage, None)
    assert world.pending().count == 0


def test_who_was_fenced_off_asks_again_and_acts_by_the_new_stage(
    world: World, one: Process
) -> None:
    two = world.process()
    drive(two.stage.ask())
    one.to(Stage.LIVE)
    view, held = drive(two.intents.begin(["k"]))
    assert view.stage is Stage.LIVE
    assert held is not None
    assert held.view.authority == "target"


def test_who_was_fenced_off_by_a_rollback_to_off_needs_no_intent(
    world: World, one: Process
) -> None:
    drive(one.stage.ask())
    world.process().rollback(Stage.OFF)
    view, held = drive(one.intents.begin(["k"]))
    assert (view.stage, held) == (Stage.OFF, None)


def test_who_meets_a_pause_waits_for_its_end(world: World, one: Process) -> None:
    drive(one.stage.ask())
    drive(world.ledger.inner.pause(SUBJECT, world.state().epoch, 1))
    began = world.clock.now
    held = _begun(one, "k")
    assert 1 <= world.clock.now - began < 1.2
    assert max(world.clock.slept) <= 0.1
    # Its time begins when it was let through.
    assert held.deadline == pytest.approx(world.clock.now + ACT)


def test_who_meets_a_pause_and_then_a_flip_acts_on_the_new_side(world: World, one: Process) -> None:
    drive(one.stage.ask())
    one.to(Stage.SHADOW)
    drive(one.stage.ask())
    drive(world.ledger.inner.announce(SUBJECT, world.state().epoch, 60))
    world.clock.advance(LEASE)
    drive(world.ledger.inner.pause(SUBJECT, world.state().epoch, 60))
    two = world.process()

    def flip() -> None:
        two.verify()
        two.advance()

    world.clock.asleep += [lambda: None, lambda: None, flip]
    assert _begun(one, "k").view.authority == "target"


def test_a_pause_that_does_not_end_is_unavailable_and_nothing_was_sent(
    world: World, one: Process
) -> None:
    drive(world.ledger.inner.pause(SUBJECT, world.state().epoch, 60))
    began = world.clock.now
    with pytest.raises(UnavailableError, match="paused") as caught:
        one.put("k", b"1")
    assert caught.value.not_sent
    assert caught.value.retryable
    assert caught.value.retry_after
    assert ACT <= world.clock.now - began <= ACT + 0.2
    assert world.source.all() == {}


def test_a_url_to_upload_does_not_wait_for_a_pause(world: World, one: Process) -> None:
    drive(world.ledger.inner.pause(SUBJECT, world.state().epoch, 60))
    began = world.clock.now
    with pytest.raises(UnavailableError):
        drive(one.intents.begin(["k"], Purpose.UPLOAD))
    assert world.clock.now == began


@pytest.mark.parametrize("failure", [lost, late, refused])
def test_a_ledger_that_does_not_answer_lets_nothing_be_written(
    world: World, one: Process, failure: Callable[[], None]
) -> None:
    one.put("k", b"1")
    world.ledger.before("begin", failure)
    with pytest.raises(UnavailableError) as caught:
        one.put("k", b"2")
    assert caught.value.not_sent
    assert world.source.find("k") == b"1"


def test_an_intent_whose_answer_was_lost_does_no_harm(world: World, one: Process) -> None:
    world.ledger.after("begin", lost)
    with pytest.raises(UnavailableError):
        one.put("k", b"1")
    assert world.source.all() == {}
    assert world.pending().count == 1
    assert one.repair() == {}
    assert world.pending().count == 1
    world.clock.advance(ACT + QUARANTINE)
    assert one.repair() == {}
    assert world.pending().count == 0


def test_keys_that_are_written_together_have_intents_together_or_none(
    world: World, one: Process
) -> None:
    keys = [f"{n}" for n in range(20)]
    world.ledger.before("begin", lost)
    with pytest.raises(UnavailableError):
        drive(one.intents.begin(keys))
    assert world.pending().count == 0
    held = _begun(one, *keys)
    assert world.pending().count == 20
    assert drive(one.intents.finish(held, keys))
    assert world.pending().count == 0


# Their owner's time ---------------------------------------------------------------------------


def test_an_intent_is_due_when_its_owner_and_what_it_sent_are_past(
    world: World, one: Process
) -> None:
    _begun(one, "k")
    world.clock.advance(ACT + QUARANTINE - 0.1)
    assert world.pending().due == 0
    assert drive(world.process().intents.claim(9)) is None
    world.clock.advance(0.1)
    assert world.pending().due == 1
    claimed = drive(world.process().intents.claim(9))
    assert claimed is not None
    assert list(claimed.ids) == ["k"]


def test_what_was_slow_to_begin_is_overdue_before_it_acts(world: World, one: Process) -> None:
    world.ledger.after("begin", lambda: world.clock.advance(ACT))
    with pytest.raises(OverdueError) as caught:
        one.put("k", b"1")
    assert caught.value.not_sent
    assert caught.value.retryable
    assert world.source.all() == {}
    assert world.pending().count == 0


def test_half_of_the_time_may_pass_before_it_is_renewed(world: World, one: Process) -> None:
    held = _begun(one, "k")
    world.clock.advance(ACT / 2 - 0.1)
    drive(one.intents.renew(held))
    assert "extend" not in world.ledger.calls
    world.clock.advance(0.2)
    drive(one.intents.renew(held))
    assert held.deadline == world.clock.now + ACT
    world.clock.advance(ACT + QUARANTINE - 0.1)
    assert world.pending().due == 0


def test_however_late_it_is_renewed_as_long_as_nobody_took_over(world: World, one: Process) -> None:
    held = _begun(one, "k")
    world.clock.advance(10 * ACT)
    drive(one.intents.renew(held))
    one.intents.check(held)


def test_who_was_taken_over_is_overdue_and_stays_it(world: World, one: Process) -> None:
    held = _begun(one, "a", "b")
    world.clock.advance(ACT + QUARANTINE)
    claimed = drive(world.process().intents.claim(1))
    assert claimed is not None
    with pytest.raises(OverdueError):
        drive(one.intents.renew(held))
    with pytest.raises(OverdueError):
        one.intents.check(held)
    # Ending what others look after ends nothing of theirs.
    drive(one.intents.finish(held, ["a", "b"]))
    assert world.pending().count == 1


def test_a_renewal_whose_answer_was_lost_is_no_renewal_and_no_end(
    world: World, one: Process
) -> None:
    held = _begun(one, "k")
    deadline = held.deadline
    world.clock.advance(ACT)
    world.ledger.before("extend", lost)
    with pytest.raises(UnavailableError):
        drive(one.intents.renew(held))
    assert held.deadline == deadline
    drive(one.intents.renew(held))


# Ending and leaving ---------------------------------------------------------------------------


def test_what_is_the_same_is_ended_and_what_is_not_is_left_for_now(
    world: World, one: Process
) -> None:
    held = _begun(one, "clean", "dirty")
    assert not drive(one.intents.finish(held, ["clean"]))
    assert world.keys_pending() == ["dirty"]
    assert world.pending().due == 1


def test_what_is_in_doubt_is_left_until_nothing_of_it_can_land(world: World, one: Process) -> None:
    held = _begun(one, "k")
    held.doubt.add("k")
    assert not drive(one.intents.finish(held, ["k"]))
    assert world.pending().due == 0
    world.clock.advance(QUARANTINE)
    assert world.pending().due == 1


def test_what_is_left_can_be_put_off(world: World, one: Process) -> None:
    held = _begun(one, "k")
    drive(one.intents.finish(held, (), after=7))
    assert world.pending().due == 0
    world.clock.advance(7)
    assert world.pending().due == 1


@pytest.mark.parametrize("method", ["end", "leave"])
def test_a_ledger_that_fails_at_the_end_fails_nobody(
    world: World, one: Process, method: str
) -> None:
    held = _begun(one, "a", "b")
    world.ledger.before(method, lost)
    assert not drive(one.intents.finish(held, ["a"]))
    world.clock.advance(ACT + QUARANTINE)
    assert one.repair() == {}
    assert world.pending().count == 0


def test_a_defect_of_the_ledger_at_the_end_fails_nobody_either(world: World, one: Process) -> None:
    def broken() -> None:
        raise InternalError("broken")

    world.ledger.before("end", broken)
    assert one.put("k", b"1")
    assert world.source.all() == world.target.all() == {"k": b"1"}
    assert world.pending().count == 1


# Taking over ----------------------------------------------------------------------------------


def test_several_intents_for_a_key_are_taken_over_together(world: World, one: Process) -> None:
    for _ in range(3):
        _begun(one, "k")
    world.clock.advance(ACT + QUARANTINE)
    claimed = drive(one.intents.claim(9))
    assert claimed is not None
    assert {key: len(ids) for key, ids in claimed.ids.items()} == {"k": 3}
    assert drive(one.intents.finish(claimed, ["k"]))
    assert world.pending().count == 0


def test_who_takes_over_acts_for_the_side_that_is_right_now(world: World, one: Process) -> None:
    _begun(one, "k")
    world.source.write("k", b"right")
    two = world.process()
    drive(two.stage.ask())
    world.clock.advance(ACT + QUARANTINE)
    one.to(Stage.LIVE)
    assert world.target.find("k") == b"right"


def test_who_cannot_ask_for_the_stage_does_nothing_and_what_it_took_is_due_again(
    world: World, one: Process
) -> None:
    _begun(one, "k")
    world.source.write("k", b"right")
    world.clock.advance(ACT + QUARANTINE)
    world.ledger.before("state", lost)
    with pytest.raises(UnavailableError):
        drive(one.mover.repair())
    assert world.target.all() == {}
    assert world.pending().count == 1
    world.clock.advance(ACT + QUARANTINE)
    assert one.repair() == {}
    assert world.target.find("k") == b"right"
