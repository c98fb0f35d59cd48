"""The file: how it is made, and how it is recognized."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

from cm_platform.errors import ConfigInvalidError

logger = logging.getLogger("cm_platform.cache")

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
APPLICATION_ID: Final = 0x636D6361  # "cmca"
VERSION: Final = 1

# The value comes last: what stands before it is read without walking through a large one.
# Entries are numbered in the order of their use, and `store.bytes` is the sum of their sizes.
_SCHEMA: Final = (
    """
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        expires REAL,
        size INTEGER NOT NULL,
        value BLOB NOT NULL
    )
    """,
    "CREATE INDEX entries_by_time ON entries (expires) WHERE expires IS NOT NULL",
    "CREATE TABLE store (bytes INTEGER NOT NULL)",
    "INSERT INTO store VALUES (0)",
    """
    CREATE TRIGGER entry_kept AFTER INSERT ON entries
    BEGIN UPDATE store SET bytes = bytes + NEW.size; END
    """,
    """
    CREATE TRIGGER entry_gone AFTER DELETE ON entries
    BEGIN UPDATE store SET bytes = bytes - OLD.size; END
    """,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)


def make(path: Path) -> None:
    """Make an empty file, unless there is one, and directories for it.

    Raises `config_invalid` for a directory in its place, and OSError as it comes.
    """
    path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    try:
        # Here, because SQLite would make it readable for all. And only when it is not there:
        # closing it again would take away the locks of this process's connections.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    except FileExistsError:
        if path.is_dir():
            raise ConfigInvalidError(
                f"cache.local keeps one file, and {str(path)!r} is a directory: name a file in it"
            ) from None
        if path.stat().st_mode & 0o077:
            logger.warning("others can read %s: chmod 600 it", path)


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Fill an empty file, or recognize one of ours.

    Raises `config_invalid` for any other, and sqlite3.Error as it comes. Not in every case does
    SQLite wait for others here: where it is busy, try again.
    """
    # Before anything is changed in a file that is somebody else's; and at one moment, because
    # somebody may fill it just now.
    db.execute("BEGIN")
    new = _is_new(db, path)
    db.execute("ROLLBACK")
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ConfigInvalidError(
            f"the file system of {str(path)!r} cannot share a file between processes; put it on "
            "a local disk"
        )
    if new:
        db.execute("BEGIN IMMEDIATE")
        # Somebody else may have been faster.
        if _is_new(db, path):
            for statement in _SCHEMA:
                db.execute(statement)
        db.execute("COMMIT")


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if (application, version) == (APPLICATION_ID, VERSION):
        return False
    if application == APPLICATION_ID:
        raise ConfigInvalidError(
            f"{str(path)!r} was written by another version of this library (form {version}, and "
            f"this one has {VERSION}): delete it while nobody uses it, or name another file"
        )
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or version or tables:
        raise ConfigInvalidError(
            f"{str(path)!r} is a database of another program: name another file"
        )
    return True


__all__ = ["DIRECTORY_MODE", "FILE_MODE", "make", "prepare"]
