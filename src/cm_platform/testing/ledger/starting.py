"""The suite of beginnings: how a migration starts, starts anew, or may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cm_platform.migration.ledger import Fenced, Subject, Terms
from cm_platform.routing import Stage

from .harness import LedgerFace, LedgerHarness, Moving, new_subject
from .subject import LONG, PATH, move_to, path_to


class StartingConformance(LedgerHarness):
    """What `start` does."""

    def test_of_what_never_moved_nothing_is_known(self, face: LedgerFace, subject: Subject) -> None:
        assert face.calls.state(subject) is None
        assert list(face.calls.log(subject)) == []
        assert subject not in [known for known, _ in face.calls.subjects()]

    def test_a_migration_starts_in_the_stage_off(self, face: LedgerFace, subject: Subject) -> None:
        terms = self.terms()
        state = face.calls.start(subject, terms, move_to(Stage.OFF))
        assert state.stage is Stage.OFF
        assert state.terms == terms
        assert state.lease == terms.lease
        assert state.epoch >= 1
        assert state.flipped == 0
        assert state.paused is False
        assert 0 <= state.age < 5
        again = face.calls.state(subject)
        assert (again.stage, again.epoch, again.terms) == (Stage.OFF, state.epoch, terms)

    def test_the_terms_are_kept_exactly(self, face: LedgerFace, subject: Subject) -> None:
        terms = Terms("a-migration", "old-1", "new-2", lease=0.1, longest=1 / 3, soak=1e9 + 0.125)
        face.calls.start(subject, terms, move_to(Stage.OFF))
        assert face.calls.state(subject).terms == terms

    def test_a_start_is_in_the_log(self, face: LedgerFace, subject: Subject) -> None:
        move = move_to(Stage.OFF, who="somebody", evidence={"plan": [1]}, reason="because")
        state = face.calls.start(subject, self.terms(), move)
        (line,) = face.calls.log(subject)
        assert (line.id, line.epoch, line.who) == (move.id, state.epoch, "somebody")
        assert (line.before, line.to) == (None, Stage.OFF)
        assert (line.evidence, line.reason) == ({"plan": [1]}, "because")
        assert line.at > 0

    def test_what_was_started_is_listed(self, face: LedgerFace) -> None:
        ours = [new_subject("storage"), new_subject("cache.sessions"), new_subject("cache")]
        for subject in ours:
            face.calls.start(subject, self.terms(), move_to(Stage.OFF))
        listed = [(known, state) for known, state in face.calls.subjects() if known in ours]
        assert [known for known, _ in listed] == sorted(
            ours, key=lambda subject: (subject.kind, subject.tenant_id)
        )
        for subject, state in listed:
            assert state.epoch == face.calls.state(subject).epoch
            assert state.terms == self.terms()

    @pytest.mark.parametrize("stage", [Stage.OFF, *PATH])
    def test_the_same_move_starts_once(self, face: LedgerFace, stage: Stage) -> None:
        subject, move = new_subject(), move_to(Stage.OFF)
        moving = Moving(face, subject, lambda seconds: self.pass_time(face, seconds))
        moving.start(self.terms(), move)
        before = moving.to(*path_to(stage))
        lines = len(face.calls.log(subject))
        again = moving.start(self.terms(), move)
        assert (again.stage, again.epoch) == (stage, before.epoch)
        assert moving.epoch == before.epoch
        assert len(face.calls.log(subject)) == lines

    def test_the_same_move_at_once_starts_once(self, face: LedgerFace, subject: Subject) -> None:
        move = move_to(Stage.OFF)
        states = face.at_once([face.ledger.start(subject, self.terms(), move) for _ in range(6)])
        assert {state.epoch for state in states} == {face.calls.state(subject).epoch}
        assert len(face.calls.log(subject)) == 1

    @pytest.mark.parametrize("stage", PATH[:4])
    def test_nothing_starts_while_a_migration_is_under_way(
        self, moving: Moving, stage: Stage
    ) -> None:
        before = moving.to(*path_to(stage))
        lines = len(moving.ledger.log(moving.subject))
        with pytest.raises(Fenced):
            moving.start(self.terms(migration="another"))
        after = moving.state
        assert (after.stage, after.epoch, after.terms) == (stage, before.epoch, before.terms)
        assert len(moving.ledger.log(moving.subject)) == lines

    def test_in_the_stage_off_another_may_start(self, moving: Moving) -> None:
        before = moving.epoch
        state = moving.start(self.terms(migration="another"))
        assert state.epoch > before
        assert state.stage is Stage.OFF
        assert moving.state.terms.migration == "another"
        assert moving.is_refused(epoch=before)
        assert [line.before for line in moving.ledger.log(moving.subject)] == [None, None]

    def test_a_migration_that_is_complete_is_followed_by_another(self, moving: Moving) -> None:
        done = moving.to(*PATH)
        lines = list(moving.ledger.log(moving.subject))
        back = Terms("back", "new", "old", lease=self.moment)
        state = moving.start(back)
        assert (state.stage, state.terms) == (Stage.OFF, back)
        assert state.epoch > done.epoch
        assert state.authority == "source"
        assert moving.is_refused(epoch=done.epoch)
        assert not moving.is_refused()
        log = list(moving.ledger.log(moving.subject))
        assert log[:-1] == lines
        assert (log[-1].before, log[-1].to) == (None, Stage.OFF)

    @pytest.mark.parametrize("stage", [Stage.OFF, Stage.COMPLETE])
    def test_none_starts_where_the_data_is_not(self, moving: Moving, stage: Stage) -> None:
        before = moving.to(*path_to(stage))
        lines = len(moving.ledger.log(moving.subject))
        away = Terms("away", "old" if stage is Stage.COMPLETE else "new", "newest")
        with pytest.raises(Fenced):
            moving.start(away)
        after = moving.state
        assert (after.stage, after.epoch, after.terms) == (stage, before.epoch, before.terms)
        assert len(moving.ledger.log(moving.subject)) == lines

    @pytest.mark.parametrize("stage", [Stage.OFF, Stage.COMPLETE])
    def test_the_evidence_of_an_earlier_one_is_removed(self, moving: Moving, stage: Stage) -> None:
        moving.to(*path_to(stage))
        ledger, subject = moving.ledger, moving.subject
        ledger.note(subject, "verify", {"clean": True})
        ledger.count(subject, {("group", "same"): 1})
        ledger.skip(subject, "key", "reason")
        home = moving.state.terms.target if stage is Stage.COMPLETE else moving.state.terms.source
        moving.start(replace(self.terms(), source=home, target="newest"))
        assert dict(ledger.notes(subject)) == {}
        assert dict(ledger.counts(subject)) == {}
        assert list(ledger.skipped(subject, 10)) == []

    def test_a_start_ends_announcement_and_pause(self, moving: Moving) -> None:
        moving.announce()
        moving.pause()
        state = moving.start(self.terms())
        assert (state.lease, state.paused) == (self.moment, False)
        assert not moving.is_refused()

    def test_a_start_that_is_refused_removes_nothing(self, writing: Moving) -> None:
        writing.ledger.note(writing.subject, "verify", {"clean": True})
        writing.ledger.skip(writing.subject, "key", "reason")
        writing.begin("key", lease=LONG)
        with pytest.raises(Fenced):
            writing.start(self.terms())
        assert set(writing.ledger.notes(writing.subject)) == {"verify"}
        assert len(writing.ledger.skipped(writing.subject, 10)) == 1
        assert writing.is_pending("key")


__all__ = ["StartingConformance"]
