"""The suite of what is on record: the log, which only grows, and the evidence."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.migration.ledger import Skipped
from cm_platform.routing import Stage

from .fencing import KEYS
from .harness import TOLERANCE, LedgerFace, LedgerHarness, Moving
from .subject import PATH, move_to

BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"count": 2**53, "rate": 0.1, "low": -1, "none": None, "yes": True, "no": False},
    {"nested": {"list": [1, [2, {"three": 3}]], "empty": [], "": "empty name"}},
    {"text": "ünïcödé 日本語 🙂 \" ' \\ \n\t", "kéy": "%s {} ?"},
)


class RecordingConformance(LedgerHarness):
    """What was written is read as it was, in order."""

    def test_the_log_has_every_transition_in_order(self, moving: Moving) -> None:
        back = (Stage.LIVE, Stage.SHADOW, Stage.DUALWRITE, Stage.OFF)
        stages = [*PATH[:4], *back, *PATH]
        for stage in stages:
            moving.to(stage)
        log = list(moving.ledger.log(moving.subject))
        assert [line.to for line in log] == [Stage.OFF, *stages]
        assert [line.before for line in log] == [None, Stage.OFF, *stages[:-1]]
        epochs = [line.epoch for line in log]
        assert epochs == sorted(set(epochs))
        assert epochs[-1] == moving.epoch
        times = [line.at for line in log]
        assert times == sorted(times)
        assert len({line.id for line in log}) == len(log)

    @pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
    def test_a_transition_is_recorded_as_it_was_made(
        self, moving: Moving, body: dict[str, Any]
    ) -> None:
        reason = "the bar was too high: ünïcödé 'quoted'"
        move = move_to(Stage.DUALWRITE, who="Zoë <zoe@example>", evidence=body, reason=reason)
        state = moving.move(move)
        line = moving.ledger.log(moving.subject)[-1]
        assert (line.id, line.epoch, line.who) == (move.id, state.epoch, "Zoë <zoe@example>")
        assert dict(line.evidence) == body
        assert line.reason == reason

    def test_no_reason_and_an_empty_one_are_two_things(self, moving: Moving) -> None:
        moving.move(move_to(Stage.DUALWRITE, reason=None))
        moving.move(move_to(Stage.SHADOW, reason=""))
        assert [line.reason for line in moving.ledger.log(moving.subject)][1:] == [None, ""]

    def test_the_log_has_the_time(self, moving: Moving, face: LedgerFace) -> None:
        self.pass_time(face, self.moment)
        moving.to(Stage.DUALWRITE)
        started, entered = moving.ledger.log(moving.subject)
        assert self.moment <= entered.at - started.at < self.moment + 10

    def test_what_was_logged_stays_as_it_was(self, moving: Moving) -> None:
        before = list(moving.ledger.log(moving.subject))
        moving.ledger.note(moving.subject, "verify", {"clean": True})
        moving.to(Stage.DUALWRITE, Stage.OFF)
        moving.start(self.terms(migration="another"))
        moving.to(Stage.DUALWRITE)
        assert list(moving.ledger.log(moving.subject))[: len(before)] == before

    @pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
    def test_a_note_is_read_as_it_was_written(self, writing: Moving, body: dict[str, Any]) -> None:
        writing.ledger.note(writing.subject, "verify", body)
        (name,) = notes = dict(writing.ledger.notes(writing.subject))
        assert name == "verify"
        assert dict(notes[name].body) == body

    def test_a_note_replaces_the_one_of_its_name(self, writing: Moving) -> None:
        writing.ledger.note(writing.subject, "verify", {"clean": False, "differ": 3})
        writing.ledger.note(writing.subject, "backfill", {"cursor": "k"})
        writing.ledger.note(writing.subject, "verify", {"clean": True})
        notes = writing.ledger.notes(writing.subject)
        assert {name: dict(note.body) for name, note in notes.items()} == {
            "backfill": {"cursor": "k"},
            "verify": {"clean": True},
        }

    def test_a_note_has_an_age(self, writing: Moving, face: LedgerFace) -> None:
        def age() -> float:
            found: float = writing.ledger.notes(writing.subject)["verify"].age
            return found

        writing.ledger.note(writing.subject, "verify", {})
        assert 0 <= age() < self.moment + 5
        self.pass_time(face, self.moment)
        assert self.moment <= age() < self.moment + 5
        began = face.clock.monotonic()
        writing.ledger.note(writing.subject, "verify", {})
        after = age()
        assert 0 <= after <= face.clock.monotonic() - began + TOLERANCE

    def test_counters_add_up(self, writing: Moving) -> None:
        ledger, subject = writing.ledger, writing.subject
        assert dict(ledger.counts(subject)) == {}
        ledger.count(subject, {("images", "same"): 2, ("images", "differs"): 1})
        ledger.count(subject, {("images", "same"): 40, ("text", "same"): 7, ("", ""): 0})
        ledger.count(subject, {("text", "same"): -2})
        ledger.count(subject, {})
        assert dict(ledger.counts(subject)) == {
            ("images", "same"): 42,
            ("images", "differs"): 1,
            ("text", "same"): 5,
            ("", ""): 0,
        }

    def test_counters_hold_large_numbers(self, writing: Moving) -> None:
        writing.ledger.count(writing.subject, {("bytes", "seen"): 2**53})
        writing.ledger.count(writing.subject, {("bytes", "seen"): 1})
        assert writing.ledger.counts(writing.subject)["bytes", "seen"] == 2**53 + 1

    def test_counts_at_once_all_count(self, writing: Moving, face: LedgerFace) -> None:
        counts = [
            face.ledger.count(writing.subject, {("all", "calls"): 1, (f"{n % 3}", "calls"): 1})
            for n in range(24)
        ]
        face.at_once(counts)
        assert dict(writing.ledger.counts(writing.subject)) == {
            ("all", "calls"): 24,
            ("0", "calls"): 8,
            ("1", "calls"): 8,
            ("2", "calls"): 8,
        }

    def test_counting_begins_anew(self, writing: Moving) -> None:
        ledger, subject = writing.ledger, writing.subject
        ledger.count(subject, {("images", "same"): 2})
        ledger.note(subject, "verify", {"clean": True})
        ledger.skip(subject, "key", "reason")
        ledger.reset_counts(subject)
        assert dict(ledger.counts(subject)) == {}
        assert set(ledger.notes(subject)) == {"verify"}
        assert len(ledger.skipped(subject, 10)) == 1
        ledger.count(subject, {("images", "same"): 1})
        assert dict(ledger.counts(subject)) == {("images", "same"): 1}

    def test_skipped_keys_are_listed_in_order(self, writing: Moving) -> None:
        keys = ["b", "a/2", "B", "a/10", "é", "a", "~", "Z", "🙂", "\uffee"]
        for key in keys:
            writing.ledger.skip(writing.subject, key, f"reason of {key}")
        expected = [Skipped(key, f"reason of {key}") for key in sorted(keys)]
        found = list(writing.ledger.skipped(writing.subject, 100))
        # As stores list them: by code point.
        assert found == expected
        assert list(writing.ledger.skipped(writing.subject, 3)) == expected[:3]

    def test_a_later_reason_replaces_an_earlier_one(self, writing: Moving) -> None:
        writing.ledger.skip(writing.subject, "key", "too large")
        writing.ledger.skip(writing.subject, "key", "no such class")
        assert list(writing.ledger.skipped(writing.subject, 10)) == [
            Skipped("key", "no such class")
        ]

    def test_a_skipped_key_is_forgotten(self, writing: Moving) -> None:
        for key in ("a", "b", "c", "d"):
            writing.ledger.skip(writing.subject, key, "reason")
        writing.ledger.unskip(writing.subject, ["b", "d", "never skipped"])
        writing.ledger.unskip(writing.subject, ["b"])
        writing.ledger.unskip(writing.subject, [])
        assert [found.key for found in writing.ledger.skipped(writing.subject, 10)] == ["a", "c"]

    def test_skipped_keys_are_kept_as_they_are(self, writing: Moving) -> None:
        for key in KEYS:
            writing.ledger.skip(writing.subject, key, key)
        found = writing.ledger.skipped(writing.subject, 100)
        assert {one.key: one.reason for one in found} == {key: key for key in KEYS}

    def test_skipped_keys_are_asked_for_by_name(self, writing: Moving) -> None:
        ledger, subject = writing.ledger, writing.subject
        ledger.skip(subject, "b", "too large")
        ledger.skip(subject, "a", "no such class", "target")
        ledger.skip(subject, "c", "too large", "target")
        ledger.skip(subject, "c", "too large", "source")
        assert list(ledger.skipped_among(subject, ["d", "c", "a", "a"])) == [
            Skipped("a", "no such class", "target"),
            Skipped("c", "too large", "source"),
        ]
        assert list(ledger.skipped_among(subject, [])) == []
        assert [one.side for one in ledger.skipped(subject, 10)] == ["target", "source", "source"]


__all__ = ["RecordingConformance"]
