"""Exit codes: one table for every command."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from cm_platform.errors import ErrorCode, PlatformError


class ExitCode(IntEnum):
    """What a script can tell from how a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    CHECK_FAILED = 6
    DOUBT = 7
    REFUSED = 8
    SKIPPED = 9
    INTERRUPTED = 130
    NO_READER = 141


MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "an operation failed",
    ExitCode.USAGE: "wrong usage: invalid_argument",
    ExitCode.CONFIGURATION: "config_invalid, or an extra is not installed",
    ExitCode.NOT_FOUND: "not_found",
    ExitCode.UNAVAILABLE: "unavailable, deadline_exceeded, rate_limited: try again later",
    ExitCode.CHECK_FAILED: (
        "a check failed (doctor, conformance, gateway check, services --check, migrate plan and "
        "verify)"
    ),
    ExitCode.DOUBT: "ambiguous, integrity: look before you go on",
    ExitCode.REFUSED: "a migration's step was refused: what it needs to be known is not",
    ExitCode.SKIPPED: "a migration skipped keys: each is listed with its reason",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.NO_READER: "whoever read the output went away",
}

_BY_ERROR: Final[Mapping[ErrorCode, ExitCode]] = {
    "invalid_argument": ExitCode.USAGE,
    "config_invalid": ExitCode.CONFIGURATION,
    "not_found": ExitCode.NOT_FOUND,
    "unavailable": ExitCode.UNAVAILABLE,
    "deadline_exceeded": ExitCode.UNAVAILABLE,
    "rate_limited": ExitCode.UNAVAILABLE,
    "ambiguous": ExitCode.DOUBT,
    "integrity": ExitCode.DOUBT,
}


def exit_code(error: PlatformError) -> ExitCode:
    """How a command ends that this error ended."""
    return _BY_ERROR.get(error.code, ExitCode.FAILED)


def explained() -> str:
    """The table, for `--help`."""
    return "\n".join(f"{code.value}  {meaning}" for code, meaning in MEANINGS.items())


__all__ = ["MEANINGS", "ExitCode", "exit_code", "explained"]
