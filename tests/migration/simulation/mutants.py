"""The protocol without one of its guards, each by name: what the simulator must find out.

    with CATALOGUE["no-fence"].planted():
        outcome = simulate(CATALOGUE["no-fence"].seed)

Only the judge's verdict on the data counts as found: that a migration comes to no end does not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

from cm_platform.migration.control import AsyncMigration
from cm_platform.migration.flip import Flip
from cm_platform.migration.intents import Held, Intents
from cm_platform.migration.lease import StageLease, View
from cm_platform.migration.ledger import Side
from cm_platform.migration.ledgers.sqlite import fence, stages
from cm_platform.migration.storage import reconcile
from cm_platform.migration.storage.backfill import Backfill, Backfilled
from cm_platform.migration.storage.reads import Reader
from cm_platform.migration.storage.reconcile import Reconciler
from cm_platform.migration.storage.sameness import same
from cm_platform.migration.storage.writes import Writer
from cm_platform.storage.backend import REVISION, ObjectInfo
from cm_platform.storage.revision import Condition
from cm_platform.testing.simulation.migrating import Outcome

Patch = tuple[Any, str, Any]
"""Whose, what, and what stands there instead."""

_VERDICTS: Final = ("divergent", "lost", "resurrected", "not linearizable")


@dataclass(frozen=True, slots=True)
class Mutant:
    """takes: what it takes away, in a sentence. seed: one that finds it; the first known."""

    takes: str
    seed: int
    patches: Callable[[], Sequence[Patch]]

    @contextmanager
    def planted(self) -> Generator[None, None, None]:
        """The protocol without it, for as long as the block lasts."""
        with ExitStack() as planted:
            for whose, name, value in self.patches():
                planted.enter_context(patch.object(whose, name, value))
            yield


def verdicts(outcome: Outcome) -> list[str]:
    """What was found wrong with the data itself."""
    return [text for text in outcome.wrong if text.startswith(_VERDICTS)]


def _no_fence() -> Sequence[Patch]:
    def admits(fence: fence.Fence | None, epoch: int, now: float, *, uploads: bool) -> bool:
        return fence is not None

    return [(fence, "admits", admits)]


def _no_quarantine() -> Sequence[Patch]:
    make = Intents.__init__

    def init(self: Intents, *args: Any, act: float, quarantine: float) -> None:
        make(self, *args, act=act, quarantine=0.0)

    return [(Intents, "__init__", init)]


def _no_read_fence() -> Sequence[Patch]:
    async def read(
        self: Reader, read: Callable[[Side], Awaitable[Any]], key: str | None = None
    ) -> Any:
        view = self._stage.last() or await self._stage.ask()
        return await read(view.authority)

    return [(Reader, "read", read)]


def _no_lease() -> Sequence[Patch]:
    def held(self: StageLease) -> View | None:
        return self._view

    return [(StageLease, "held", held)]


def _no_second_look() -> Sequence[Patch]:
    async def once(
        self: Reconciler, held: Held, key: str, *, up_to: int | None = None
    ) -> int | None:
        source, target = await self._pair.heads(key)
        if same(source, target):
            return 0
        right, wrong = (source, target) if held.view.authority == "source" else (target, source)
        await self._intents.renew(held)
        if right is None:
            await self._remove(held, key, wrong)
        else:
            await self._copy(held, key, right, wrong)
        return 0

    return [(Reconciler, "reconcile", once)]


def _blind_backfill() -> Sequence[Patch]:
    async def one(self: Backfill, held: Held, key: str) -> int:
        authority = held.view.authority
        info = await self._pair.head(authority, key)
        if info is None:
            return 0
        await self._reconciler.bring(held, key, authority, info, Condition(False, None))
        return info.size

    return [(Backfill, "_one", one)]


def _no_revision_is_equal() -> Sequence[Patch]:
    def alike(one: ObjectInfo | None, other: ObjectInfo | None) -> bool:
        if one is None or other is None:
            return one is other
        here, there = one.metadata.get(REVISION), other.metadata.get(REVISION)
        return one.size == other.size and (here is None or there is None or here == there)

    return [(reconcile, "same", alike)]


def _size_is_all() -> Sequence[Patch]:
    def alike(one: ObjectInfo | None, other: ObjectInfo | None) -> bool:
        if one is None or other is None:
            return one is other
        return one.size == other.size

    return [(reconcile, "same", alike)]


def _repair_of_the_living() -> Sequence[Patch]:
    def due_by(now: float) -> float:
        return now + 1e9

    return [(fence, "due_by", due_by)]


def _no_doubt() -> Sequence[Patch]:
    finish = Intents.finish

    async def trusting(
        self: Intents, held: Held, clean: Collection[str], *, after: float = 0.0
    ) -> bool:
        held.doubt.clear()
        return await finish(self, held, clean, after=after)

    return [(Intents, "finish", trusting)]


def _every_intent_ends() -> Sequence[Patch]:
    finish = Intents.finish

    async def careless(
        self: Intents, held: Held, clean: Collection[str], *, after: float = 0.0
    ) -> bool:
        held.doubt.clear()
        return await finish(self, held, list(held.ids), after=after)

    return [(Intents, "finish", careless)]


def _no_intent() -> Sequence[Patch]:
    def begin(*_: object) -> None:
        """Nothing is recorded."""

    return [(fence, "begin", begin)]


def _no_settling() -> Sequence[Patch]:
    async def settled(self: AsyncMigration, act: str, report: object) -> Any:
        return await self.state()

    return [(AsyncMigration, "_settled", settled)]


def _mirror_alone() -> Sequence[Patch]:
    async def unseen(self: Writer, held: Held, keys: Collection[str]) -> Sequence[str]:
        return list(keys)

    return [(Writer, "_reconciled", unseen)]


def _no_leftovers() -> Sequence[Patch]:
    phase = Backfill._phase

    async def one_sided(
        self: Backfill, done: Backfilled, side: Side, report: Any, total: int | None
    ) -> Backfilled:
        return done if done.phase == "other" else await phase(self, done, side, report, total)

    return [(Backfill, "_phase", one_sided)]


def _no_deadline() -> Sequence[Patch]:
    def check(self: Intents, held: Held) -> None:
        """Never too late."""

    async def renew(self: Intents, held: Held) -> None:
        """Never too late."""

    return [(Intents, "check", check), (Intents, "renew", renew)]


def _no_announcement() -> Sequence[Patch]:
    async def announced(self: Flip) -> None:
        """At once."""

    def long_enough(row: stages.Row, now: float) -> bool:
        return True

    return [(Flip, "_announced", announced), (stages, "announced_long_enough", long_enough)]


def _no_drain() -> Sequence[Patch]:
    async def drained(self: Flip) -> bool:
        return True

    def unseen(*_: object) -> bool:
        return True

    return [(Flip, "_drained", drained), (stages, "drained", unseen)]


def _nobody_owns() -> Sequence[Patch]:
    def owned(db: object, owner: str, ids: Sequence[str]) -> list[str]:
        return list(ids)

    return [(fence, "owned", owned)]


def _no_mirroring_of_what_failed() -> Sequence[Patch]:
    async def refused(self: Writer, held: Held, error: Exception) -> None:
        await self._intents.finish(held, held.ids)

    return [(Writer, "_refused", refused)]


CATALOGUE: Final = {
    "no-fence": Mutant(
        "Intents of an old epoch begin, and while writing is paused.", 472, _no_fence
    ),
    "no-quarantine": Mutant(
        "Intents are due when their owner's time is over, though what it sent may still land.",
        6,
        _no_quarantine,
    ),
    "no-read-fence": Mutant(
        "A read's answer counts, whoever the authority is by then.", 248, _no_read_fence
    ),
    "no-stage-lease": Mutant("An answer of the ledger is used for ever.", 0, _no_lease),
    "no-second-look": Mutant(
        "What was brought over is not looked at again after the change.", 38, _no_second_look
    ),
    "blind-backfill": Mutant(
        "The backfill copies what the authority had, without looking at the other side.",
        0,
        _blind_backfill,
    ),
    "no-revision-is-equal": Mutant(
        "Objects without a revision are taken for the same.", 2272, _no_revision_is_equal
    ),
    "size-is-all": Mutant("Objects of one size are taken for the same.", 25, _size_is_all),
    "repair-of-the-living": Mutant(
        "Intents are taken over while their owner still acts.", 2, _repair_of_the_living
    ),
    "no-doubt": Mutant("What was sent and not answered is forgotten.", 47, _no_doubt),
    "every-intent-ends": Mutant(
        "Intents end also where the sides were not found the same.", 66, _every_intent_ends
    ),
    "no-intent": Mutant("Nothing says that a key is being changed.", 2, _no_intent),
    "no-settling": Mutant(
        "The backfill begins while writes of the stage off are still under way.", 7, _no_settling
    ),
    "mirror-alone": Mutant(
        "A writer changes both sides and never compares them.", 4, _mirror_alone
    ),
    "no-leftovers": Mutant("What only the other side has is not looked for.", 3, _no_leftovers),
    "no-deadline": Mutant("An owner acts after its time is over.", 389, _no_deadline),
    "no-announcement": Mutant(
        "The data changes sides while old answers of the ledger are in use.", 8, _no_announcement
    ),
    "no-drain": Mutant(
        "The data changes sides while intents are open; the ledger does not count them either.",
        249,
        _no_drain,
    ),
    "nobody-owns": Mutant(
        "Intents are ended, left and extended whoever they belong to by now.", 175, _nobody_owns
    ),
    "failed-is-undone": Mutant(
        "A change that failed is taken for one that had no effect.",
        66,
        _no_mirroring_of_what_failed,
    ),
}
"""By name."""

__all__ = ["CATALOGUE", "Mutant", "verdicts"]
