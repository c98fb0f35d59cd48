"""The suite of owners: an intent is its owner's, until he gives it up or another takes it."""

from __future__ import annotations

from .harness import LedgerFace, LedgerHarness, Moving
from .subject import LONG, REPAIRER, WRITER, intent_at


class OwningConformance(LedgerHarness):
    """What `end`, `leave` and `extend` do to what is whose."""

    def test_an_intent_that_ends_is_gone(self, writing: Moving) -> None:
        one, two, three = writing.begin("a", "b", "c")
        writing.ledger.end(WRITER, [one, three])
        assert [writing.is_pending(key) for key in "abc"] == [False, True, False]
        writing.ledger.end(WRITER, [two])
        assert writing.pending.count == 0

    def test_what_is_not_there_is_ended_without_an_error(self, writing: Moving) -> None:
        (id_,) = writing.begin("key")
        for _ in range(2):
            writing.ledger.end(WRITER, [id_])
        writing.ledger.end(WRITER, ["never", "heard", "of"])
        writing.ledger.end(WRITER, [])
        assert writing.pending.count == 0

    def test_nobody_else_ends_an_intent(self, writing: Moving) -> None:
        (mine,) = writing.begin("key")
        (theirs,) = writing.begin("another", owner="another")
        writing.ledger.end("another", [mine, theirs])
        assert writing.is_pending("key")
        assert not writing.is_pending("another")

    def test_what_was_left_is_due_at_once(self, writing: Moving) -> None:
        (id_,) = writing.begin("key")
        writing.ledger.leave(WRITER, [id_], 0.0)
        assert writing.is_pending("key")
        self.comes_about(lambda: writing.pending.due == 1)

    def test_what_was_left_is_due_after_its_time(self, writing: Moving, face: LedgerFace) -> None:
        (id_,) = writing.begin("key")
        self.runs_out(
            face,
            self.moment,
            lambda: writing.ledger.leave(WRITER, [id_], self.moment),
            lambda: writing.pending.due == 0,
        )

    def test_what_was_left_is_not_its_owners_any_more(self, writing: Moving) -> None:
        (id_,) = writing.begin("key")
        writing.ledger.leave(WRITER, [id_], LONG)
        writing.ledger.end(WRITER, [id_])
        assert writing.is_pending("key")
        assert not writing.ledger.extend(WRITER, [id_], LONG)

    def test_what_was_left_twice_has_its_first_time(self, writing: Moving) -> None:
        (id_,) = writing.begin("key")
        writing.ledger.leave(WRITER, [id_], 0.0)
        writing.ledger.leave(WRITER, [id_], LONG)
        self.comes_about(lambda: writing.pending.due == 1)

    def test_nobody_else_leaves_an_intent(self, writing: Moving) -> None:
        (id_,) = writing.begin("key")
        writing.ledger.leave("another", [id_], 0.0)
        writing.ledger.leave("another", ["never heard of"], 0.0)
        assert writing.claim() == []
        assert writing.ledger.extend(WRITER, [id_], LONG)

    def test_some_are_left_and_others_kept(self, writing: Moving) -> None:
        kept, left = writing.begin("kept", "left")
        writing.ledger.leave(WRITER, [left], 0.0)
        self.comes_about(lambda: [intent.id for intent in writing.claim()] == [left])
        writing.ledger.end(WRITER, [kept, left])
        assert not writing.is_pending("kept")
        assert writing.is_pending("left")

    def test_an_extended_intent_is_due_later(self, writing: Moving, face: LedgerFace) -> None:
        ids = writing.begin("a", "b", lease=self.moment)
        assert writing.ledger.extend(WRITER, ids, LONG) is True
        self.pass_time(face, self.moment * 1.1)
        assert writing.pending.due == 0
        assert writing.claim() == []

    def test_an_extended_intent_is_due_one_day(self, writing: Moving, face: LedgerFace) -> None:
        ids = writing.begin("a", lease=0.0)
        self.runs_out(
            face,
            self.moment,
            lambda: writing.ledger.extend(WRITER, ids, self.moment),
            lambda: writing.pending.due == 0,
        )

    def test_what_is_due_and_nobody_took_is_its_owners_still(self, writing: Moving) -> None:
        ids = writing.begin("a", lease=0.0)
        self.comes_about(lambda: writing.pending.due == 1)
        assert writing.ledger.extend(WRITER, ids, LONG) is True
        assert writing.claim() == []
        writing.ledger.end(WRITER, ids)
        assert writing.pending.count == 0

    def test_what_is_another_owners_is_not_extended(
        self, writing: Moving, face: LedgerFace
    ) -> None:
        (id_,) = writing.begin("key", lease=self.moment)
        assert writing.ledger.extend("another", [id_], LONG) is False
        self.pass_time(face, self.moment * 1.1)
        self.comes_about(lambda: writing.pending.due == 1)

    def test_one_that_is_gone_makes_all_of_them_doubtful(self, writing: Moving) -> None:
        one, two = writing.begin("a", "b")
        (theirs,) = writing.begin("c", owner="another")
        assert writing.ledger.extend(WRITER, [one, two], LONG) is True
        assert writing.ledger.extend(WRITER, [one, theirs], LONG) is False
        assert writing.ledger.extend(WRITER, [one, "never heard of"], LONG) is False
        writing.ledger.end(WRITER, [two])
        assert writing.ledger.extend(WRITER, [one, two], LONG) is False
        assert writing.ledger.extend(WRITER, [one], LONG) is True

    def test_what_was_claimed_is_not_its_owners_any_more(self, writing: Moving) -> None:
        intent = intent_at("key")
        writing.begin(intent, lease=0.0)
        self.comes_about(lambda: writing.claim() == [intent])
        assert writing.ledger.extend(WRITER, [intent.id], LONG) is False
        writing.ledger.end(WRITER, [intent.id])
        writing.ledger.leave(WRITER, [intent.id], 0.0)
        assert writing.is_pending("key")
        assert writing.pending.due == 0
        assert writing.ledger.extend(REPAIRER, [intent.id], LONG) is True
        writing.ledger.end(REPAIRER, [intent.id])
        assert not writing.is_pending("key")


__all__ = ["OwningConformance"]
