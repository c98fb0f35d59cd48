"""Intents in the tables: the fence that they pass, whose they are, and when they are due."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from cm_platform.migration.ledger import Fenced, Intent, Pending, Purpose, Subject


class Fence(NamedTuple):
    """What decides whether an intent may begin."""

    epoch: int
    announced_until: float
    paused_until: float


_FENCE: Final = (
    "SELECT epoch, announced_until, paused_until FROM migrations WHERE kind = ? AND tenant = ?"
)
_BEGIN: Final = """
    INSERT INTO intents (id, kind, tenant, key, purpose, epoch, owner, begun, due)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
_OWNED: Final = "SELECT 1 FROM intents WHERE id = ? AND owner = ?"
_END: Final = "DELETE FROM intents WHERE id = ?"
_LEAVE: Final = "UPDATE intents SET owner = NULL, due = ? WHERE id = ?"
_EXTEND: Final = "UPDATE intents SET due = max(due, ?) WHERE id = ?"
_DUE: Final = """
    SELECT id, key, purpose FROM intents
    WHERE kind = ? AND tenant = ? AND due <= ? ORDER BY number LIMIT ?
"""
_TAKE: Final = "UPDATE intents SET owner = ?, due = ? WHERE id = ?"
_AT_KEY: Final = "SELECT 1 FROM intents WHERE kind = ? AND tenant = ? AND key = ? LIMIT 1"
_PENDING: Final = """
    SELECT count(*), total(due <= ?), min(begun), total(purpose = 'upload'),
        max(CASE purpose WHEN 'upload' THEN due END)
    FROM intents WHERE kind = ? AND tenant = ?
"""

_PURPOSES: Final = {str(purpose): purpose for purpose in Purpose}


def admits(fence: Fence | None, epoch: int, now: float, *, uploads: bool) -> bool:
    """Whether intents of this epoch may begin now."""
    return (
        fence is not None
        and fence.epoch == epoch
        and fence.paused_until <= now
        and not (uploads and fence.announced_until > now)
    )


def owned(db: sqlite3.Connection, owner: str, ids: Sequence[str]) -> list[str]:
    """Those of the ids that are intents of this owner."""
    return [id_ for id_ in ids if db.execute(_OWNED, (id_, owner)).fetchone() is not None]


def due_by(now: float) -> float:
    """What is due at this time or before it may be taken from its owner."""
    return now


def begin(
    db: sqlite3.Connection,
    now: float,
    subject: Subject,
    epoch: int,
    owner: str,
    intents: Sequence[Intent],
    lease: float,
) -> None:
    """See `Ledger.begin`."""
    kind, tenant = subject.kind, subject.tenant_id
    row = db.execute(_FENCE, (kind, tenant)).fetchone()
    fence = None if row is None else Fence(*row)
    uploads = any(intent.purpose is Purpose.UPLOAD for intent in intents)
    if not admits(fence, epoch, now, uploads=uploads):
        raise Fenced("the epoch has changed, or writing is paused: ask for the state again")
    due = now + lease
    rows = [
        (intent.id, kind, tenant, intent.key, str(intent.purpose), epoch, owner, now, due)
        for intent in intents
    ]
    # `executemany` is dear for one.
    done = db.execute(_BEGIN, rows[0]) if len(rows) == 1 else db.executemany(_BEGIN, rows)
    if done.rowcount != len(rows):
        ids = [intent.id for intent in intents]
        # Begun before, and meanwhile claimed or left: it is not for this owner to act under it.
        if len(owned(db, owner, ids)) != len(ids):
            raise Fenced("an intent of this id is somebody else's by now: begin with a new id")


def end(db: sqlite3.Connection, now: float, owner: str, ids: Sequence[str]) -> None:
    """See `Ledger.end`."""
    for id_ in owned(db, owner, ids):
        db.execute(_END, (id_,))


def leave(db: sqlite3.Connection, now: float, owner: str, ids: Sequence[str], after: float) -> None:
    """See `Ledger.leave`."""
    for id_ in owned(db, owner, ids):
        db.execute(_LEAVE, (now + after, id_))


def extend(
    db: sqlite3.Connection, now: float, owner: str, ids: Sequence[str], lease: float
) -> bool:
    """See `Ledger.extend`. When not all are this owner's, none is extended."""
    if len(owned(db, owner, ids)) != len(ids):
        return False
    for id_ in ids:
        db.execute(_EXTEND, (now + lease, id_))
    return True


def is_any_due(db: sqlite3.Connection, now: float, subject: Subject) -> bool:
    """Whether `claim` would find something."""
    found = db.execute(_DUE, (subject.kind, subject.tenant_id, due_by(now), 1)).fetchone()
    return found is not None


def claim(
    db: sqlite3.Connection, now: float, subject: Subject, owner: str, lease: float, limit: int
) -> list[Intent]:
    """See `Ledger.claim`."""
    where = (subject.kind, subject.tenant_id, due_by(now), limit)
    found = [
        Intent(id_, key, _PURPOSES[purpose])
        for id_, key, purpose in db.execute(_DUE, where).fetchall()
    ]
    db.executemany(_TAKE, [(owner, now + lease, intent.id) for intent in found])
    return found


def is_pending(db: sqlite3.Connection, now: float, subject: Subject, key: str) -> bool:
    """See `Ledger.is_pending`."""
    return db.execute(_AT_KEY, (subject.kind, subject.tenant_id, key)).fetchone() is not None


def pending(db: sqlite3.Connection, now: float, subject: Subject) -> Pending:
    """See `Ledger.pending`."""
    count, due, begun, uploads, until = db.execute(
        _PENDING, (due_by(now), subject.kind, subject.tenant_id)
    ).fetchone()
    return Pending(
        count=count,
        due=int(due),
        oldest=0.0 if begun is None else max(0.0, now - begun),
        uploads=int(uploads),
        until=0.0 if until is None else max(0.0, until - now),
    )


__all__ = [
    "Fence",
    "admits",
    "begin",
    "claim",
    "due_by",
    "end",
    "extend",
    "is_any_due",
    "is_pending",
    "leave",
    "owned",
    "pending",
]
