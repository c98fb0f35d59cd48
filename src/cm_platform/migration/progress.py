"""How far a long act has come, as it is told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report. act: such as "backfill". done, total: objects; total None when unknown.

    moved: bytes that were sent. failed: keys that could not be dealt with. waiting: why nothing
    happens just now, None when something does.
    """

    act: str
    done: int = 0
    total: int | None = None
    moved: int = 0
    failed: int = 0
    waiting: str | None = None


Report = Callable[[Progress], None]


def unwatched(progress: Progress) -> None:
    """Nobody watches."""


__all__ = ["Progress", "Report", "unwatched"]
