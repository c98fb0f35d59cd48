"""The acts of a storage migration, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cm_platform.errors import UnsupportedError
from cm_platform.migration.intents import Intents
from cm_platform.migration.ledger import Ledger, State, Subject
from cm_platform.migration.mover import Planned
from cm_platform.migration.points import Point, reach
from cm_platform.migration.progress import Report

from .backfill import Backfill
from .pair import Pair
from .plan import Planning
from .reconcile import Reconciler
from .repair import Repairer
from .verify import Verification


class StorageMover:
    """Moves one tenant's objects. prefix: what all of their keys begin with.

    concurrency: keys at once. rate: keys a second of a backfill, 0 for no bound.
    """

    backfills = True

    def __init__(
        self,
        pair: Pair,
        ledger: Ledger,
        subject: Subject,
        intents: Intents,
        reconciler: Reconciler,
        repairer: Repairer,
        prefix: str,
        *,
        concurrency: int = 8,
        rate: float = 0.0,
    ) -> None:
        self._planning = Planning(pair, prefix, concurrency=concurrency)
        self._backfill = Backfill(
            pair,
            ledger,
            subject,
            intents,
            reconciler,
            prefix,
            concurrency=concurrency,
            rate=rate,
        )
        self._verification = Verification(pair, ledger, subject, prefix, concurrency=concurrency)
        self._repairer = repairer

    async def plan(self, report: Report) -> Planned:
        """See `Mover.plan`."""
        plan = await self._planning.run(report)
        return Planned(plan.objects, len(plan.losses), len(plan.obstacles), plan.to_dict())

    async def backfill(
        self, state: State, report: Report, total: int | None, *, resume: bool
    ) -> Mapping[str, Any]:
        """See `Mover.backfill`."""
        done = await self._backfill.run(state.authority, state.epoch, report, total, resume=resume)
        return done.to_dict()

    async def verify(
        self, state: State, report: Report, total: int | None, *, sample: float
    ) -> Mapping[str, Any]:
        """See `Mover.verify`."""
        found = await self._verification.run(state.authority, state.epoch, report, total, sample)
        await reach(Point.VERIFIED)
        return found.to_dict()

    async def repair(self) -> tuple[int, Mapping[str, str]]:
        """See `Mover.repair`."""
        repaired = await self._repairer.repair()
        return repaired.keys, {
            key: f"{error.code}: {error.message}" for key, error in repaired.failed.items()
        }

    async def forget(self) -> None:
        """See `Mover.forget`."""
        raise UnsupportedError("a plan of storage goes by its objects; no use of it is recorded")


__all__ = ["StorageMover"]
