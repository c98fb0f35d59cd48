"""Entries in an SQLite file that several processes share, bounded in bytes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from cm_platform.errors import PermissionDeniedError, UnavailableError
from cm_platform.runtime import Clock
from cm_platform.sqlite import Connections, Ticket, fill, make

from .schema import FORM
from .table import Kept, Table, size_of

T = TypeVar("T")

OVERHEAD: Final = 128
"""Bytes of an entry beyond its key and its value: the key once more in its index, numbers, and
what pages leave unused."""


class FileStore:
    """A table in a file. Call `prepare` first."""

    overhead = OVERHEAD

    def __init__(
        self, path: Path, clock: Clock, max_bytes: int, *, fsync: bool, busy_timeout: float
    ) -> None:
        self._path = path
        self._clock = clock
        self._max_bytes = max_bytes
        self._busy_timeout = busy_timeout
        self._connections = Connections(
            path, fsync=fsync, busy_timeout=busy_timeout, cure=FORM.cure
        )

    def prepare(self) -> None:
        """Make the file, or recognize it. See `fill`."""
        make(self._path, FORM)
        with self._connections.lent() as db:
            fill(db, self._path, FORM)

    def read(self, work: Callable[[Table], T]) -> T:
        """See `Store.read`."""
        with self._connections.reading() as db:
            table = FileTable(db, self._clock.wall(), self._max_bytes)
            result = work(table)
        if table.aged:
            self._refresh(table.aged)
        return result

    def write(self, work: Callable[[Table], T], ticket: Ticket) -> T:
        """See `Store.write`."""
        with self._connections.writing(ticket) as db:
            # The time is that of the write, not of the time before its turn.
            table = FileTable(db, self._clock.wall(), self._max_bytes)
            result = work(table)
            table.refresh(table.aged)
        return result

    def ping(self) -> None:
        """See `Store.ping`."""
        with self._connections.lent() as db:
            db.execute("SELECT bytes FROM store").fetchone()
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise PermissionDeniedError(
                "the file is not there any more, or not readable and writable for this process"
            )

    def close(self) -> None:
        """See `Store.close`."""
        self._connections.close()

    def _refresh(self, keys: list[bytes]) -> None:
        # A read waits for nobody: if others write just now, the next read tries again.
        with suppress(UnavailableError), self._connections.turn(0), self._connections.lent() as db:
            db.execute("PRAGMA busy_timeout = 0")
            try:
                with suppress(sqlite3.OperationalError):
                    db.execute("BEGIN IMMEDIATE")
                    FileTable(db, self._clock.wall(), self._max_bytes).refresh(keys)
                    db.execute("COMMIT")
            finally:
                db.execute(f"PRAGMA busy_timeout = {self._busy_timeout * 1000:.0f}")


class FileTable:
    """See `Table`, within a transaction. Its time is the wall clock's, which processes share.

    aged: what was used, and belongs to the older half of a store that is filling up. Only this
    is worth a write: an entry in use is renumbered once while half of the store is replaced, and
    reads stay reads.
    """

    def __init__(self, db: sqlite3.Connection, now: float, max_bytes: int) -> None:
        self.now = now
        self.aged: list[bytes] = []
        self._db = db
        self._max_bytes = max_bytes
        used, oldest, newest = db.execute(
            "SELECT bytes, (SELECT min(id) FROM entries), (SELECT max(id) FROM entries) FROM store"
        ).fetchone()
        # Twice the number in the middle: below it is the older half.
        self._middle: int = oldest + newest if used * 2 > max_bytes else 0

    def get(self, key: bytes) -> Kept | None:
        """See `Table.get`."""
        row = self._db.execute(
            "SELECT value, expires, id FROM entries WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        value, expires, number = row
        if expires is not None and expires <= self.now:
            return None
        if number * 2 < self._middle:
            self.aged.append(key)
        return Kept(value, expires)

    def put(self, key: bytes, value: bytes, expires: float | None) -> None:
        """See `Table.put`."""
        size = size_of(key, value, OVERHEAD, self._max_bytes)
        self.remove(key)
        (used,) = self._db.execute("SELECT bytes FROM store").fetchone()
        if used + size > self._max_bytes:
            self._make_room(used + size - self._max_bytes)
        self._db.execute(
            "INSERT INTO entries (key, expires, size, value) VALUES (?, ?, ?, ?)",
            (key, expires, size, value),
        )

    def expire(self, key: bytes, expires: float | None) -> None:
        """See `Table.expire`."""
        self._db.execute("UPDATE entries SET expires = ? WHERE key = ?", (expires, key))

    def remove(self, key: bytes) -> None:
        """See `Table.remove`."""
        self._db.execute("DELETE FROM entries WHERE key = ?", (key,))

    def refresh(self, keys: list[bytes]) -> None:
        """Make these the newest, if they are still there."""
        self._db.executemany(
            "UPDATE entries SET id = (SELECT max(id) + 1 FROM entries) WHERE key = ?",
            [(key,) for key in keys],
        )

    def _make_room(self, excess: int) -> None:
        excess = self._drop(
            excess,
            "SELECT id, size FROM entries WHERE expires <= ? ORDER BY expires",
            (self.now,),
        )
        if excess > 0:
            self._drop(excess, "SELECT id, size FROM entries ORDER BY id", ())

    def _drop(self, excess: int, query: str, parameters: tuple[float, ...]) -> int:
        doomed: list[tuple[int]] = []
        cursor = self._db.execute(query, parameters)
        while excess > 0 and (row := cursor.fetchone()) is not None:
            doomed.append((row[0],))
            excess -= row[1]
        cursor.close()
        self._db.executemany("DELETE FROM entries WHERE id = ?", doomed)
        return excess


__all__ = ["OVERHEAD", "FileStore", "FileTable"]
