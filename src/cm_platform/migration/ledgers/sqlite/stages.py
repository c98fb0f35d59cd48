"""Stages in the tables: what a transition needs, and what it leaves.

A commit takes time, in which others still read what was before. So

- the time from which a stage counts, or an announcement, is taken after its commit: until then
  it is NULL, and counts as none;
- an announcement whose time is over grants no lease until its end is written, too: a flip that
  is being committed was sure of it.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import Final, NamedTuple

from cm_platform.errors import InvalidArgumentError
from cm_platform.migration.ledger import (
    Busy,
    Fenced,
    Move,
    State,
    Subject,
    Terms,
    Transition,
    authority,
    home_of,
)
from cm_platform.routing import Stage

from . import evidence


class Row(NamedTuple):
    """A row of `migrations`."""

    migration: str
    source: str
    target: str
    lease: float
    longest: float
    soak: float
    stage: str
    epoch: int
    flipped: int
    entered: float | None
    announced: float | None
    announced_until: float
    paused_until: float


_COLUMNS: Final = ", ".join(Row._fields)
_ROW: Final = f"SELECT {_COLUMNS} FROM migrations WHERE kind = ? AND tenant = ?"  # noqa: S608
_ALL: Final = f"SELECT kind, tenant, {_COLUMNS} FROM migrations ORDER BY kind, tenant"  # noqa: S608
_START: Final = f"""
    INSERT OR REPLACE INTO migrations (kind, tenant, {_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'off', ?, 0, NULL, NULL, 0, 0)
"""  # noqa: S608 - names of ours
_MOVE: Final = """
    UPDATE migrations SET stage = ?, epoch = ?, flipped = ?, entered = NULL, announced = NULL,
        announced_until = 0, paused_until = 0
    WHERE kind = ? AND tenant = ?
"""
_SETTLE: Final = """
    UPDATE migrations SET entered = coalesce(entered, ?1),
        announced = CASE WHEN announced_until > ?1 THEN announced END,
        announced_until = CASE WHEN announced_until > ?1 THEN announced_until ELSE 0 END
    WHERE kind = ?2 AND tenant = ?3
"""
_ANNOUNCE: Final = """
    UPDATE migrations SET announced = ?, announced_until = ? WHERE kind = ? AND tenant = ?
"""
_ANNOUNCED: Final = """
    UPDATE migrations SET announced = ?
    WHERE kind = ? AND tenant = ? AND epoch = ? AND announced IS NULL AND announced_until > 0
"""
_PAUSE: Final = "UPDATE migrations SET paused_until = ? WHERE kind = ? AND tenant = ?"
_IS_OPEN: Final = "SELECT 1 FROM intents WHERE kind = ? AND tenant = ? LIMIT 1"
_LOGGED: Final = "SELECT epoch FROM transitions WHERE kind = ? AND tenant = ? AND id = ?"
_LOG: Final = "INSERT INTO transitions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TRANSITIONS: Final = """
    SELECT id, epoch, at, who, before, stage, evidence, reason FROM transitions
    WHERE kind = ? AND tenant = ? ORDER BY epoch
"""

_STAGES: Final = {str(stage): stage for stage in Stage}
_RESTS: Final = (Stage.OFF, Stage.COMPLETE)


def announced_long_enough(row: Row, now: float) -> bool:
    """Whether every lease that was granted before the announcement is over, and none was since."""
    return (
        row.announced is not None and row.announced_until > now and now - row.announced >= row.lease
    )


def paused(row: Row, now: float) -> bool:
    """Whether writing is paused, and still will be when this is committed."""
    return row.paused_until > now


def drained(db: sqlite3.Connection, subject: Subject) -> bool:
    """Whether there is no intent."""
    return db.execute(_IS_OPEN, (subject.kind, subject.tenant_id)).fetchone() is None


def lacking(db: sqlite3.Connection, now: float, subject: Subject, row: Row) -> list[str]:
    """What a flip needs and has not."""
    needs = {
        f"it must have been announced for {row.lease:g} s": announced_long_enough(row, now),
        "writing must be paused": paused(row, now),
        "no intent may be open": drained(db, subject),
    }
    return [need for need, is_met in needs.items() if not is_met]


def find(db: sqlite3.Connection, subject: Subject) -> Row | None:
    """The subject's row."""
    row = db.execute(_ROW, (subject.kind, subject.tenant_id)).fetchone()
    return None if row is None else Row._make(row)


def state_of(row: Row, now: float) -> State:
    """The row, as it counts at this time."""
    entered = row.entered
    return State(
        _terms(*row[:6]),
        _STAGES[row.stage],
        row.epoch,
        0.0 if row.announced_until else row.lease,
        row.paused_until > now,
        0.0 if entered is None or entered > now else now - entered,
        row.flipped,
    )


def is_unsettled(row: Row, now: float) -> bool:
    """Whether there is something to note by `settle`."""
    return row.entered is None or 0 < row.announced_until <= now


def settle(db: sqlite3.Connection, now: float, subject: Subject) -> None:
    """Note that a stage, which was committed, is seen by all, and that an announcement is over."""
    db.execute(_SETTLE, (now, subject.kind, subject.tenant_id))


def start(db: sqlite3.Connection, now: float, subject: Subject, terms: Terms, move: Move) -> State:
    """See `Ledger.start`."""
    kind, tenant = subject.kind, subject.tenant_id
    row = find(db, subject)
    if row is not None and _logged(db, subject, move.id) is not None:
        return state_of(row, now)
    if row is not None and _STAGES[row.stage] not in _RESTS:
        raise Fenced("a migration of this tenant is under way")
    if row is not None and home_of(state_of(row, now)) != terms.source:
        raise Fenced("this tenant's data is not on the source")
    epoch = 1 if row is None else row.epoch + 1
    if row is not None:
        evidence.forget(db, subject)
    agreed = (terms.migration, terms.source, terms.target, terms.lease, terms.longest, terms.soak)
    db.execute(_START, (kind, tenant, *agreed, epoch))
    _write_log(db, now, subject, epoch, None, Stage.OFF, move)
    return State(terms, Stage.OFF, epoch, terms.lease, False, 0.0)


def announce(
    db: sqlite3.Connection, now: float, subject: Subject, epoch: int, seconds: float
) -> bool:
    """See `Ledger.announce`. Whether `stamp_announcement` must follow."""
    row = _current(db, subject, epoch)
    until = max(now + seconds, row.announced_until) if seconds else 0.0
    # One whose end was not written has granted nothing since, so there is no gap.
    since = row.announced if until and row.announced_until else None
    db.execute(_ANNOUNCE, (since, until, subject.kind, subject.tenant_id))
    return until > 0 and since is None


def stamp_announcement(db: sqlite3.Connection, now: float, subject: Subject, epoch: int) -> None:
    """Note that an announcement, which was committed, is seen by all from now on."""
    db.execute(_ANNOUNCED, (now, subject.kind, subject.tenant_id, epoch))


def pause(db: sqlite3.Connection, now: float, subject: Subject, epoch: int, seconds: float) -> None:
    """See `Ledger.pause`."""
    row = _current(db, subject, epoch)
    until = max(now + seconds, row.paused_until) if seconds else 0.0
    db.execute(_PAUSE, (until, subject.kind, subject.tenant_id))


def move(db: sqlite3.Connection, now: float, subject: Subject, epoch: int, move: Move) -> State:
    """See `Ledger.move`."""
    row = find(db, subject)
    logged = None if row is None else _logged(db, subject, move.id)
    if row is not None and logged == epoch + 1:
        return state_of(row, now)
    row = _current(db, subject, epoch)
    if logged is not None:
        raise InvalidArgumentError("a transition needs an id of its own", not_sent=True)
    before = _STAGES[row.stage]
    flips = authority(before) != authority(move.to)
    if flips and (missing := lacking(db, now, subject, row)):
        raise Busy("; ".join(missing))
    if before is Stage.OFF and move.to is Stage.DUALWRITE:
        evidence.forget(db, subject)
    after = row._replace(
        stage=str(move.to),
        epoch=epoch + 1,
        flipped=epoch + 1 if flips else row.flipped,
        entered=None,
        announced_until=0.0,
        paused_until=0.0,
    )
    where = (subject.kind, subject.tenant_id)
    db.execute(_MOVE, (after.stage, after.epoch, after.flipped, *where))
    _write_log(db, now, subject, after.epoch, before, move.to, move)
    return state_of(after, now)


def log(db: sqlite3.Connection, now: float, subject: Subject) -> list[Transition]:
    """See `Ledger.log`."""
    found = db.execute(_TRANSITIONS, (subject.kind, subject.tenant_id)).fetchall()
    return [
        Transition(
            id_,
            epoch,
            at,
            who,
            None if before is None else _STAGES[before],
            _STAGES[to],
            evidence.unpacked(body),
            reason,
        )
        for id_, epoch, at, who, before, to, body, reason in found
    ]


def subjects(db: sqlite3.Connection, now: float) -> list[tuple[Subject, State]]:
    """See `Ledger.subjects`."""
    found = db.execute(_ALL).fetchall()
    return [(Subject(*row[:2]), state_of(Row._make(row[2:]), now)) for row in found]


def _current(db: sqlite3.Connection, subject: Subject, epoch: int) -> Row:
    row = find(db, subject)
    if row is None or row.epoch != epoch:
        raise Fenced("the epoch has changed: ask for the state again")
    return row


def _logged(db: sqlite3.Connection, subject: Subject, id_: str) -> int | None:
    row = db.execute(_LOGGED, (subject.kind, subject.tenant_id, id_)).fetchone()
    return None if row is None else row[0]


def _write_log(
    db: sqlite3.Connection,
    now: float,
    subject: Subject,
    epoch: int,
    before: Stage | None,
    to: Stage,
    move: Move,
) -> None:
    body = evidence.packed(move.evidence)
    db.execute(
        _LOG,
        (
            subject.kind,
            subject.tenant_id,
            epoch,
            move.id,
            now,
            move.who,
            None if before is None else str(before),
            str(to),
            body,
            move.reason,
        ),
    )


@lru_cache(maxsize=256)
def _terms(
    migration: str, source: str, target: str, lease: float, longest: float, soak: float
) -> Terms:
    return Terms(migration, source, target, lease, longest, soak)


__all__ = [
    "Row",
    "announce",
    "announced_long_enough",
    "drained",
    "find",
    "is_unsettled",
    "lacking",
    "log",
    "move",
    "pause",
    "paused",
    "settle",
    "stamp_announcement",
    "start",
    "state_of",
    "subjects",
]
