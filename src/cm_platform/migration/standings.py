"""How far every migration of a ledger is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cm_platform.runtime import Runtime

from .ledger import Ledger, Pending, State, Subject
from .overview import intents, known_objects, named, objects
from .persistence import persist
from .stages import BACKFILL

_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Standing:
    """One of many migrations. looked: objects that a backfill has looked at; total: of so many.
    Both None where nobody has counted."""

    subject: Subject
    state: State
    pending: Pending
    looked: int | None
    total: int | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            **named(self.subject, self.state),
            "intents": intents(self.pending),
            "looked": self.looked,
            "objects": self.total,
        }


async def standings(ledger: Ledger, runtime: Runtime) -> list[Standing]:
    """Everything that was ever started, by kind and tenant. Raises what the ledger raises."""

    async def standing(subject: Subject, state: State) -> Standing:
        notes = await persist(runtime, ledger.notes, subject)
        return Standing(
            subject,
            state,
            await persist(runtime, ledger.pending, subject),
            objects(notes, BACKFILL),
            known_objects(notes, await persist(runtime, ledger.log, subject)),
        )

    known = await persist(runtime, ledger.subjects)
    return await runtime.gather(
        (standing(subject, state) for subject, state in known), limit=_AT_ONCE
    )


__all__ = ["Standing", "standings"]
