"""The suite of the fence: what may begin, and what may not."""

from __future__ import annotations

import pytest

from cm_platform.errors import PlatformError
from cm_platform.migration.ledger import Fenced, Purpose, Subject
from cm_platform.routing import Stage

from .harness import LedgerFace, LedgerHarness, Moving
from .subject import LONG, PATH, REPAIRER, WRITER, intent_at, intents_at, path_to

KEYS = (
    "a/b.jpg",
    " leading and trailing ",
    'o\'clock "quoted" \\ back',
    "100%_of--them; DROP TABLE intents",
    "ünïcödé/日本語/🙂",
    "e\u0301 is not \u00e9",
    "k" * 1024,
)


class FencingConformance(LedgerHarness):
    """An intent begins in the current epoch, while nothing is paused; else it is not there."""

    def test_nothing_begins_where_no_migration_was_started(
        self, face: LedgerFace, subject: Subject
    ) -> None:
        for epoch in (0, 1):
            with pytest.raises(Fenced):
                face.calls.begin(subject, epoch, WRITER, [intent_at("key")], LONG)
        assert face.calls.pending(subject).count == 0

    def test_an_intent_of_the_current_epoch_is_there(self, writing: Moving) -> None:
        writing.begin("key")
        assert writing.is_pending("key")
        assert writing.pending.count == 1

    @pytest.mark.parametrize("off", [-1, 1, -1_000_000, 1_000_000])
    def test_another_epoch_is_refused(self, writing: Moving, off: int) -> None:
        assert writing.is_refused(epoch=writing.epoch + off)
        assert not writing.is_refused()

    @pytest.mark.parametrize("stage", PATH)
    def test_every_move_fences_the_epoch_before(self, moving: Moving, stage: Stage) -> None:
        moving.to(*path_to(stage)[:-1])
        before = moving.epoch
        moving.to(stage)
        assert moving.is_refused(epoch=before)
        assert not moving.is_refused()

    @pytest.mark.parametrize("purpose", Purpose)
    def test_nothing_begins_while_writing_is_paused(
        self, writing: Moving, purpose: Purpose
    ) -> None:
        writing.pause()
        assert writing.is_refused(purpose=purpose)

    def test_a_pause_is_ended_by_0(self, writing: Moving) -> None:
        writing.pause()
        writing.pause(0)
        assert not writing.is_refused()

    def test_a_pause_ends_by_itself(self, writing: Moving, face: LedgerFace) -> None:
        self.runs_out(
            face, self.moment, lambda: writing.pause(self.moment), lambda: writing.is_refused()
        )

    def test_a_pause_is_extended_by_another(self, writing: Moving, face: LedgerFace) -> None:
        writing.pause(self.moment)
        writing.pause()
        self.pass_time(face, self.moment * 1.1)
        assert writing.is_refused()

    def test_what_began_before_a_pause_stays(self, writing: Moving) -> None:
        (id_,) = writing.begin("key")
        writing.pause()
        assert writing.is_pending("key")
        assert writing.ledger.extend(WRITER, [id_], LONG)
        writing.ledger.end(WRITER, [id_])
        assert writing.pending.count == 0

    def test_while_a_flip_is_announced_no_upload_begins(self, writing: Moving) -> None:
        writing.announce()
        assert writing.is_refused(purpose=Purpose.UPLOAD)
        assert not writing.is_refused(purpose=Purpose.WRITE)
        assert not writing.is_refused(purpose=Purpose.BACKFILL)

    def test_an_announcement_is_ended_by_0(self, writing: Moving) -> None:
        writing.announce()
        writing.announce(0)
        assert not writing.is_refused(purpose=Purpose.UPLOAD)

    def test_an_announcement_ends_by_itself(self, writing: Moving, face: LedgerFace) -> None:
        self.runs_out(
            face,
            self.moment,
            lambda: writing.announce(self.moment),
            lambda: writing.is_refused(purpose=Purpose.UPLOAD),
        )

    def test_of_refused_intents_none_is_there(self, writing: Moving) -> None:
        writing.announce()
        mixed = [*intents_at(["a", "b", "c"]), intent_at("d", Purpose.UPLOAD)]
        with pytest.raises(Fenced):
            writing.begin(*mixed)
        assert writing.pending.count == 0
        writing.pause()
        with pytest.raises(Fenced):
            writing.begin(*intents_at([f"key-{n}" for n in range(50)]))
        assert writing.pending.count == 0

    def test_of_admitted_intents_all_are_there(self, writing: Moving) -> None:
        keys = [f"key-{n}" for n in range(50)]
        ids = writing.begin(*intents_at(keys))
        assert all(writing.is_pending(key) for key in keys)
        assert writing.pending.count == 50
        writing.ledger.end(WRITER, ids)
        assert writing.pending.count == 0

    def test_what_begins_twice_is_there_once(self, writing: Moving) -> None:
        first, second = intents_at(["a", "b"])
        writing.begin(first)
        writing.begin(first)
        writing.begin(first, second)
        assert writing.pending.count == 2
        writing.ledger.end(WRITER, [first.id])
        assert not writing.is_pending("a")

    def test_what_begins_twice_has_its_first_time(self, writing: Moving, face: LedgerFace) -> None:
        intent = intent_at("key")
        writing.begin(intent, lease=self.moment)
        writing.begin(intent, lease=LONG)
        self.pass_time(face, self.moment * 1.1)
        self.comes_about(lambda: writing.pending.due == 1)

    def test_what_somebody_else_has_by_now_does_not_begin_again(self, writing: Moving) -> None:
        intent = intent_at("key")
        writing.begin(intent, lease=0)
        self.comes_about(lambda: writing.claim() == [intent])
        with pytest.raises((Fenced, PlatformError)):
            writing.begin(intent, intent_at("another"))
        assert not writing.is_pending("another")
        assert writing.ledger.extend(REPAIRER, [intent.id], LONG)
        assert not writing.ledger.extend(WRITER, [intent.id], LONG)

    def test_an_id_that_has_ended_may_begin_again(self, writing: Moving) -> None:
        intent = intent_at("key")
        for _ in range(2):
            writing.begin(intent)
            assert writing.is_pending("key")
            writing.ledger.end(WRITER, [intent.id])
            assert not writing.is_pending("key")

    def test_a_key_is_pending_until_its_last_intent_ends(self, writing: Moving) -> None:
        one, two = writing.begin("key", "key")
        (three,) = writing.begin("key", owner="another")
        writing.ledger.end(WRITER, [one])
        writing.ledger.end("another", [three])
        assert writing.is_pending("key")
        writing.ledger.end(WRITER, [two])
        assert not writing.is_pending("key")

    @pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
    def test_a_key_is_kept_as_it_is(self, writing: Moving, key: str) -> None:
        intent = intent_at(key)
        writing.begin(intent, lease=0)
        assert writing.is_pending(key)
        for other in (key.upper(), key.strip(), key[:-1], f"{key} ", f"{key}%", "%"):
            assert writing.is_pending(other) is (other == key)
        self.comes_about(lambda: writing.claim() == [intent])

    @pytest.mark.parametrize("method", ["pause", "announce"])
    @pytest.mark.parametrize("off", [-1, 1])
    def test_only_the_current_epoch_is_paused_or_announced(
        self, writing: Moving, method: str, off: int
    ) -> None:
        for seconds in (LONG, 0.0):
            with pytest.raises(Fenced):
                getattr(writing.ledger, method)(writing.subject, writing.epoch + off, seconds)
        assert not writing.is_refused(purpose=Purpose.UPLOAD)
        # Nor is it ended by one who knows an epoch of before.
        getattr(writing, method)()
        with pytest.raises(Fenced):
            getattr(writing.ledger, method)(writing.subject, writing.epoch + off, 0.0)
        assert writing.is_refused(purpose=Purpose.UPLOAD)

    @pytest.mark.parametrize("method", ["pause", "announce"])
    def test_nothing_is_paused_or_announced_where_no_migration_was_started(
        self, face: LedgerFace, subject: Subject, method: str
    ) -> None:
        for epoch in (0, 1):
            with pytest.raises(Fenced):
                getattr(face.calls, method)(subject, epoch, LONG)
        assert face.calls.state(subject) is None


__all__ = ["FencingConformance"]
