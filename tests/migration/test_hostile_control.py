"""Two operators at once, answers that are lost, and a tenant that never rests: what control makes
of them."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, cast

import pytest

from cm_platform.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    PlatformError,
    UnavailableError,
)
from cm_platform.migration.points import Point
from cm_platform.migration.storage.mover import StorageMover
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.storage.backend import Attributes

from .doubles import SETTLING, SUBJECT, Process, World, do_at, late


def off_and_back(world: World, two: Process) -> None:
    """Another operator goes back to off, where a client writes, and to dualwrite again."""
    two.rollback(Stage.OFF)
    two.put("meanwhile", b"only the source has it")
    two.advance(Stage.DUALWRITE)


# Two operators ------------------------------------------------------------------------------


def test_a_flip_goes_by_no_evidence_of_before_somebody_else_went_back(world: World) -> None:
    one, two = world.process(), world.process()
    one.put("k", b"1")
    one.to(Stage.SHADOW)
    one.verify()
    # The log is the last of what is asked before it is judged.
    world.ledger.after("log", lambda: off_and_back(world, two))
    with pytest.raises(UnavailableError, match="at the same time"):
        one.advance(Stage.LIVE)
    assert world.state().stage is Stage.DUALWRITE
    assert one.get("meanwhile") == b"only the source has it"


def test_an_override_is_of_the_stage_that_was_seen(world: World) -> None:
    one, two = world.process(), world.process().to(Stage.SHADOW)
    world.ledger.after("log", lambda: two.rollback(Stage.DUALWRITE))
    with pytest.raises(UnavailableError, match="at the same time"):
        one.advance(Stage.LIVE, override="it is only a test")
    assert world.state().stage is Stage.DUALWRITE


@pytest.mark.parametrize(("when", "asked"), [("after", "state"), ("before", "claim")])
def test_a_backfill_waits_for_who_wrote_while_another_operator_went_to_off_and_back(
    world: World, when: str, asked: str
) -> None:
    one, two = world.process(), world.process()
    one.to(Stage.DUALWRITE)
    world.clock.advance(SETTLING)
    ended: list[float] = []

    def meanwhile() -> None:
        off_and_back(world, two)
        ended.append(world.clock.now)

    getattr(world.ledger, when)(asked, meanwhile)
    try:
        found = one.backfill()
    except UnavailableError:
        return
    assert not found["complete"] or world.clock.now >= ended[0] + SETTLING


def test_a_verification_is_of_the_stage_in_which_it_began(world: World) -> None:
    one, two = world.process(), world.process()
    one.to(Stage.DUALWRITE)
    world.clock.advance(SETTLING)
    one.backfill()
    world.ledger.before("claim", lambda: off_and_back(world, two))
    with pytest.raises(UnavailableError):
        one.verify()
    assert "verification" not in drive(world.ledger.inner.notes(SUBJECT))


def test_a_rollback_never_goes_forward(world: World) -> None:
    one, two = world.process(), world.process()
    one.to(Stage.RAMPDOWN)
    # From rampdown it would go to live; by then the data is at the source again.
    world.ledger.after("state", lambda: two.rollback(Stage.SHADOW))
    with pytest.raises(UnavailableError, match="at the same time"):
        one.rollback(Stage.OFF)
    assert world.state().stage is Stage.SHADOW
    assert Stage.LIVE not in [line.to for line in drive(one.migration.log())][-1:]
    one.rollback(Stage.OFF)
    assert world.state().stage is Stage.OFF


def test_a_start_that_takes_long_does_not_bring_back_what_has_moved(world: World) -> None:
    one, two = world.process(), world.process()
    two.put("k", b"old")

    def meanwhile() -> None:
        two.to(Stage.COMPLETE)
        two.put("k", b"new")

    world.source.before("list", meanwhile)
    with pytest.raises(PlatformError):
        one.start(accept_losses=True)
    assert world.state().stage is Stage.COMPLETE
    assert one.get("k") == b"new"


def test_a_start_waits_for_urls_of_the_terms_of_before(world: World) -> None:
    generous, strict = world.process(upload_ttl=3600), world.process(upload_ttl=10)
    generous.start(accept_losses=True)
    drive(generous.storage.presign("k", "PUT", expires_in=3600, attributes=Attributes()))
    before = world.state().terms.longest
    strict.start(accept_losses=True)
    assert world.state().terms.longest >= before


# Answers that are lost ----------------------------------------------------------------------


def _lose_answers(world: World, method: str) -> None:
    world.ledger.after(method, late, always=True)


def test_a_step_whose_answer_was_lost_and_that_is_asked_for_again_is_taken_once(
    world: World,
) -> None:
    one = world.process().to(Stage.OFF)
    _lose_answers(world, "move")
    with pytest.raises(DeadlineExceededError):
        one.advance()
    world.ledger.calm()
    assert world.state().stage is Stage.DUALWRITE
    assert one.advance().state.stage is Stage.DUALWRITE
    assert world.state().stage is Stage.DUALWRITE
    # That was the answer: what is asked for from now on is a step of its own.
    one.backfill()
    assert one.advance().state.stage is Stage.SHADOW


def test_a_flip_whose_answer_was_lost_and_that_is_asked_for_again_is_taken_once(
    world: World,
) -> None:
    one = world.process().to(Stage.SHADOW)
    one.verify()
    _lose_answers(world, "move")
    with pytest.raises(DeadlineExceededError):
        one.advance()
    world.ledger.calm()
    assert one.advance().state.stage is Stage.LIVE
    assert world.state().stage is Stage.LIVE


def test_a_rollback_whose_answer_was_lost_and_that_is_asked_for_again_is_taken_once(
    world: World,
) -> None:
    one = world.process().to(Stage.LIVE)
    _lose_answers(world, "move")
    with pytest.raises(DeadlineExceededError):
        one.rollback()
    world.ledger.calm()
    assert one.rollback().state.stage is Stage.SHADOW
    assert world.state().stage is Stage.SHADOW
    assert one.rollback().state.stage is Stage.DUALWRITE


def test_a_step_that_was_lost_altogether_is_taken_when_it_is_asked_for_again(world: World) -> None:
    one = world.process().to(Stage.OFF)
    world.ledger.before("move", late, always=True)
    with pytest.raises(DeadlineExceededError):
        one.advance()
    world.ledger.calm()
    assert one.advance().state.stage is Stage.DUALWRITE


def test_a_step_that_is_taken_late_is_not_taken_again(world: World) -> None:
    one = world.process().to(Stage.OFF)
    kept: list[tuple[Any, ...]] = []
    inner = world.ledger.inner
    moved = inner.move

    async def lost(*args: Any) -> Any:
        kept.append(args)
        late()

    inner.move = lost
    with pytest.raises(DeadlineExceededError):
        one.advance()
    inner.move = moved
    # It arrives just when it is asked for again.
    world.ledger.before("move", lambda: drive(moved(*kept[0])))
    with pytest.raises(UnavailableError):
        one.advance()
    assert one.advance().state.stage is Stage.DUALWRITE
    assert world.state().stage is Stage.DUALWRITE


def test_a_step_that_was_taken_is_not_taken_again_after_others_went_on(world: World) -> None:
    one, two = world.process(), world.process()
    one.to(Stage.OFF)
    _lose_answers(world, "move")
    with pytest.raises(DeadlineExceededError):
        one.advance()
    world.ledger.calm()
    two.backfill()
    two.advance(Stage.SHADOW)
    two.verify()
    # Whoever repeats it means dualwrite.
    assert one.advance().state.stage is Stage.SHADOW
    assert one.advance().state.stage is Stage.LIVE


def test_to_go_back_after_a_lost_answer_is_a_step_of_its_own(world: World) -> None:
    one = world.process().to(Stage.OFF)
    _lose_answers(world, "move")
    with pytest.raises(DeadlineExceededError):
        one.advance()
    world.ledger.calm()
    assert one.rollback().state.stage is Stage.OFF


def test_a_rollback_ends_where_another_operator_goes_on_in_the_middle_of_it(world: World) -> None:
    one, two = world.process(), world.process()
    one.to(Stage.RAMPDOWN)

    def taken_and_lost() -> None:
        two.rollback(Stage.DUALWRITE)
        late()

    world.ledger.after("move", taken_and_lost)
    with pytest.raises(UnavailableError, match="at the same time"):
        one.rollback(Stage.OFF)
    assert world.state().stage is Stage.DUALWRITE


# A tenant that never rests ------------------------------------------------------------------


def test_urls_to_upload_do_not_keep_it_from_its_end(world: World) -> None:
    one = world.process().to(Stage.RAMPDOWN)
    one.verify()

    def signed() -> None:
        world.clock.asleep.append(signed)
        with suppress(UnavailableError):
            drive(one.storage.presign("by-url", "PUT", expires_in=60, attributes=Attributes()))

    signed()
    try:
        one.advance(Stage.COMPLETE)
    finally:
        world.clock.asleep.clear()
    assert world.state().stage is Stage.COMPLETE
    world.target.write("by-url", b"late")
    assert one.get("by-url") == b"late"


def test_what_could_not_be_repaired_is_told_however_much_was(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    world.target.before("put", late, always=True)
    for number in range(3):
        one.put(f"k{number}", b"x")
    one.runtime.drop()
    one.runtime.waiting.clear()
    world.target.calm()
    world.clock.advance(60.0)
    calls = [0]

    def some() -> None:
        calls[0] += 1
        if calls[0] == 1:
            raise InvalidArgumentError("too long a name")

    world.target.before("put", some, always=True)
    assert len(one.repair()) == 1


def test_keys_that_can_never_be_repaired_do_not_stand_in_the_way_of_others(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    world.target.before("put", late, always=True)
    for number in range(60):
        one.put(f"k{number:02}", b"x")
    one.runtime.drop()
    one.runtime.waiting.clear()
    world.target.calm()
    world.clock.advance(60.0)
    done = [0]

    def never() -> None:
        done[0] += 1
        if done[0] <= 50:
            raise InvalidArgumentError("too long a name")

    world.target.before("put", never, always=True)
    failed = one.repair()
    assert len(failed) == 50
    assert len(world.target.all()) == 10


@pytest.mark.parametrize("longest_pause", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pause_without_a_length_is_refused_before_anything_is_asked(
    world: World, longest_pause: float
) -> None:
    one = world.process().to(Stage.SHADOW)
    one.verify()
    world.ledger.calls.clear()
    with pytest.raises(InvalidArgumentError):
        one.advance(Stage.LIVE, longest_pause=longest_pause)
    assert world.ledger.calls == []


def test_the_background_repairs_again_after_it_failed_at_once(world: World) -> None:
    one = world.process().to(Stage.DUALWRITE)
    one.runtime.drop()
    one.runtime.waiting.clear()
    repairer = cast("StorageMover", one.mover)._repairer
    spawn = one.runtime.spawn

    def at_once(coroutine: Coroutine[Any, Any, Any]) -> bool:
        # As a thread may: it is over before whoever started it goes on.
        with suppress(PlatformError):
            drive(coroutine)
        return True

    one.runtime.spawn = at_once  # type: ignore[method-assign]
    world.ledger.before("claim", late)
    repairer.wake()
    one.runtime.spawn = spawn  # type: ignore[method-assign]
    repairer.wake()
    assert len(one.runtime.waiting) == 1


def test_a_process_that_dies_after_a_step_leaves_it_taken(world: World) -> None:
    one, two = world.process(), world.process()
    one.to(Stage.OFF)
    steps: list[Stage] = []
    do_at(Point.MOVED, lambda: steps.append(world.state().stage))
    one.advance()
    assert steps == [Stage.DUALWRITE]
    assert two.backfill()["complete"]
