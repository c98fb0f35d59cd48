"""The suite of transitions: one wins, it wins once, and what it leaves."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.migration.ledger import Fenced, State, Subject
from cm_platform.routing import Stage

from .harness import LedgerFace, LedgerHarness, Moving
from .subject import LONG, PATH, REPAIRER, WRITER, intent_at, move_to, path_to


class MovingConformance(LedgerHarness):
    """What `move` does where the authority stays."""

    def test_a_move_enters_a_stage_and_raises_the_epoch(self, moving: Moving) -> None:
        before = moving.state
        state = moving.move(Stage.DUALWRITE)
        assert state.stage is Stage.DUALWRITE
        assert state.epoch > before.epoch
        assert state.terms == before.terms
        assert state.flipped == 0
        assert 0 <= state.age < 5
        found = moving.state
        assert (found.stage, found.epoch, found.terms) == (
            state.stage,
            state.epoch,
            state.terms,
        )

    def test_what_never_started_does_not_move(self, face: LedgerFace, subject: Subject) -> None:
        for epoch in (0, 1):
            with pytest.raises(Fenced):
                face.calls.move(subject, epoch, move_to(Stage.DUALWRITE))
        assert face.calls.state(subject) is None
        assert list(face.calls.log(subject)) == []

    @pytest.mark.parametrize("off", [-1, 1])
    def test_only_who_knows_the_epoch_moves(self, writing: Moving, off: int) -> None:
        before, lines = writing.state, len(writing.ledger.log(writing.subject))
        with pytest.raises(Fenced):
            writing.move(Stage.SHADOW, epoch=before.epoch + off)
        assert (writing.state.stage, writing.epoch) == (before.stage, before.epoch)
        assert len(writing.ledger.log(writing.subject)) == lines

    def test_of_many_that_move_at_once_one_does(self, writing: Moving, face: LedgerFace) -> None:
        epoch = writing.epoch
        moves = [move_to(Stage.SHADOW, who=f"operator {n}") for n in range(8)]

        async def mover(number: int) -> State | None:
            try:
                return await face.ledger.move(writing.subject, epoch, moves[number])
            except Fenced:
                return None

        states = face.at_once([mover(number) for number in range(8)])
        (winner,) = [number for number, state in enumerate(states) if state is not None]
        last = writing.ledger.log(writing.subject)[-1]
        assert (last.id, last.who) == (moves[winner].id, f"operator {winner}")
        assert last.epoch == writing.epoch

    def test_the_same_move_is_made_once(self, moving: Moving) -> None:
        epoch, move = moving.epoch, move_to(Stage.DUALWRITE)
        first = moving.move(move, epoch=epoch)
        again = moving.move(move, epoch=epoch)
        assert (again.stage, again.epoch) == (first.stage, first.epoch)
        assert moving.epoch == first.epoch
        assert [line.id for line in moving.ledger.log(moving.subject)].count(move.id) == 1

    def test_the_same_move_is_made_once_although_others_followed(self, moving: Moving) -> None:
        epoch, move = moving.epoch, move_to(Stage.DUALWRITE)
        moving.move(move, epoch=epoch)
        last = moving.to(Stage.SHADOW)
        lines = len(moving.ledger.log(moving.subject))
        again = moving.move(move, epoch=epoch)
        assert (again.stage, again.epoch) == (Stage.SHADOW, last.epoch)
        assert len(moving.ledger.log(moving.subject)) == lines

    def test_the_same_move_at_once_is_made_once(self, moving: Moving, face: LedgerFace) -> None:
        epoch, move = moving.epoch, move_to(Stage.DUALWRITE)
        states = face.at_once([face.ledger.move(moving.subject, epoch, move) for _ in range(6)])
        assert {(state.stage, state.epoch) for state in states} == {(Stage.DUALWRITE, moving.epoch)}
        assert len(moving.ledger.log(moving.subject)) == 2

    def test_another_move_is_not_taken_for_the_one_that_was_made(self, moving: Moving) -> None:
        epoch = moving.epoch
        moving.move(Stage.DUALWRITE, epoch=epoch)
        with pytest.raises(Fenced):
            moving.move(Stage.DUALWRITE, epoch=epoch)
        assert len(moving.ledger.log(moving.subject)) == 2

    def test_a_move_is_not_taken_for_a_later_one_of_another_epoch(self, moving: Moving) -> None:
        early = moving.epoch
        moving.to(Stage.DUALWRITE)
        move = move_to(Stage.SHADOW)
        moving.move(move)
        # It was made, but it did not change this epoch.
        with pytest.raises(Fenced):
            moving.move(move, epoch=early)

    @pytest.mark.parametrize(
        ("stages", "to"),
        [
            ((), Stage.DUALWRITE),
            ((Stage.DUALWRITE,), Stage.SHADOW),
            ((Stage.DUALWRITE,), Stage.OFF),
            ((Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE), Stage.RAMPDOWN),
            ((Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN), Stage.COMPLETE),
        ],
        ids=str,
    )
    def test_where_the_authority_stays_nobody_is_waited_for(
        self, moving: Moving, stages: tuple[Stage, ...], to: Stage
    ) -> None:
        before = moving.to(*stages)
        (id_,) = moving.begin("key")
        after = moving.move(to)
        assert (after.stage, after.authority) == (to, before.authority)
        assert after.flipped == before.flipped
        # What is open stays so, and its owner's.
        assert moving.is_pending("key")
        assert moving.ledger.extend(WRITER, [id_], LONG)
        moving.ledger.end(WRITER, [id_])
        assert moving.pending.count == 0

    def test_what_is_due_is_claimed_in_the_next_stage(self, writing: Moving) -> None:
        intent = intent_at("key")
        writing.begin(intent, lease=0.0)
        writing.move(Stage.SHADOW)
        self.comes_about(lambda: writing.claim() == [intent])
        writing.ledger.end(REPAIRER, [intent.id])
        assert writing.pending.count == 0

    @pytest.mark.parametrize("to", [Stage.SHADOW, Stage.LIVE])
    def test_a_move_ends_announcement_and_pause(self, writing: Moving, to: Stage) -> None:
        writing.prepare_flip()
        state = writing.move(to)
        assert (state.lease, state.paused) == (self.moment, False)
        assert (writing.state.lease, writing.state.paused) == (self.moment, False)
        assert not writing.is_refused()
        writing.pause()
        # What was announced for the flip before does not count for the next one.
        writing.check_busy(Stage.SHADOW if to is Stage.LIVE else Stage.LIVE)

    def test_entering_dualwrite_from_off_removes_the_evidence_of_before(
        self, moving: Moving
    ) -> None:
        moving.to(Stage.DUALWRITE)
        moving.to(Stage.OFF)
        self._leave_evidence(moving)
        moving.to(Stage.DUALWRITE)
        assert self._evidence(moving) == ({}, {}, [])

    @pytest.mark.parametrize("to", [Stage.OFF, *PATH[1:]])
    def test_other_moves_keep_the_evidence(self, moving: Moving, to: Stage) -> None:
        moving.to(*(path_to(to)[:-1] or [Stage.DUALWRITE]))
        self._leave_evidence(moving)
        before = self._evidence(moving)
        moving.to(to)
        assert self._evidence(moving) == before

    def test_coming_back_to_dualwrite_keeps_the_evidence(self, moving: Moving) -> None:
        moving.to(Stage.DUALWRITE, Stage.SHADOW)
        self._leave_evidence(moving)
        before = self._evidence(moving)
        moving.to(Stage.DUALWRITE)
        assert self._evidence(moving) == before

    def test_a_refused_move_removes_no_evidence(self, moving: Moving) -> None:
        epoch = moving.epoch
        self._leave_evidence(moving)
        before = self._evidence(moving)
        with pytest.raises(Fenced):
            moving.move(Stage.DUALWRITE, epoch=epoch - 1)
        assert self._evidence(moving) == before

    def _leave_evidence(self, moving: Moving) -> None:
        moving.ledger.note(moving.subject, "backfill", {"cursor": "k"})
        moving.ledger.count(moving.subject, {("images", "same"): 2})
        moving.ledger.skip(moving.subject, "key", "reason")

    def _evidence(self, moving: Moving) -> Any:
        ledger, subject = moving.ledger, moving.subject
        return (
            {name: note.body for name, note in ledger.notes(subject).items()},
            dict(ledger.counts(subject)),
            list(ledger.skipped(subject, 10)),
        )


__all__ = ["MovingConformance"]
