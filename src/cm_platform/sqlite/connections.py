"""Connections to one file, each lent to one thread at a time, none carried over a fork."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cm_platform.errors import UnavailableError

from .errors import committing, uncommitted
from .ticket import Ticket

KEPT: Final = 8
"""Idle connections. More are made when more threads ask, and closed afterwards."""

FORK_PATIENCE: Final = 5.0
"""Seconds that a fork waits for the threads that use the file just then."""

_WAL_KEPT: Final = 4 * 1024**2  # bytes that the log keeps when it begins anew


class Connections:
    """Lends connections, and one thread at a time the right to write.

    fsync: whether each write is synced. busy_timeout: seconds to wait for other threads, and then
    as long again for other processes. cure: what to do about a damaged file; see `classify`.
    """

    def __init__(self, path: Path, *, fsync: bool, busy_timeout: float, cure: str) -> None:
        self.path = path
        self.cure = cure
        self._fsync = fsync
        self._busy_timeout = busy_timeout
        self._holding = _Holding()
        _ALL.add(self)

    @contextmanager
    def lent(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection for the block, without a transaction."""
        holding = self._holding
        with holding.changed:
            self._check(holding)
            holding.lent += 1
            db = holding.idle.pop() if holding.idle else None
        try:
            if db is None:
                db = self._connect()
            yield db
        except sqlite3.Error:
            if db is not None:
                db.close()
            raise
        finally:
            _give_back(db, holding)

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection that looks at one moment of the file, however many statements the block has.

        It waits for no writer. Raises sqlite3.Error as it comes.
        """
        with self.lent() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")

    @contextmanager
    def writing(self, ticket: Ticket) -> Generator[sqlite3.Connection, None, None]:
        """A connection in a transaction: all of the block is written, or nothing.

        Nobody else writes meanwhile. What fails before the commit is `not_sent`.
        """
        with self.turn(self._busy_timeout), self.lent() as db:
            try:
                with uncommitted(self.cure):
                    db.execute("BEGIN IMMEDIATE")
                    yield db
                    ticket.check()
                with committing():
                    db.execute("COMMIT")
            except BaseException:
                # SQLite itself has rolled back after some of its errors.
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def turn(self, patience: float) -> Generator[None, None, None]:
        """The right to write, as far as this process goes; waits so many seconds for it.

        SQLite's own wait is a poll, and unfair: it is left to other processes.
        """
        turn = self._holding.turn
        if not turn.acquire(timeout=patience):
            raise UnavailableError(
                "other threads have written to the file for too long; try again later",
                retryable=True,
                not_sent=True,
            )
        try:
            yield
        finally:
            turn.release()

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        holding = self._holding
        with holding.changed:
            holding.closed = True
            holding.close_idle()

    def _check(self, holding: _Holding) -> None:
        if holding.closed:
            raise UnavailableError("it was closed, and its file with it", not_sent=True)
        if self.path in _SPOILT:
            raise UnavailableError(
                "this process was forked while a thread of its parent used the file, and "
                "SQLite cannot use it here any more: fork earlier, or start processes by spawning",
                not_sent=True,
            )

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            # Never a new file where ours was taken away: it would be empty, and readable for all.
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # NORMAL: a power cut may take the last writes back, never the file.
            db.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'NORMAL'}")
            db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
            # What somebody planted in the file runs nothing, and what is damaged is seen early.
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute("PRAGMA cell_size_check = ON")
        except BaseException:
            db.close()
            raise
        return db

    # SQLite keeps one account per process of the locks on a file. A child that inherits an open
    # connection inherits that account, but no lock: whatever it opens believes itself protected
    # and is not. So nothing is open while a process forks.

    def before_fork(self, deadline: float) -> None:
        """Wait until nothing is lent, close what is idle, lend nothing until the fork is over."""
        changed = self._holding.changed
        changed.acquire()
        changed.wait_for(
            lambda: self._holding.lent == 0, timeout=max(0.0, deadline - time.monotonic())
        )
        self._holding.close_idle()

    def after_fork_in_parent(self) -> None:
        """Lend again."""
        self._holding.changed.release()

    def after_fork_in_child(self) -> None:
        """Begin anew, with locks that nobody holds."""
        inherited, self._holding = self._holding, _Holding()
        self._holding.closed = inherited.closed
        # There are idle ones if the fork was a server's own, which calls no hook before it.
        inherited.close_idle()
        if inherited.lent:
            _SPOILT.add(self.path)


class _Holding:
    """What one process has of one file."""

    __slots__ = ("changed", "closed", "idle", "lent", "turn")

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.turn = threading.Lock()
        self.idle: list[sqlite3.Connection] = []
        self.lent = 0
        self.closed = False

    def close_idle(self) -> None:
        """Close what nobody uses."""
        while self.idle:
            self.idle.pop().close()


def _give_back(db: sqlite3.Connection | None, holding: _Holding) -> None:
    with holding.changed:
        if db is not None and _is_clean(db) and not holding.closed and len(holding.idle) < KEPT:
            holding.idle.append(db)
        elif db is not None:
            db.close()
        holding.lent -= 1
        holding.changed.notify_all()


def _is_clean(db: sqlite3.Connection) -> bool:
    try:
        return not db.in_transaction
    except sqlite3.ProgrammingError:
        return False  # It was closed.


_ALL: Final[weakref.WeakSet[Connections]] = weakref.WeakSet()
_SPOILT: Final[set[Path]] = set()
_forking: list[Connections] = []
# Two threads may fork at once, and one would let go of what the other holds.
_fork_turn = threading.Lock()


def _before_fork() -> None:
    _fork_turn.acquire()
    deadline = time.monotonic() + FORK_PATIENCE
    _forking.extend(_ALL)
    for connections in _forking:
        connections.before_fork(deadline)


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()
    _fork_turn.release()


def _after_fork_in_child() -> None:
    global _fork_turn
    _fork_turn = threading.Lock()
    _forking.clear()
    for connections in list(_ALL):
        connections.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )

__all__ = ["FORK_PATIENCE", "KEPT", "Connections"]
