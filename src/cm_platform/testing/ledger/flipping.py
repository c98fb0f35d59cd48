"""The suite of flips: what must be so before another side is right."""

from __future__ import annotations

import pytest

from cm_platform.migration.ledger import Busy, Purpose, State, authority
from cm_platform.routing import Stage

from .harness import LedgerFace, LedgerHarness, Moving
from .subject import LONG, REPAIRER, WRITER, intent_at, move_to

THERE = (Stage.DUALWRITE, Stage.SHADOW)
BACK = (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE)


class FlippingConformance(LedgerHarness):
    """What `move` does where the authority changes; the same forth and back."""

    @pytest.fixture(params=["there", "back"])
    def flipping(self, request: pytest.FixtureRequest, moving: Moving) -> tuple[Moving, Stage]:
        """A tenant before a flip, and the stage that it would enter."""
        stages, to = (THERE, Stage.LIVE) if request.param == "there" else (BACK, Stage.SHADOW)
        moving.to(*stages)
        return moving, to

    def test_a_flip_that_was_prepared_succeeds(self, flipping: tuple[Moving, Stage]) -> None:
        moving, to = flipping
        before = moving.state
        moving.prepare_flip()
        state = moving.move(to)
        assert state.stage is to
        assert state.authority == authority(to) != before.authority
        assert state.epoch > before.epoch
        assert state.flipped == state.epoch == moving.state.flipped
        assert moving.ledger.log(moving.subject)[-1].epoch == state.flipped

    def test_the_last_flip_is_remembered(self, moving: Moving) -> None:
        assert moving.to(*THERE).flipped == 0
        there = moving.to(Stage.LIVE)
        assert moving.to(Stage.RAMPDOWN).flipped == there.epoch
        assert moving.to(Stage.LIVE).flipped == there.epoch
        back = moving.to(Stage.SHADOW)
        assert back.flipped == back.epoch > there.epoch
        assert moving.to(Stage.DUALWRITE).flipped == back.epoch

    def test_without_an_announcement_there_is_no_flip(
        self, flipping: tuple[Moving, Stage], face: LedgerFace
    ) -> None:
        moving, to = flipping
        moving.pause()
        self.pass_time(face, self.moment * 1.1)
        moving.check_busy(to)

    def test_the_announcement_must_be_as_old_as_a_lease(
        self, flipping: tuple[Moving, Stage], face: LedgerFace
    ) -> None:
        moving, to = flipping
        moving.pause()
        began = face.clock.monotonic()
        moving.announce()
        announced = face.clock.monotonic()
        for share in (0.0, 0.6):
            self.pass_time(face, self.moment * share)
            if self._has_flipped(moving, to, face, began):
                return
        self.pass_time(face, max(0.0, announced + self.moment - face.clock.monotonic()) + 0.001)
        assert moving.move(to).stage is to

    def test_the_announcement_must_still_be_in_force(
        self, flipping: tuple[Moving, Stage], face: LedgerFace
    ) -> None:
        moving, to = flipping
        moving.announce(self.moment * 1.2)
        moving.pause()
        self.pass_time(face, self.moment * 1.3)
        moving.check_busy(to)

    def test_an_announcement_that_was_ended_does_not_count(
        self, flipping: tuple[Moving, Stage]
    ) -> None:
        moving, to = flipping
        moving.prepare_flip()
        moving.announce(0)
        moving.check_busy(to)
        # Nor does it count for the next one.
        moving.announce()
        moving.check_busy(to)

    def test_an_announcement_with_a_gap_counts_from_its_end(
        self, flipping: tuple[Moving, Stage], face: LedgerFace
    ) -> None:
        moving, to = flipping
        moving.pause()
        moving.announce(self.moment * 0.5)
        self.pass_time(face, self.moment * 0.8)
        self.comes_about(lambda: moving.state.lease > 0)
        began = face.clock.monotonic()
        moving.announce()
        announced = face.clock.monotonic()
        # More than a lease after the first: somebody may have got one in between.
        self.pass_time(face, self.moment * 0.5)
        if self._has_flipped(moving, to, face, began):
            return
        self.pass_time(face, max(0.0, announced + self.moment - face.clock.monotonic()) + 0.001)
        assert moving.move(to).stage is to

    def test_an_announcement_that_was_extended_counts_from_its_beginning(
        self, flipping: tuple[Moving, Stage], face: LedgerFace
    ) -> None:
        moving, to = flipping
        moving.announce(self.moment * 100)
        for _ in range(3):
            self.pass_time(face, self.moment * 0.4)
            moving.announce(self.moment * 100)
        moving.pause()
        assert moving.move(to).stage is to

    def test_without_a_pause_there_is_no_flip(self, flipping: tuple[Moving, Stage]) -> None:
        moving, to = flipping
        moving.prepare_flip()
        moving.pause(0)
        moving.check_busy(to)
        moving.pause()
        assert moving.move(to).stage is to

    def test_the_pause_must_still_be_in_force(
        self, flipping: tuple[Moving, Stage], face: LedgerFace
    ) -> None:
        moving, to = flipping
        moving.announce()
        moving.pause(self.moment)
        self.pass_time(face, self.moment * 1.1)
        self.comes_about(lambda: not moving.state.paused)
        moving.check_busy(to)

    @pytest.mark.parametrize("purpose", Purpose)
    def test_while_an_intent_is_open_there_is_no_flip(
        self, flipping: tuple[Moving, Stage], purpose: Purpose
    ) -> None:
        moving, to = flipping
        intent = intent_at("key", purpose)
        moving.begin(intent)
        moving.prepare_flip()
        moving.check_busy(to)
        moving.ledger.end(WRITER, [intent.id])
        assert moving.move(to).stage is to

    def test_an_intent_that_nobody_looks_after_is_open(
        self, flipping: tuple[Moving, Stage]
    ) -> None:
        moving, to = flipping
        (id_,) = moving.begin("key")
        moving.prepare_flip()
        moving.ledger.leave(WRITER, [id_], 0.0)
        moving.check_busy(to)
        self.comes_about(lambda: len(moving.claim()) == 1)
        moving.check_busy(to)
        moving.ledger.end(REPAIRER, [id_])
        assert moving.move(to).stage is to

    def test_all_that_is_missing_is_said(self, flipping: tuple[Moving, Stage]) -> None:
        moving, to = flipping
        prepared = moving.epoch
        all_of_it = moving.check_busy(to)
        moving.begin("key")
        assert len(moving.check_busy(to)) > len(all_of_it)
        assert moving.epoch == prepared

    def test_a_busy_flip_may_be_tried_again_with_the_same_move(
        self, flipping: tuple[Moving, Stage]
    ) -> None:
        moving, to = flipping
        move = move_to(to)
        with pytest.raises(Busy):
            moving.move(move)
        moving.prepare_flip()
        assert moving.move(move).stage is to
        assert moving.ledger.log(moving.subject)[-1].id == move.id

    def test_a_flip_whose_answer_was_lost_is_answered_again(
        self, flipping: tuple[Moving, Stage]
    ) -> None:
        moving, to = flipping
        epoch, move = moving.epoch, move_to(to)
        moving.prepare_flip()
        first = moving.move(move)
        # Nothing is prepared any more, and writers are at work.
        moving.begin("key", lease=LONG)
        again = moving.move(move, epoch=epoch)
        assert isinstance(again, State)
        assert (again.stage, again.epoch, again.flipped) == (to, first.epoch, first.flipped)

    def _has_flipped(self, moving: Moving, to: Stage, face: LedgerFace, announced: float) -> bool:
        # A machine may be slow; then it may, and nothing more is to be seen.
        if moving.is_busy(to):
            return False
        assert face.clock.monotonic() - announced >= self.moment, "a lease is still in use"
        return True


__all__ = ["FlippingConformance"]
