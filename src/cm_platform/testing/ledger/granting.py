"""The suite of leases: for how long what the ledger says may be used."""

from __future__ import annotations

from cm_platform.migration.ledger import authority, is_mirrored
from cm_platform.routing import Stage

from .harness import TOLERANCE, LedgerFace, LedgerHarness, Moving
from .subject import LONG, PATH


class GrantingConformance(LedgerHarness):
    """What `state` says, and for how long."""

    def test_a_state_may_be_used_for_the_lease_that_was_agreed(self, writing: Moving) -> None:
        assert writing.state.lease == writing.state.terms.lease == self.moment

    def test_while_a_flip_is_announced_no_lease_is_granted(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        self.runs_out(
            face,
            self.moment,
            lambda: writing.announce(self.moment),
            lambda: writing.state.lease == 0,
        )
        assert writing.state.lease == self.moment

    def test_leases_are_granted_when_an_announcement_is_ended(self, writing: Moving) -> None:
        writing.announce()
        assert writing.state.lease == 0
        writing.announce(0)
        assert writing.state.lease == self.moment
        writing.announce(0)
        assert writing.state.lease == self.moment

    def test_an_announcement_is_extended_by_another(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        writing.announce(self.moment)
        writing.announce()
        self.pass_time(face, self.moment * 1.1)
        assert writing.state.lease == 0

    def test_a_pause_is_told_while_it_lasts(self, writing: Moving, face: LedgerFace) -> None:
        assert not writing.state.paused
        self.runs_out(
            face, self.moment, lambda: writing.pause(self.moment), lambda: writing.state.paused
        )
        self._pauses(writing, LONG, expected=True)
        self._pauses(writing, 0, expected=False)

    def _pauses(self, writing: Moving, seconds: float, *, expected: bool) -> None:
        writing.pause(seconds)
        assert writing.state.paused is expected

    def test_pause_and_announcement_are_two_things(self, writing: Moving) -> None:
        writing.pause()
        assert writing.state.lease == self.moment
        writing.announce()
        writing.pause(0)
        assert writing.state.lease == 0
        assert writing.state.paused is False
        writing.pause()
        writing.announce(0)
        assert writing.state.lease == self.moment
        assert writing.state.paused is True

    def test_pause_and_announcement_change_neither_epoch_nor_log(self, writing: Moving) -> None:
        before, lines = writing.state, len(writing.ledger.log(writing.subject))
        for seconds in (LONG, 0.0):
            writing.pause(seconds)
            writing.announce(seconds)
        after = writing.state
        assert (after.epoch, after.stage, after.flipped) == (
            before.epoch,
            before.stage,
            before.flipped,
        )
        assert len(writing.ledger.log(writing.subject)) == lines

    def test_the_age_of_a_stage_is_told(self, writing: Moving, face: LedgerFace) -> None:
        assert 0 <= writing.state.age < self.moment + 5
        self.pass_time(face, self.moment)
        age = writing.state.age
        assert self.moment <= age < self.moment + 5
        writing.pause()
        writing.announce()
        assert writing.state.age >= age
        began = face.clock.monotonic()
        assert writing.move(Stage.SHADOW).age >= 0
        after = writing.state.age
        assert 0 <= after <= face.clock.monotonic() - began + TOLERANCE

    def test_every_stage_says_which_side_is_right(self, moving: Moving) -> None:
        assert moving.state.authority == "source"
        for stage in PATH:
            state = moving.to(stage)
            assert state.stage is stage
            assert state.authority == authority(stage)
            assert is_mirrored(state.stage) is (stage is not Stage.COMPLETE)


__all__ = ["GrantingConformance"]
