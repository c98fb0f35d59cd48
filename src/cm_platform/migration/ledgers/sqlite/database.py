"""Where the tables are: a file that processes share, or, for tests, this process's memory."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar

from cm_platform.errors import (
    ConfigInvalidError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    UnavailableError,
)
from cm_platform.runtime import Clock
from cm_platform.sqlite import Connections, Ticket, classify, fill, make

from .schema import FORM

T = TypeVar("T")

Work = Callable[[sqlite3.Connection, float], T]
"""What a method does; given a connection and the time, in seconds since 1970-01-01 UTC."""

UNKEEPABLE: Final = (UnicodeEncodeError, OverflowError)
"""What Python's module raises for values that SQLite has no form for."""

_TABLES: Final = ("migrations", "intents", "transitions", "notes", "counters", "skipped")
_GUARD: Final = "transition_removed"


class Database(Protocol):
    """The tables of a ledger. All raise PlatformErrors."""

    def prepare(self) -> None:
        """Make the tables, where they are not there; sqlite3.Error and OSError as they come."""
        ...

    def read(self, work: Work[T]) -> T:
        """Do what is one statement, and only reads."""
        ...

    def write(self, work: Work[T], ticket: Ticket) -> T:
        """Do all of it, or nothing; one at a time, and the time is that of its turn."""
        ...

    def ping(self) -> None:
        """Raise when it cannot be used."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class FileDatabase:
    """Tables in a file."""

    def __init__(self, path: Path, clock: Clock, *, fsync: bool, busy_timeout: float) -> None:
        self._path = path
        self._clock = clock
        self._connections = Connections(
            path, fsync=fsync, busy_timeout=busy_timeout, cure=FORM.cure
        )
        self._file: tuple[int, int] | None = None

    def prepare(self) -> None:
        """See `Database.prepare`."""
        make(self._path, FORM)
        with self._connections.lent() as db:
            fill(db, self._path, FORM)

    def read(self, work: Work[T]) -> T:
        """See `Database.read`."""
        with self._told(), self._connections.lent() as db:
            self._check()
            return work(db, self._clock.wall())

    def write(self, work: Work[T], ticket: Ticket) -> T:
        """See `Database.write`."""
        with self._told(), self._connections.writing(ticket) as db:
            self._check()
            return work(db, self._clock.wall())

    def ping(self) -> None:
        """See `Database.ping`."""
        self.read(_look)
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise PermissionDeniedError(
                "the ledger's file is not readable and writable for this process"
            )

    def close(self) -> None:
        """See `Database.close`."""
        self._connections.close()

    @contextmanager
    def _told(self) -> Generator[None, None, None]:
        try:
            yield
        except sqlite3.Error as error:
            self._check()
            raise told(error) from error
        except UNKEEPABLE as error:
            raise told(error) from error

    def _check(self) -> None:
        # A file that was taken away still serves those who have it open, each his own.
        try:
            found = self._path.stat()
        except FileNotFoundError:
            found = None
        if found is not None and self._file is None:
            self._file = (found.st_dev, found.st_ino)
        if found is None or (found.st_dev, found.st_ino) != self._file:
            raise ConfigInvalidError(
                "the ledger's file is not there, or another is in its place; what it knew is "
                "nowhere else: stop whoever uses it, put it back, and start again",
                not_sent=True,
            )


class MemoryDatabase:
    """Tables in memory, behind one connection that all threads share; for tests.

    Lost with the process, and not to be used in a child that was forked.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = threading.Lock()
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._closed = False

    def prepare(self) -> None:
        """See `Database.prepare`."""
        with self._turn:
            self._check()
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            for statement in () if tables else FORM.schema:
                self._db.execute(statement)

    def read(self, work: Work[T]) -> T:
        """See `Database.read`."""
        with self._turn:
            self._check()
            try:
                return work(self._db, self._clock.wall())
            except (sqlite3.Error, *UNKEEPABLE) as error:
                raise told(error) from error

    def write(self, work: Work[T], ticket: Ticket) -> T:
        """See `Database.write`."""
        with self._turn:
            self._check()
            execute = self._db.execute
            execute("BEGIN IMMEDIATE")
            try:
                result = work(self._db, self._clock.wall())
                ticket.check()
            except BaseException as error:
                execute("ROLLBACK")
                if isinstance(error, (sqlite3.Error, *UNKEEPABLE)):
                    raise told(error) from error
                raise
            execute("COMMIT")
            return result

    def reset(self) -> None:
        """Forget all subjects."""
        with self._turn:
            self._check()
            (guard,) = self._db.execute(
                "SELECT sql FROM sqlite_master WHERE name = ?", (_GUARD,)
            ).fetchone()
            self._db.execute(f"DROP TRIGGER {_GUARD}")
            for table in _TABLES:
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
            self._db.execute(guard)

    def ping(self) -> None:
        """See `Database.ping`."""
        self.read(_look)

    def close(self) -> None:
        """See `Database.close`."""
        with self._turn:
            self._closed = True
            self._db.close()

    def _check(self) -> None:
        if self._closed:
            raise UnavailableError("the ledger was closed", not_sent=True)


def told(error: Exception) -> PlatformError:
    """What an error of SQLite, or of its module, means to a ledger's caller."""
    if isinstance(error, UNKEEPABLE):
        return InvalidArgumentError(
            "a ledger keeps valid Unicode, without lone surrogates, and integers of 64 bit",
            not_sent=True,
        )
    return classify(error, FORM.cure) or InternalError("SQLite failed")


def _look(db: sqlite3.Connection, now: float) -> None:
    db.execute("SELECT 1 FROM migrations LIMIT 1").fetchone()


__all__ = ["UNKEEPABLE", "Database", "FileDatabase", "MemoryDatabase", "Work", "told"]
