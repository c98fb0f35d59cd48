"""What a refusal by Postgres, or its silence, means in our terms.

Messages are ours. Postgres' own repeat rows, with keys and values in them: the code (SQLSTATE) is
all that is taken from a refusal.
"""

from __future__ import annotations

from typing import Final

import psycopg

from cm_platform.errors import (
    ConfigInvalidError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    QuotaExceededError,
    UnauthenticatedError,
    UnavailableError,
)
from cm_platform.migration.ledger import Fenced


class LateError(psycopg.OperationalError):
    """No answer in time; the connection was closed."""


_MISSING: Final = frozenset({"42P01", "3F000", "42703", "42883"})
_NOT_NOW: Final = {
    "25006": "it is a replica, or in recovery",
    "40001": "another transaction was in the way",
    "40P01": "another transaction was in the way",
    "53300": "it has no room for another connection",
    "55P03": "another transaction was in the way",
    "57P03": "it is starting or stopping",
}
_CUT: Final = frozenset({"57P01", "57P02", "57P05", "40003", "25P03", "25P04"})
"""The connection ends with these; what had been asked may have been done."""

# A refusal to connect has no code, only words. A server in another language is "unavailable".
_REFUSED: Final = (
    "password authentication failed",
    "no password supplied",
    "does not exist",
    "not permitted to log in",
    "no pg_hba.conf entry",
    "certificate",
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "session is read-only",
)


def failed(error: psycopg.Error) -> PlatformError | Fenced:
    """The error of a statement that was sent and refused, or not answered."""
    code = error.sqlstate
    if code == "23502" and error.diag.column_name == "owner":
        # By `begin`: see `Statements.begin`.
        return Fenced("an intent of this id is somebody else's by now: begin with a new id")
    if isinstance(error, LateError):
        return DeadlineExceededError("Postgres did not answer in time", retryable=True)
    if code is None:
        if isinstance(error, psycopg.DataError):
            return _unkeepable()
        return UnavailableError(
            "the connection to Postgres was lost before the answer was complete", retryable=True
        )
    if code == "57014":
        return DeadlineExceededError(
            "Postgres gave a statement up that took too long", retryable=True, not_sent=True
        )
    if code in _CUT or code.startswith("08"):
        return UnavailableError(f"Postgres ended the connection ({code})", retryable=True)
    if code in _NOT_NOW:
        return UnavailableError(
            f"Postgres cannot serve now: {_NOT_NOW[code]} ({code})", retryable=True, not_sent=True
        )
    return _refused(code)


def not_connected(error: BaseException | None, pool_max: int) -> PlatformError:
    """The error where no connection could be had in time; nothing was sent.

    error: of the last attempt to connect; None when it succeeded.
    """
    if error is None:
        return UnavailableError(
            f"all {pool_max} connections to Postgres are in use: raise `pool_max`",
            retryable=True,
            not_sent=True,
        )
    text = str(error)
    found = next((words for words in _REFUSED if words in text), None)
    if found in ("password authentication failed", "no password supplied"):
        return UnauthenticatedError(
            "Postgres does not accept these credentials: check user and password in `url`",
            not_sent=True,
        )
    if found in ("does not exist", "not permitted to log in"):
        return ConfigInvalidError(
            "Postgres knows no such database, or no such user who may log in: check `url`",
            not_sent=True,
        )
    if found == "no pg_hba.conf entry":
        return PermissionDeniedError(
            "Postgres admits no such user, database and kind of connection from here (pg_hba.conf)",
            not_sent=True,
        )
    if found == "certificate":
        return ConfigInvalidError(
            "the certificate of the server is not trusted: check its host name, and `sslmode` and "
            "`sslrootcert` in `url`",
            not_sent=True,
        )
    if found == "session is read-only":
        return UnavailableError(
            "this Postgres is a replica, or only to be read; the ledger needs the primary",
            retryable=True,
            not_sent=True,
        )
    if found is not None:
        return UnavailableError(
            "Postgres has no room for another connection: lower `pool_max`, or put a pooler in "
            "front of it",
            retryable=True,
            not_sent=True,
        )
    return UnavailableError(
        "no connection to Postgres could be made", retryable=True, not_sent=True
    )


def _refused(code: str) -> PlatformError:
    if code in _MISSING:
        return ConfigInvalidError(
            "the tables of the ledger are not there, or not as they should be: run "
            "`cm-platform migrate init`",
            not_sent=True,
        )
    if code == "42501":
        return PermissionDeniedError(
            "the user lacks a right: the ledger needs USAGE on its schema, and SELECT, INSERT, "
            "UPDATE and DELETE on its tables; to make them, CREATE on the database",
            not_sent=True,
        )
    if code.startswith("22"):
        return _unkeepable()
    if code.startswith("53"):
        return QuotaExceededError(f"Postgres is out of memory or room ({code})", not_sent=True)
    return InternalError(f"Postgres gave an error that is not known here ({code})")


def _unkeepable() -> PlatformError:
    return InvalidArgumentError(
        "Postgres cannot keep this: text must be Unicode without U+0000 and lone surrogates, and "
        "numbers must not be out of range",
        not_sent=True,
    )


__all__ = ["LateError", "failed", "not_connected"]
