"""The suite of a ledger's life: made, opened by many, looked at, and closed."""

from __future__ import annotations

import pytest

from cm_platform.errors import PlatformError
from cm_platform.migration.ledger import Subject
from cm_platform.routing import Stage

from .harness import LedgerFace, LedgerHarness, Moving, Opened
from .subject import LONG, WRITER, intent_at, move_to


class OpeningConformance(LedgerHarness):
    """What `prepare`, `ping` and `close` do, and what another who opened it sees."""

    def test_preparing_again_keeps_what_is_there(self, writing: Moving) -> None:
        before = writing.state
        (id_,) = writing.begin("key")
        writing.ledger.prepare()
        writing.ledger.prepare()
        after = writing.state
        assert (after.stage, after.epoch, after.terms) == (
            before.stage,
            before.epoch,
            before.terms,
        )
        assert writing.ledger.extend(WRITER, [id_], LONG)

    def test_it_answers(self, face: LedgerFace) -> None:
        assert face.calls.ping() is None

    def test_closing_twice_is_safe_and_the_end(self, face: LedgerFace, subject: Subject) -> None:
        with face.another() as other:
            other.calls.ping()
            other.calls.close()
            other.calls.close()
            move = move_to(Stage.OFF)
            for method, *args in (
                ("ping",),
                ("state", subject),
                ("start", subject, self.terms(), move),
            ):
                with pytest.raises(PlatformError) as caught:
                    getattr(other.calls, method)(*args)
                assert caught.value.code == "unavailable"
        # Another one's end is not ours.
        assert face.calls.state(subject) is None

    def test_what_one_writes_another_sees(self, writing: Moving, other: Opened) -> None:
        calls, subject = other.calls, writing.subject
        writing.begin("key")
        assert calls.is_pending(subject, "key")
        writing.pause()
        assert calls.state(subject).paused
        writing.pause(0)
        calls.note(subject, "verify", {"clean": True})
        assert set(writing.ledger.notes(subject)) == {"verify"}
        assert list(calls.log(subject)) == list(writing.ledger.log(subject))
        assert (calls.state(subject).epoch, calls.state(subject).stage) == (
            writing.epoch,
            Stage.DUALWRITE,
        )

    def test_what_one_decides_binds_another(self, writing: Moving, other: Opened) -> None:
        calls, subject, epoch = other.calls, writing.subject, writing.epoch
        intent = intent_at("key")
        writing.begin(intent)
        # Owners are told apart by their names, not by who opened what.
        assert calls.extend(WRITER, [intent.id], LONG)
        calls.end("another", [intent.id])
        assert writing.is_pending("key")
        calls.move(subject, epoch, move_to(Stage.SHADOW))
        assert writing.is_refused(epoch=epoch)
        calls.pause(subject, writing.epoch, LONG)
        assert writing.is_refused()


__all__ = ["OpeningConformance"]
