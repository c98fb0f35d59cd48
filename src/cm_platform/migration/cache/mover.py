"""The acts of a cache's migration.

Nothing is brought over: a cache cannot list what it has, and what is read moves by itself. Where
storage has its backfill, a cache has the flush of what is on the target from before; where
storage compares bytes, a cache sees that the flush holds, and that nothing was recorded since
which the target cannot do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cm_platform.config import NamespaceConfig
from cm_platform.errors import PreconditionFailedError
from cm_platform.migration.ledger import Ledger, State, Subject, Terms
from cm_platform.migration.mover import Planned
from cm_platform.migration.persistence import persist
from cm_platform.migration.progress import Progress, Report
from cm_platform.migration.stages import BACKFILL

from .classes import by_group
from .flush import Place, highest, lower, raise_all
from .mix import Mix, mix_subject
from .names import place_of
from .pair import Pair
from .plan import longest_exact, obstacles, planned
from .standing import Standing, Times, current_run, flushed_for, phases_of, started

_MICROSECONDS: Final = 1_000_000


class CacheMover:
    """Moves one tenant's cache. prefix: what its partitions begin with. namespaces: those that
    move, as configured. has_sites: whether a partition is more than the prefix."""

    backfills = False

    def __init__(
        self,
        pair: Pair,
        ledger: Ledger,
        subject: Subject,
        mix: Mix,
        terms: Terms,
        prefix: str,
        namespaces: Mapping[str, NamespaceConfig],
    ) -> None:
        self._pair = pair
        self._ledger = ledger
        self._subject = subject
        self._mix = mix
        self._terms = terms
        self._prefix = prefix
        self._namespaces = namespaces
        self._wall = pair.runtime.clock.wall

    async def plan(self, report: Report) -> Planned:
        """See `Mover.plan`."""
        counts = await self._counts()
        plan = planned(self._pair, counts, self._namespaces, soak=self._terms.soak)
        report(Progress("plan", plan.objects, plan.objects))
        return Planned(plan.objects, len(plan.losses), len(plan.obstacles), plan.to_dict())

    async def backfill(
        self, state: State, report: Report, total: int | None, *, resume: bool
    ) -> Mapping[str, Any]:
        """Flush the target, unless it was and nothing was left there since.

        resume: False flushes it all the same, with what it has that counts.

        Raises `precondition_failed` while it is the authority, or may have counters that the
        source has not.
        """
        if resume and await self._is_flushed():
            notes = await persist(self._pair.runtime, self._ledger.notes, self._subject)
            return notes[BACKFILL].body
        run = current_run(await persist(self._pair.runtime, self._ledger.log, self._subject))
        standing = await self._standing(state)
        if standing.authority == "target":
            raise PreconditionFailedError(
                "the target is right: to flush it now would be to clear the tenant's cache. Roll "
                "back first",
                not_sent=True,
            )
        if standing.left is not None and longest_exact(by_group(await self._counts())):
            raise PreconditionFailedError(
                "counters or conditional values may be on the target only, and would be lost: they "
                "come back when they are used, or end by themselves",
                not_sent=True,
            )
        places = await self._places()
        now = int(self._wall() * _MICROSECONDS)
        version = max(now, started(run) + 1, await highest(self._pair, places) + 1)
        # Noted first: a flush that was cut off has happened for all who see the next stage.
        note = {
            "complete": False,
            "epoch": state.epoch,
            "since": run[0].epoch if run else 0,
            "version": version,
            "objects": len(places),
        }
        await self._note(note)
        await raise_all(self._pair, places, version)
        note["complete"] = True
        await self._note(note)
        report(Progress("backfill", len(places), len(places)))
        return note

    async def verify(
        self, state: State, report: Report, total: int | None, *, sample: float
    ) -> Mapping[str, Any]:
        """See that the flush holds, and that what is done now can be done on the target."""
        problems = [found.what for found in await self._obstacles()]
        if not await self._is_flushed():
            problems.append("the target was not flushed since it was last left alone (`backfill`)")
        standing = await self._standing(state)
        places = await self._places()
        version = await self._version()
        if problems == [] and version:
            behind = await lower(self._pair, places, version)
            # New namespaces: nobody knows what is there from before.
            await raise_all(self._pair, behind, version)
        report(Progress("verify", len(places), len(places)))
        return {
            "clean": not problems,
            "full": True,
            "epoch": state.epoch,
            "objects": len(places),
            "divergent": len(problems),
            "unread": 0,
            "authority": standing.authority,
            "problems": problems,
        }

    async def repair(self) -> tuple[int, Mapping[str, str]]:
        """There are no intents."""
        return 0, {}

    async def forget(self) -> None:
        """Forget what was recorded: what is done from now on counts."""
        await self._mix.flush()
        await persist(self._pair.runtime, self._ledger.reset_counts, mix_subject(self._subject))

    async def _counts(self) -> Mapping[tuple[str, str], int]:
        await self._mix.flush()
        return await persist(self._pair.runtime, self._ledger.counts, mix_subject(self._subject))

    async def _obstacles(self) -> Sequence[Any]:
        return obstacles(
            self._pair,
            by_group(await self._counts()),
            self._namespaces,
            soak=self._terms.soak,
        )

    async def _places(self) -> list[Place]:
        """All that is known to be there: of the tenant itself, and of each site that was seen."""
        places = {(self._prefix, namespace) for namespace in self._namespaces}
        for group in by_group(await self._counts()):
            if (place := place_of(group, self._prefix)) is not None:
                places.add(place)
        return sorted(places)

    async def _standing(self, state: State) -> Standing:
        runtime = self._pair.runtime
        log = await persist(runtime, self._ledger.log, self._subject)
        entered = next((line.at for line in log if line.epoch == state.epoch), 0.0)
        times = Times(
            now=entered + state.age,
            settling=state.terms.settling,
            exact=longest_exact(by_group(await self._counts())),
        )
        notes = await persist(runtime, self._ledger.notes, self._subject)
        return phases_of(state.stage, state.epoch, log, notes, self._pair, times)[0].standing

    async def _version(self) -> int:
        notes = await persist(self._pair.runtime, self._ledger.notes, self._subject)
        note = notes.get(BACKFILL)
        return int(note.body.get("version", 0)) if note is not None else 0

    async def _is_flushed(self) -> bool:
        runtime = self._pair.runtime
        notes = await persist(runtime, self._ledger.notes, self._subject)
        run = current_run(await persist(runtime, self._ledger.log, self._subject))
        note = notes.get(BACKFILL)
        return (
            note is not None
            and bool(note.body.get("complete"))
            and note.body.get("epoch", -1)
            >= flushed_for(run, prompt=self._pair.is_prompt("target"))
        )

    async def _note(self, note: Mapping[str, Any]) -> None:
        await persist(self._pair.runtime, self._ledger.note, self._subject, BACKFILL, note)


__all__ = ["CacheMover"]
