"""What moves the data of one kind: the parts of a migration that know what is moved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from cm_platform.config import MigrationConfig
from cm_platform.runtime import Runtime

from .ledger import Ledger, State, Subject, Terms
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

    async def forget(self) -> None:
        """Forget which operations the tenant has used: what is used from now on counts.

        `unsupported` where a plan does not go by them.
        """
        ...


class Moving(NamedTuple):
    """One tenant's data of one kind on its way.

    backend: what the tenant's service uses, a backend of its kind. mover: what the operator
    uses. terms: what all processes agree on. prepare: to be awaited before the backend is asked
    what it can do, where that depends on the stage.
    """

    backend: Any
    mover: Mover
    terms: Terms
    prepare: Callable[[], Awaitable[None]] | None = None


class Sides(NamedTuple):
    """The two backends, opened."""

    source: Any
    target: Any


class Assemble(Protocol):
    """Puts it together for one kind. No I/O.

    act: seconds that a whole operation may take. prefix: what all of the tenant's keys begin with.
    """

    def __call__(
        self,
        sides: Sides,
        ledger: Ledger,
        subject: Subject,
        terms: Terms,
        config: MigrationConfig,
        runtime: Runtime,
        *,
        act: float,
        prefix: str,
    ) -> Moving: ...


__all__ = ["Assemble", "Mover", "Moving", "Planned", "Sides"]
