"""Evidence in the tables: notes, counters and the keys that could not be moved."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cm_platform.errors import InvalidArgumentError
from cm_platform.migration.ledger import Note, Side, Skipped, Subject

_NOTE: Final = "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?)"
_NOTES: Final = "SELECT name, body, written FROM notes WHERE kind = ? AND tenant = ? ORDER BY name"
_COUNT: Final = """
    INSERT INTO counters VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (kind, tenant, family, name) DO UPDATE SET value = value + excluded.value
"""
_COUNTS: Final = """
    SELECT family, name, value FROM counters WHERE kind = ? AND tenant = ? ORDER BY family, name
"""
_SKIP: Final = "INSERT OR REPLACE INTO skipped VALUES (?, ?, ?, ?, ?)"
_UNSKIP: Final = "DELETE FROM skipped WHERE kind = ? AND tenant = ? AND key = ?"
_SKIPPED: Final = (
    "SELECT key, reason, side FROM skipped WHERE kind = ? AND tenant = ? ORDER BY key LIMIT ?"
)
_SKIPPED_ONE: Final = (
    "SELECT key, reason, side FROM skipped WHERE kind = ? AND tenant = ? AND key = ?"
)
_FORGET: Final = (
    "DELETE FROM notes WHERE kind = ? AND tenant = ?",
    "DELETE FROM counters WHERE kind = ? AND tenant = ?",
    "DELETE FROM skipped WHERE kind = ? AND tenant = ?",
)


def packed(body: Mapping[str, Any]) -> str:
    """A body as text; `invalid_argument` for what is not JSON-ready."""
    try:
        return json.dumps(dict(body), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):
        raise InvalidArgumentError(
            "evidence must be JSON-ready: dicts with text as keys, lists, text, finite numbers, "
            "booleans and None",
            not_sent=True,
        ) from None


def unpacked(text: str) -> dict[str, Any]:
    """What `packed` was given."""
    body: dict[str, Any] = json.loads(text)
    return body


def forget(db: sqlite3.Connection, subject: Subject) -> None:
    """Remove notes, counters and skipped keys."""
    for statement in _FORGET:
        db.execute(statement, (subject.kind, subject.tenant_id))


def note(
    db: sqlite3.Connection, now: float, subject: Subject, name: str, body: Mapping[str, Any]
) -> None:
    """See `Ledger.note`."""
    db.execute(_NOTE, (subject.kind, subject.tenant_id, name, packed(body), now))


def notes(db: sqlite3.Connection, now: float, subject: Subject) -> dict[str, Note]:
    """See `Ledger.notes`."""
    found = db.execute(_NOTES, (subject.kind, subject.tenant_id)).fetchall()
    return {name: Note(unpacked(body), max(0.0, now - at)) for name, body, at in found}


def count(
    db: sqlite3.Connection, now: float, subject: Subject, counts: Mapping[tuple[str, str], int]
) -> None:
    """See `Ledger.count`."""
    kind, tenant = subject.kind, subject.tenant_id
    db.executemany(_COUNT, [(kind, tenant, *names, more) for names, more in counts.items()])


def counts(db: sqlite3.Connection, now: float, subject: Subject) -> dict[tuple[str, str], int]:
    """See `Ledger.counts`."""
    found = db.execute(_COUNTS, (subject.kind, subject.tenant_id)).fetchall()
    return {(group, name): value for group, name, value in found}


def reset_counts(db: sqlite3.Connection, now: float, subject: Subject) -> None:
    """See `Ledger.reset_counts`."""
    db.execute(_FORGET[1], (subject.kind, subject.tenant_id))


def skip(
    db: sqlite3.Connection, now: float, subject: Subject, key: str, reason: str, side: Side
) -> None:
    """See `Ledger.skip`."""
    db.execute(_SKIP, (subject.kind, subject.tenant_id, key, reason, side))


def unskip(db: sqlite3.Connection, now: float, subject: Subject, keys: Sequence[str]) -> None:
    """See `Ledger.unskip`."""
    db.executemany(_UNSKIP, [(subject.kind, subject.tenant_id, key) for key in keys])


def skipped(db: sqlite3.Connection, now: float, subject: Subject, limit: int) -> list[Skipped]:
    """See `Ledger.skipped`."""
    found = db.execute(_SKIPPED, (subject.kind, subject.tenant_id, limit)).fetchall()
    return [Skipped(*row) for row in found]


def skipped_among(
    db: sqlite3.Connection, now: float, subject: Subject, keys: Sequence[str]
) -> list[Skipped]:
    """See `Ledger.skipped_among`."""
    named = [(subject.kind, subject.tenant_id, key) for key in sorted(set(keys))]
    rows = (db.execute(_SKIPPED_ONE, one).fetchone() for one in named)
    return [Skipped(*row) for row in rows if row is not None]


__all__ = [
    "count",
    "counts",
    "forget",
    "note",
    "notes",
    "packed",
    "reset_counts",
    "skip",
    "skipped",
    "skipped_among",
    "unpacked",
    "unskip",
]
