"""A file of ours: how it is made, how it is recognized, and why it cannot be."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cm_platform.errors import ConfigInvalidError, IntegrityError, PlatformError
from cm_platform.runtime import Runtime

from .errors import DAMAGED, classify, is_busy

logger = logging.getLogger("cm_platform.sqlite")

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700

_POLL: Final = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class Form:
    """What the files of a backend have in them.

    backend: its name. application_id: a number of its own, below 2**31. version: of the schema.
    schema: statements that fill an empty file. cure: see `classify`. of_another: what to do with
    a file of another version.
    """

    backend: str
    application_id: int
    version: int
    schema: tuple[str, ...]
    cure: str
    of_another: str = "use that version for it, or name another file"


def make(path: Path, form: Form) -> None:
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
                f"{form.backend} keeps one file, and {str(path)!r} is a directory: "
                "name a file in it"
            ) from None
        if path.stat().st_mode & 0o077:
            logger.warning("others can read %s: chmod 600 it", path)


def fill(db: sqlite3.Connection, path: Path, form: Form) -> None:
    """Fill an empty file, or recognize one of ours.

    Raises `config_invalid` for any other, and sqlite3.Error as it comes. Not in every case does
    SQLite wait for others here: see `patiently`.
    """
    # Before anything is changed in a file that is somebody else's; and at one moment, because
    # somebody may fill it just now.
    db.execute("BEGIN")
    new = _is_new(db, path, form)
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
        if _is_new(db, path, form):
            for statement in form.schema:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {form.application_id}")
            db.execute(f"PRAGMA user_version = {form.version}")
        db.execute("COMMIT")


async def patiently(runtime: Runtime, prepare: Callable[[], None], seconds: float) -> None:
    """Prepare a file; again for so many seconds while others are in the way.

    SQLite does not wait for others where a file becomes one with a log (WAL).
    """
    deadline = runtime.clock.monotonic() + seconds
    while True:
        try:
            await runtime.call(prepare)
        except sqlite3.Error as error:
            if not is_busy(error) or runtime.clock.monotonic() >= deadline:
                raise
        else:
            return
        await runtime.sleep(_POLL)


def refusal(error: BaseException, path: Path, form: Form) -> PlatformError | None:
    """Why a file cannot be opened, with its name; None for what is said already, or not ours."""
    # Some of ours are OSErrors, too.
    if isinstance(error, PlatformError):
        return None
    if isinstance(error, OSError):
        reason = os.strerror(error.errno) if error.errno is not None else "no reason given"
        return ConfigInvalidError(f"{form.backend} cannot use the file {str(path)!r}: {reason}")
    if isinstance(error, sqlite3.Error):
        told = classify(error, form.cure)
        if isinstance(told, IntegrityError):
            return IntegrityError(f"the file {str(path)!r} {DAMAGED}: {form.cure}")
        return told
    return None


def _is_new(db: sqlite3.Connection, path: Path, form: Form) -> bool:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if (application, version) == (form.application_id, form.version):
        return False
    if application == form.application_id:
        raise ConfigInvalidError(
            f"{str(path)!r} was written by another version of this library (form {version}, and "
            f"this one has {form.version}): {form.of_another}"
        )
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or version or tables:
        raise ConfigInvalidError(
            f"{str(path)!r} is a database of another program: name another file"
        )
    return True


__all__ = ["DIRECTORY_MODE", "FILE_MODE", "Form", "fill", "make", "patiently", "refusal"]
