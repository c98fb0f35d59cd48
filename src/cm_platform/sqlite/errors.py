"""What SQLite's errors mean to a caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from cm_platform.errors import (
    ConfigInvalidError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    QuotaExceededError,
    UnavailableError,
)

DAMAGED: Final = "is damaged, or no file of SQLite"

_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DENIED: Final = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_FAILING: Final = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM}


def classify(error: Exception, cure: str) -> PlatformError | None:
    """An error of SQLite as a PlatformError; None for what is not one.

    cure: what to do about a damaged file, as the end of a sentence.

    Without SQLite's words, which may quote a value. Never `not_sent`: that is said where it is
    known (`uncommitted`).
    """
    if not isinstance(error, sqlite3.Error):
        return None
    code = _primary(error)
    if code in _BUSY:
        return UnavailableError(
            "another process has kept the file to itself for too long; "
            "`busy_timeout` says how long is waited",
            retryable=True,
        )
    if code in _DAMAGED:
        return IntegrityError(f"the file {DAMAGED}: {cure}")
    if code == sqlite3.SQLITE_FULL:
        return QuotaExceededError("the volume of the file takes no more")
    if code in _DENIED:
        return PermissionDeniedError("the file cannot be written by this process")
    if code in _FAILING:
        return UnavailableError(
            f"the file could not be used ({_name(error)}); is its volume still there, "
            "with room left and files to spare?",
            retryable=True,
        )
    # There is no code for this one.
    if str(error).startswith("no such table"):
        return ConfigInvalidError("the file's tables are not there: it was never prepared")
    if code == sqlite3.SQLITE_TOOBIG:
        return InvalidArgumentError("this value is larger than SQLite keeps")
    return InternalError(f"SQLite refused ({_name(error)})")


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection was in the way."""
    return _primary(error) in _BUSY


@contextmanager
def uncommitted(cure: str) -> Generator[None, None, None]:
    """A block after whose failure nothing is kept: what leaves it is `not_sent`."""
    try:
        yield
    except PlatformError as error:
        error.not_sent = True
        raise
    except sqlite3.Error as error:
        told = classify(error, cure) or InternalError("SQLite failed")
        told.not_sent = True
        raise told from error


@contextmanager
def committing() -> Generator[None, None, None]:
    """A block after whose failure the write may be there, whatever the reason says."""
    try:
        yield
    except sqlite3.Error as error:
        raise UnavailableError(
            f"the write was made, but perhaps not for good ({_name(error)})", retryable=True
        ) from error


def _primary(error: sqlite3.Error) -> int | None:
    # The module raises some of its own, which have no code of SQLite's.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or type(error).__name__


__all__ = ["DAMAGED", "classify", "committing", "is_busy", "uncommitted"]
