"""The suite of those who repair: what they may take over, and that nobody else gets it."""

from __future__ import annotations

from collections import Counter

import pytest

from cm_platform.migration.ledger import Pending, Purpose
from cm_platform.routing import Stage

from .harness import LedgerFace, LedgerHarness, Moving
from .subject import LONG, PATH, REPAIRER, WRITER, intent_at, intents_at, path_to


class ClaimingConformance(LedgerHarness):
    """What is due, what is taken over, and what is pending."""

    def test_where_nothing_is_due_nothing_is_claimed(self, writing: Moving) -> None:
        assert writing.claim() == []
        (id_,) = writing.begin("key")
        assert writing.claim() == []
        assert writing.ledger.extend(WRITER, [id_], LONG)

    def test_an_intent_is_due_when_its_time_is_over(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        self.runs_out(
            face,
            self.moment,
            lambda: writing.begin("key", lease=self.moment),
            lambda: writing.pending.due == 0,
        )
        assert [intent.key for intent in writing.claim()] == ["key"]

    def test_an_intent_is_not_claimed_before_its_time(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        self.runs_out(
            face,
            self.moment,
            lambda: writing.begin("key", lease=self.moment),
            lambda: writing.claim() == [],
        )

    @pytest.mark.parametrize("purpose", Purpose)
    def test_an_intent_is_claimed_as_it_was_begun(self, writing: Moving, purpose: Purpose) -> None:
        intent = intent_at("a/key", purpose)
        writing.begin(intent, lease=0.0)
        self.comes_about(lambda: writing.claim() == [intent])

    def test_the_oldest_are_claimed_first(self, writing: Moving, face: LedgerFace) -> None:
        intents = intents_at([f"key-{n}" for n in (3, 1, 4, 2, 5)])
        for intent in intents:
            writing.begin(intent, lease=0.0)
            self.pass_time(face, 0.01)
        kept = intent_at("not due")
        writing.begin(kept)
        self.comes_about(lambda: writing.pending.due == 5)
        assert writing.claim(limit=2) == intents[:2]
        assert writing.claim(limit=2) == intents[2:4]
        assert writing.claim(limit=2) == intents[4:]
        assert writing.claim(limit=2) == []

    def test_old_ones_are_claimed_although_younger_ones_were_due_before(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        old, young = intents_at(["old", "young"])
        writing.begin(old, lease=self.moment)
        self.pass_time(face, 0.01)
        writing.begin(young, lease=0.0)
        self.pass_time(face, self.moment * 1.1)
        self.comes_about(lambda: writing.pending.due == 2)
        assert writing.claim(limit=1) == [old]

    def test_what_was_claimed_is_claimed_again_when_that_time_is_over(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        intent = intent_at("key")
        writing.begin(intent, lease=0.0)
        self.comes_about(lambda: writing.pending.due == 1)
        self.runs_out(
            face,
            self.moment,
            lambda: writing.claim(owner="dies", lease=self.moment),
            lambda: writing.claim(owner="heir") == [],
        )
        assert writing.ledger.extend("dies", [intent.id], LONG) is False
        assert writing.ledger.extend("heir", [intent.id], LONG) is True

    def test_a_claim_that_was_left_is_due_again(self, writing: Moving) -> None:
        intent = intent_at("key")
        writing.begin(intent, lease=0.0)
        self.comes_about(lambda: writing.claim() == [intent])
        writing.ledger.leave(REPAIRER, [intent.id], 0.0)
        self.comes_about(lambda: writing.claim(owner="heir") == [intent])

    @pytest.mark.parametrize("stage", PATH[:4])
    def test_intents_are_claimed_in_every_stage(self, moving: Moving, stage: Stage) -> None:
        moving.to(*path_to(stage))
        intent = intent_at("key")
        moving.begin(intent, lease=0.0)
        self.comes_about(lambda: moving.claim() == [intent])

    def test_intents_are_claimed_while_writing_is_paused(self, writing: Moving) -> None:
        intent = intent_at("key")
        writing.begin(intent, lease=0.0)
        writing.announce()
        writing.pause()
        self.comes_about(lambda: writing.claim() == [intent])
        assert writing.ledger.extend(REPAIRER, [intent.id], LONG)
        writing.ledger.end(REPAIRER, [intent.id])
        assert writing.pending.count == 0

    def test_no_intent_is_claimed_twice_at_once(self, writing: Moving, face: LedgerFace) -> None:
        intents = intents_at([f"key-{n}" for n in range(40)])
        writing.begin(*intents, lease=0.0)
        self.comes_about(lambda: writing.pending.due == 40)

        async def claimer(number: int) -> list[str]:
            found: list[str] = []
            for _ in intents:
                claimed = await face.ledger.claim(writing.subject, f"claimer-{number}", LONG, 3)
                found += [intent.id for intent in claimed]
                if not claimed:
                    break
            return found

        taken = face.at_once([claimer(number) for number in range(8)])
        times = Counter(id_ for some in taken for id_ in some)
        assert times == Counter(intent.id for intent in intents)
        for number, some in enumerate(taken):
            assert face.calls.extend(f"claimer-{number}", some, LONG)

    def test_who_ends_and_who_claims_at_once_do_not_both_succeed(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        intents = intents_at([f"key-{n}" for n in range(20)])
        writing.begin(*intents, lease=0.0)
        self.comes_about(lambda: writing.pending.due == 20)

        async def ends() -> list[str]:
            for intent in intents:
                await face.ledger.end(WRITER, [intent.id])
            return []

        async def claims() -> list[str]:
            found: list[str] = []
            for _ in intents:
                some = await face.ledger.claim(writing.subject, REPAIRER, LONG, 1)
                found += [intent.id for intent in some]
            return found

        _, claimed = face.at_once([ends(), claims()])
        assert writing.pending.count == len(claimed)
        assert face.calls.extend(REPAIRER, claimed, LONG) is True

    def test_without_intents_nothing_is_pending(self, writing: Moving) -> None:
        assert writing.pending == Pending(0, 0, 0.0, 0, 0.0)
        assert not writing.is_pending("key")

    def test_intents_of_all_purposes_are_pending(self, writing: Moving) -> None:
        writing.begin(*[intent_at("key", purpose) for purpose in Purpose])
        assert writing.pending.count == 3
        assert writing.pending.due == 0
        assert writing.pending.uploads == 1

    def test_the_age_of_the_oldest_is_told(self, writing: Moving, face: LedgerFace) -> None:
        (first,) = writing.begin("first", lease=0.0)
        assert 0 <= writing.pending.oldest < self.moment + 5
        self.pass_time(face, self.moment)
        (second,) = writing.begin("second")
        oldest = writing.pending.oldest
        assert self.moment <= oldest < self.moment + 5
        # Not since it was claimed, but since it is there.
        self.comes_about(lambda: len(writing.claim()) == 1)
        assert writing.pending.oldest >= oldest
        writing.ledger.end(REPAIRER, [first])
        assert writing.pending.oldest < oldest
        writing.ledger.end(WRITER, [second])

    def test_it_is_told_how_long_uploads_must_be_waited_for(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        writing.begin("write", lease=4 * LONG)
        writing.begin(intent_at("a", Purpose.UPLOAD), lease=LONG)
        writing.begin(intent_at("b", Purpose.UPLOAD), lease=2 * LONG)
        found = writing.pending
        assert found.uploads == 2
        assert 2 * LONG - 10 < found.until <= 2 * LONG
        writing.begin(intent_at("c", Purpose.UPLOAD), lease=self.moment)
        assert writing.pending.uploads == 3
        assert writing.pending.until > LONG

    def test_an_upload_is_due_when_its_url_has_expired(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        intent = intent_at("key", Purpose.UPLOAD)
        self.runs_out(
            face,
            self.moment,
            lambda: writing.begin(intent, lease=self.moment),
            lambda: writing.pending.until > 0,
        )
        assert writing.pending.due == 1
        assert writing.claim() == [intent]
        writing.ledger.end(REPAIRER, [intent.id])
        assert writing.pending == Pending(0, 0, 0.0, 0, 0.0)


__all__ = ["ClaimingConformance"]
