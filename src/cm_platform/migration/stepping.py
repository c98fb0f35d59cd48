"""A step of a migration: whose it is, how it is called, and what came of it."""

from __future__ import annotations

import getpass
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from cm_platform import arguments
from cm_platform.errors import UnavailableError

from .ledger import Move, State, Transition
from .progress import Report


@dataclass(frozen=True, slots=True)
class Stepped:
    """A stage was entered. overridden: the evidence that was missing and overridden.

    paused: seconds that no write could begin, 0 where the authority stayed.
    """

    state: State
    overridden: tuple[str, ...] = ()
    paused: float = 0.0


class Asked:
    """Steps that were asked for and not answered. One of them may have been taken all the same:
    then asking again must not be one step too far."""

    __slots__ = ("_moves",)

    def __init__(self) -> None:
        # By id, whether it leads forth.
        self._moves: dict[str, bool] = {}

    def remember(self, move: Move, *, forth: bool) -> None:
        """It is about to be asked for. forth: not back."""
        self._moves[move.id] = forth

    def answered(self) -> None:
        """The last one was answered, and by the fence no other can be taken any more."""
        self._moves.clear()

    def was_taken(self, log: Sequence[Transition], *, forth: bool) -> bool:
        """Whether whoever asks for the next step, in that direction, means one that was taken."""
        taken = any(self._moves.get(line.id) is forth for line in log)
        if taken:
            self._moves.clear()
        return taken


@dataclass(frozen=True, slots=True)
class Waits:
    """For how long a step may take, and who is told of it.

    patience: seconds in all, None for as long as it needs. longest_pause: seconds that it may
    keep writers waiting. Raises `invalid_argument` for what is no such time.
    """

    patience: float | None
    longest_pause: float
    report: Report

    def __post_init__(self) -> None:
        arguments.seconds(self.longest_pause, "longest_pause")
        if self.patience is not None:
            arguments.seconds(self.patience, "patience")


def moved_by_another() -> UnavailableError:
    """The error of a step from a stage that somebody else has left meanwhile."""
    return UnavailableError(
        "somebody else moves this migration at the same time", retryable=True, not_sent=True
    )


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


__all__ = ["Asked", "Stepped", "Waits", "moved_by_another", "new_id", "whoami"]
