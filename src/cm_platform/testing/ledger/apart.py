"""The suite of isolation: nothing of one tenant, or one kind, touches another's."""

from __future__ import annotations

from uuid import uuid4

import pytest

from cm_platform.migration.ledger import Busy, Subject
from cm_platform.routing import Stage

from .harness import LedgerFace, LedgerHarness, Moving
from .subject import LONG, WRITER, intent_at, move_to


def pairs() -> dict[str, tuple[Subject, Subject]]:
    """Two subjects that are easily taken for each other."""
    id_ = str(uuid4())
    return {
        "two tenants": (Subject("storage", f"{id_}-a"), Subject("storage", f"{id_}-b")),
        "two kinds": (Subject("storage", id_), Subject("cache", id_)),
        "two namespaces": (Subject("cache", id_), Subject("cache.sessions", id_)),
        "one begins like the other": (Subject("cache", id_), Subject("cache", f"{id_}0")),
        "together the same": (Subject("cache", f"s{id_}"), Subject("caches", id_)),
        "they differ in case": (Subject("cache", f"a{id_}"), Subject("cache", f"A{id_}")),
        "one is a pattern": (Subject("cache", f"x{id_}"), Subject("cache", f"_{id_}")),
    }


class ApartConformance(LedgerHarness):
    """Two subjects, one of which moves."""

    @pytest.fixture(params=sorted(pairs()))
    def two(self, request: pytest.FixtureRequest, face: LedgerFace) -> tuple[Moving, Moving]:
        """Two migrations, in the stage dualwrite."""
        one, other = (self.started(face, subject) for subject in pairs()[request.param])
        one.to_dualwrite()
        other.to_dualwrite()
        return one, other

    def test_intents_are_one_subjects(self, two: tuple[Moving, Moving]) -> None:
        one, other = two
        one.begin("key", lease=0.0)
        assert not other.is_pending("key")
        assert other.pending.count == 0
        self.comes_about(lambda: one.pending.due == 1)
        assert other.claim() == []
        assert len(one.claim()) == 1

    def test_an_epoch_is_one_subjects(self, two: tuple[Moving, Moving]) -> None:
        one, other = two
        before = other.state
        one.to(Stage.SHADOW, Stage.DUALWRITE)
        after = other.state
        assert (after.epoch, after.stage) == (before.epoch, before.stage)
        assert not other.is_refused(epoch=before.epoch)
        assert one.is_refused(epoch=before.epoch)

    def test_a_pause_and_an_announcement_are_one_subjects(self, two: tuple[Moving, Moving]) -> None:
        one, other = two
        one.announce()
        one.pause()
        assert (other.state.lease, other.state.paused) == (self.moment, False)
        assert not other.is_refused()
        other.pause(0)
        other.announce(0)
        assert (one.state.lease, one.state.paused) == (0, True)

    def test_a_flip_waits_for_ones_own_intents_only(self, two: tuple[Moving, Moving]) -> None:
        one, other = two
        (id_,) = other.begin("key")
        one.prepare_flip()
        with pytest.raises(Busy):
            other.move(Stage.LIVE)
        assert one.move(Stage.LIVE).authority == "target"
        assert other.state.authority == "source"
        assert other.ledger.extend(WRITER, [id_], LONG)

    def test_log_and_evidence_are_one_subjects(self, two: tuple[Moving, Moving]) -> None:
        one, other = two
        ledger, lines = one.ledger, list(other.ledger.log(other.subject))
        ledger.note(one.subject, "verify", {"clean": True})
        ledger.count(one.subject, {("images", "same"): 1})
        ledger.skip(one.subject, "key", "reason")
        assert dict(ledger.notes(other.subject)) == {}
        assert dict(ledger.counts(other.subject)) == {}
        assert list(ledger.skipped(other.subject, 10)) == []
        ledger.reset_counts(other.subject)
        ledger.unskip(other.subject, ["key"])
        other.to(Stage.OFF)
        other.start(self.terms())
        assert set(ledger.notes(one.subject)) == {"verify"}
        assert dict(ledger.counts(one.subject)) == {("images", "same"): 1}
        assert len(ledger.skipped(one.subject, 10)) == 1
        one.to(Stage.SHADOW)
        assert list(ledger.log(other.subject))[: len(lines)] == lines
        assert len(ledger.log(other.subject)) == len(lines) + 2

    def test_subjects_of_one_name_move_by_themselves(self, face: LedgerFace) -> None:
        # The same move may be made for each namespace of a tenant.
        move, id_ = move_to(Stage.OFF), str(uuid4())
        subjects = [Subject("cache", id_), Subject("cache.sessions", id_)]
        for subject in subjects:
            face.calls.start(subject, self.terms(), move)
        assert [len(face.calls.log(subject)) for subject in subjects] == [1, 1]

    def test_one_owner_has_intents_of_many(self, two: tuple[Moving, Moving]) -> None:
        one, other = two
        (first,) = one.begin(intent_at("key"))
        (second,) = other.begin(intent_at("key"))
        assert one.ledger.extend(WRITER, [first, second], LONG)
        one.ledger.end(WRITER, [first, second])
        assert one.pending.count == other.pending.count == 0


__all__ = ["ApartConformance"]
