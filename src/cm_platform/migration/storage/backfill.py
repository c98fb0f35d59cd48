"""Bringing over what was there before: every key of both sides is reconciled, never copied blindly.

First all keys of the authority, then all keys of the other side, so that objects which only it
has are found and removed. The cursor is written after each page; whoever begins again goes on
there, and what was done twice does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, cast

from cm_platform.errors import PlatformError, UnavailableError
from cm_platform.migration.intents import Held, Intents
from cm_platform.migration.ledger import Ledger, Purpose, Side, Subject
from cm_platform.migration.persistence import persist
from cm_platform.migration.points import Point, reach
from cm_platform.migration.progress import Progress, Report
from cm_platform.migration.stages import BACKFILL, mirrored_since

from .listing import Listed, pages
from .pair import Pair, opposite
from .reconcile import Reconciler

logger = logging.getLogger("cm_platform.migration")

_BATCH: Final = 100
_TRIES: Final = 3
_MOST_SKIPPED: Final = 10_000

Phase = Literal["authority", "other"]


@dataclass(frozen=True, slots=True)
class Backfilled:
    """How far a backfill has come. objects: keys that were looked at. moved: bytes sent.

    skipped: keys that could not be moved, in this run; the ledger has the reasons.
    side: whose keys are listed in the phase "authority".
    since: the epoch from which on both sides were written, when it began.
    """

    phase: Phase = "authority"
    side: Side = "source"
    since: int = 0
    cursor: str | None = None
    complete: bool = False
    objects: int = 0
    moved: int = 0
    skipped: int = 0

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Backfilled:
        """From the ledger's note."""
        known = cls.__dataclass_fields__
        return cls(**{name: value for name, value in body.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return asdict(self)


@dataclass(slots=True)
class _Paced:
    """At most so many keys a second. No bound: 0."""

    rate: float
    runtime: Any
    next: float = field(default=0.0)

    async def take(self, keys: int) -> None:
        if self.rate <= 0:
            return
        now: float = self.runtime.clock.monotonic()
        self.next = max(self.next, now)
        wait = self.next - now
        self.next += keys / self.rate
        if wait > 0:
            await self.runtime.sleep(wait)


class Backfill:
    """One tenant's backfill. concurrency: keys at once. rate: keys a second, 0 for no bound."""

    def __init__(
        self,
        pair: Pair,
        ledger: Ledger,
        subject: Subject,
        intents: Intents,
        reconciler: Reconciler,
        prefix: str,
        *,
        concurrency: int = 8,
        rate: float = 0.0,
    ) -> None:
        self._pair = pair
        self._ledger = ledger
        self._subject = subject
        self._intents = intents
        self._reconciler = reconciler
        self._prefix = prefix
        self._concurrency = concurrency
        self._pace = _Paced(rate, pair.runtime)
        # The last one of which it is known that what was done before it still counts.
        self._epoch = 0

    async def run(
        self,
        authority: Side,
        epoch: int,
        report: Report,
        total: int | None,
        *,
        resume: bool = True,
    ) -> Backfilled:
        """Go on until all keys were looked at; how it ended.

        authority: the side that is right now. epoch: the one in which it was seen that nobody
        writes any more without an intent. resume: go on where the last one stopped.

        Raises `unavailable` when the stage changed meanwhile, or a store or the ledger is down;
        what was done is kept.
        """
        done = await self._begun(authority, epoch, resume=resume)
        if done.phase == "authority":
            done = await self._phase(done, done.side, report, total)
            done = replace(done, phase="other", cursor=None)
            await self._note(done)
        done = await self._phase(done, opposite(done.side), report, total)
        done = await self._retried(done)
        done = replace(done, complete=True)
        await self._note(done)
        return done

    async def _begun(self, authority: Side, epoch: int, *, resume: bool) -> Backfilled:
        since = await self._since()
        if since > epoch:
            raise _off_and_back()
        note = (await persist(self._pair.runtime, self._notes)).get(BACKFILL)
        if resume and note is not None:
            before = Backfilled.read(note.body)
            if not before.complete and (before.side, before.since) == (authority, since):
                return before
        return Backfilled(side=authority, since=since)

    async def _since(self) -> int:
        began = mirrored_since(await persist(self._pair.runtime, self._ledger.log, self._subject))
        return 0 if began is None else began.epoch

    async def _notes(self) -> Mapping[str, Any]:
        return await self._ledger.notes(self._subject)

    async def _note(self, done: Backfilled) -> None:
        await persist(
            self._pair.runtime,
            lambda: self._ledger.note(self._subject, BACKFILL, done.to_dict()),
        )

    async def _phase(
        self, done: Backfilled, side: Side, report: Report, total: int | None
    ) -> Backfilled:
        async for page in pages(self._pair, side, self._prefix, done.cursor, size=_BATCH):
            done = await self._page(done, page)
            await reach(Point.BACKFILL_DONE)
            await self._note(done)
            await reach(Point.BACKFILL_NOTED)
            report(
                Progress(
                    "backfill" if done.phase == "authority" else "look for leftovers",
                    done.objects,
                    total,
                    done.moved,
                    done.skipped,
                )
            )
            if page.cursor is None:
                break
        return done

    async def _page(self, done: Backfilled, page: Listed) -> Backfilled:
        keys = [found.key for found in page.objects]
        if done.phase == "other":
            left = await self._left_behind(done, keys)
            keys = [key for key in keys if key not in left]
            done = replace(done, skipped=done.skipped + len(left))
        moved, failed = await self._reconciled(done, keys)
        if failed:
            for key, error in failed.items():
                await self._skip(key, error, done.side)
        if passed := [key for key in keys if key not in failed]:
            await persist(self._pair.runtime, self._ledger.unskip, self._subject, passed)
        # The other side's keys were counted with the authority's, but for the leftovers.
        counted = len(keys) if done.phase == "authority" else 0
        return replace(
            done,
            cursor=page.cursor,
            objects=done.objects + counted,
            moved=done.moved + moved,
            skipped=done.skipped + len(failed),
        )

    async def _left_behind(self, done: Backfilled, keys: Sequence[str]) -> set[str]:
        """Those that could not be moved before the sides changed, and were not written since.

        The authority lacks them because of that, and not because anybody deleted them: the only
        copy that there is stays, for a way back, until the application deletes it.
        """
        if not keys:
            return set()
        skipped = await persist(self._pair.runtime, self._ledger.skipped_among, self._subject, keys)
        left: set[str] = set()
        for found in skipped:
            if found.side != done.side and await self._is_only_on(found.side, found.key):
                left.add(found.key)
        return left

    async def _is_only_on(self, side: Side, key: str) -> bool:
        try:
            source, target = await persist(self._pair.runtime, self._pair.heads, key)
        except PlatformError:
            return True  # Where it cannot be told, nothing is removed.
        here, there = (source, target) if side == "source" else (target, source)
        return here is not None and there is None

    async def _reconciled(
        self, done: Backfilled, keys: Sequence[str]
    ) -> tuple[int, dict[str, PlatformError]]:
        if not keys:
            return 0, {}
        await self._pace.take(len(keys))
        view, held = await persist(self._pair.runtime, self._intents.begin, keys, Purpose.BACKFILL)
        if held is None:
            raise UnavailableError(
                f"the migration is in the stage {view.stage}, where nothing is brought over"
            )
        if view.epoch != self._epoch:
            if await self._since() != done.since:
                await self._intents.finish(held, ())
                raise _off_and_back()
            self._epoch = view.epoch
        await reach(Point.BACKFILL_BEGUN)
        failed: dict[str, PlatformError] = {}
        moved = 0

        async def one(key: str) -> int:
            try:
                return await self._one(held, key)
            except PlatformError as error:
                failed[key] = error
                return 0

        counts = await self._pair.runtime.gather(
            (one(key) for key in held.ids), limit=self._concurrency
        )
        moved = sum(counts)
        # Those that failed, too: their reason is written down, and they block the next stage. With
        # an intent for each try a key that cannot be moved would hold up every flip for ever. What
        # is in doubt stays all the same.
        await self._intents.finish(held, keys)
        return moved, failed

    async def _one(self, held: Held, key: str) -> int:
        runtime = self._pair.runtime
        for wait in (0.1, 0.5, 2.0):
            try:
                return cast("int", await self._reconciler.reconcile(held, key))
            except PlatformError as error:
                if not error.retryable or key in held.doubt:
                    raise
                await runtime.sleep(error.retry_after or wait)
        return cast("int", await self._reconciler.reconcile(held, key))

    async def _skip(self, key: str, error: PlatformError, side: Side) -> None:
        reason = f"{error.code}: {error.message}"
        await persist(self._pair.runtime, self._ledger.skip, self._subject, key, reason, side)

    async def _retried(self, done: Backfilled) -> Backfilled:
        """Once more what was skipped: some of it was only a store's bad moment."""
        keys = await self._skipped()
        for _ in range(_TRIES):
            before = len(keys)
            for start in range(0, before, _BATCH):
                done = await self._again(done, keys[start : start + _BATCH])
            keys = await self._skipped()
            if len(keys) == before:
                break
        return replace(done, skipped=len(keys))

    async def _again(self, done: Backfilled, asked: Sequence[str]) -> Backfilled:
        left = await self._left_behind(done, asked)
        keys = [key for key in asked if key not in left]
        moved, failed = await self._reconciled(done, keys)
        if passed := [key for key in keys if key not in failed]:
            await persist(self._pair.runtime, self._ledger.unskip, self._subject, passed)
        return replace(done, moved=done.moved + moved)

    async def _skipped(self) -> list[str]:
        skipped = await persist(
            self._pair.runtime, self._ledger.skipped, self._subject, _MOST_SKIPPED
        )
        return [found.key for found in skipped]


def _off_and_back() -> UnavailableError:
    return UnavailableError(
        "the stage changed to off and back while this was brought over: begin again",
        retryable=True,
    )


__all__ = ["Backfill", "Backfilled"]
