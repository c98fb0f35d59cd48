"""What moves the data of one kind: the acts of a migration that know what is moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from .ledger import State
from .progress import Report


class Planned(NamedTuple):
    """losses: must be accepted. obstacles: must be removed. body: all of it, JSON-ready."""

    objects: int
    losses: int
    obstacles: int
    body: Mapping[str, Any]


class Mover(Protocol):
    """Moves one tenant's data of one kind between two opened backends."""

    backfills: bool
    """Whether what was there before has to be brought over."""

    async def plan(self, report: Report) -> Planned:
        """Look at both sides; change nothing."""
        ...

    async def backfill(
        self, state: State, report: Report, total: int | None, *, resume: bool
    ) -> Mapping[str, Any]:
        """Bring over what was there before; how it ended, as the ledger keeps it."""
        ...

    async def verify(
        self, state: State, report: Report, total: int | None, *, sample: float
    ) -> Mapping[str, Any]:
        """Compare both sides; what was found, as the ledger keeps it."""
        ...

    async def repair(self) -> tuple[int, Mapping[str, str]]:
        """Finish a batch of what others began: keys that are the same again, and those that
        could not be made so, with the reason. Nothing is due when both are empty."""
        ...


__all__ = ["Mover", "Planned"]
