"""A step of a migration: whose it is, how it is called, and what came of it."""

from __future__ import annotations

import getpass
import socket
import uuid
from dataclasses import dataclass

from .ledger import State


@dataclass(frozen=True, slots=True)
class Stepped:
    """A stage was entered. overridden: the evidence that was missing and overridden.

    paused: seconds that no write could begin, 0 where the authority stayed.
    """

    state: State
    overridden: tuple[str, ...] = ()
    paused: float = 0.0


def whoami() -> str:
    """Who runs this program, and where, for the log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def new_id() -> str:
    """A name for a step, so that it may be asked for again."""
    return uuid.uuid4().hex


__all__ = ["Stepped", "new_id", "whoami"]
