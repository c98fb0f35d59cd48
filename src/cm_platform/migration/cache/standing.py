"""What a process does in each stage, by what the ledger says.

    stage       authority   values left on   reads fall back   besides
    off         source      -                -
    dualwrite   source      - (target)       -                 copies to the target
    shadow      source      - (target)       - (to target)     copies, some of them compared
    live        target      source           to source
    rampdown    target      source           -
    complete    target      -                -

In parentheses: after a way back, to a target that shows its writes at once. A target that does
not is left alone then: what was written there in `live` is gone, as after a flush.

**Copies** are a rehearsal: they show whether the target takes what this tenant writes, and they
never count as values, so nothing depends on their order or on whether they arrive.

**Neighbours.** Reads are right in any stage, as long as the sides that they ask are kept free of
what is outdated; and a side is: in `live` and in `rampdown` writers take keys from the source
before they write, so a reader of `live` beside a writer of `rampdown` is right, and a reader
beside a writer of `complete`, which leaves the source alone, never asks the source. The same
holds on the way back, from `shadow` by `dualwrite` to `off`. Between `shadow` and `live` the
authority changes: a writer that the change has overtaken learns it before it answers, and writes
again (see `writes.py`); what it left on the old side meanwhile is a write that is under way, and
may be seen. Stages that are not neighbours do not meet: what was read counts only while the
answer of the ledger, by which it was read, was good, else it is read anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from cm_platform.cache.backend import CacheCapability, CacheLimits
from cm_platform.migration.lease import StageLease, View
from cm_platform.migration.ledger import Ledger, Note, Side, Subject, Transition
from cm_platform.migration.stages import BACKFILL, is_flip, mirrored_since
from cm_platform.routing import Stage
from cm_platform.runtime import Runtime

from .pair import Pair

_USED: Final = 0.95
_MICROSECONDS: Final = 1_000_000


class Standing(NamedTuple):
    """What holds in an epoch.

    left: the side, not the authority, on which values may count; None where there is none.
    falls_back: whether reads ask it. late: whether it shows a delete later than it answers it.
    copies: whether writes are rehearsed on the target. since: microseconds since 1970 when the
    migration left `off`; what has a lower generation on the target is of before.
    floor: of the target's generations; whatever was written there under a lower one is of
        before. 0 as long as the sides have never changed.
    """

    stage: Stage
    epoch: int
    authority: Side
    left: Side | None = None
    falls_back: bool = False
    late: bool = False
    copies: bool = False
    since: int = 0
    floor: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether the authority alone says it all, as it is."""
        return self.left is None and not self.floor

    def same_way(self, other: Standing) -> bool:
        """Whether a write that was done so is also done in the other's terms."""
        return self.authority == other.authority and other.left in (None, self.left)

    def leads_on(self, other: Standing) -> bool:
        """Whether what belongs to this authority is found by the other's terms, too."""
        return self.authority in (other.authority, other.left)


class Stand:
    """One process's knowledge of where it stands."""

    __slots__ = (
        "_asked",
        "_covered",
        "_guard",
        "_known",
        "_lease",
        "_ledger",
        "_now",
        "_pair",
        "_subject",
        "_waiting",
    )

    def __init__(
        self, lease: StageLease, ledger: Ledger, subject: Subject, pair: Pair, runtime: Runtime
    ) -> None:
        self._lease = lease
        self._ledger = ledger
        self._subject = subject
        self._pair = pair
        self._now = runtime.clock.monotonic
        self._known = Standing(Stage.OFF, -1, "source")
        self._asked = float("-inf")
        self._guard = runtime.lock()
        self._waiting = 0
        self._covered = 0

    def last(self) -> Standing:
        """What was known last: for what may be told without asking. At first, `off`."""
        return self._known

    async def current(self) -> Standing:
        """What to begin by: of a lease ago at most. Raises `unavailable`."""
        held = self._lease.held()
        if held is not None and held.epoch == self._known.epoch:
            return self._known
        # While a change of sides is announced nothing is lent; but it takes longer than a lease,
        # and what begins now is looked at again when it is done.
        view = self._lease.last()
        if (
            view is not None
            and view.epoch == self._known.epoch
            and self._now() < self._asked + view.terms.lease * _USED
        ):
            return self._known
        return await self._ask()

    async def confirmed(self, standing: Standing) -> Standing:
        """What held when everything that was done until now was done. Raises `unavailable`."""
        held = self._lease.held()
        if held is not None and held.epoch == standing.epoch:
            return standing
        return await self._ask()

    async def refreshed(self) -> Standing:
        """What holds now. Raises `unavailable`."""
        return await self._ask()

    async def seen(self, standing: Standing) -> Standing:
        """What held when a read was done that was begun by `standing`; where nothing is shown at
        once anyway, as of a lease ago."""
        if self._pair.is_exact:
            return await self.confirmed(standing)
        now = await self.current()
        return standing if now.epoch == standing.epoch else now

    async def _ask(self) -> Standing:
        """Ask the ledger; one question for all who come while another is under way."""
        self._waiting += 1
        ticket = self._waiting
        async with self._guard:
            if self._covered >= ticket:
                return self._known
            covers = self._waiting
            standing = await self._asked_now()
            self._covered = covers
            return standing

    async def _asked_now(self) -> Standing:
        began = self._now()
        view = await self._lease.ask()
        if view.epoch == self._known.epoch:
            self._asked = max(self._asked, began)
            return self._known
        standing = await self._learn(view)
        if standing.epoch >= self._known.epoch:
            self._known, self._asked = standing, began
        return standing

    async def _learn(self, view: View) -> Standing:
        if view.stage is Stage.OFF:
            return Standing(Stage.OFF, view.epoch, "source")
        log = await self._ledger.log(self._subject)
        notes = await self._ledger.notes(self._subject)
        return standing_of(view.stage, view.epoch, log, notes, self._pair)


def standing_of(
    stage: Stage,
    epoch: int,
    log: Sequence[Transition],
    notes: Mapping[str, Note],
    pair: Pair,
) -> Standing:
    """What holds in a stage, given how it came about. log: may be longer than until then."""
    if stage is Stage.OFF:
        return Standing(stage, epoch, "source")
    run = current_run([line for line in log if line.epoch <= epoch])
    flips = [line for line in run if line.before is not None and is_flip(line.before, line.to)]
    floor = _floor(run, flips, notes, prompt=pair.is_prompt("target")) if flips else 0
    at = Standing(stage, epoch, "source", since=started(run), floor=floor)
    back = bool(flips) and pair.is_prompt("target")
    match stage:
        case Stage.DUALWRITE:
            return at._replace(left="target") if back else at._replace(copies=True)
        case Stage.SHADOW:
            if back:
                return at._replace(left="target", falls_back=True)
            return at._replace(copies=True)
        case Stage.LIVE:
            late = not pair.is_prompt("source")
            return at._replace(authority="target", left="source", falls_back=True, late=late)
        case Stage.RAMPDOWN:
            late = not pair.is_prompt("source")
            return at._replace(authority="target", left="source", late=late)
        case _:
            return at._replace(authority="target")


def current_run(log: Sequence[Transition]) -> Sequence[Transition]:
    """The transitions since the migration last left `off`, that one included."""
    began = mirrored_since(log)
    return [] if began is None else [line for line in log if line.epoch >= began.epoch]


def started(run: Sequence[Transition]) -> int:
    """When a run began, in microseconds since 1970; 0 for none."""
    return int(run[0].at * _MICROSECONDS) if run else 0


def flushed_for(run: Sequence[Transition], *, prompt: bool) -> int:
    """The epoch in which a flush must have been made, or later, for the target to be trusted.

    prompt: a target that is not left alone on a way back, so one flush is enough.
    """
    epochs = [run[0].epoch] if run else [0]
    if not prompt:
        epochs += [
            line.epoch
            for line in run
            if line.before is not None and is_flip(line.before, line.to) and line.to is Stage.SHADOW
        ]
    return max(epochs)


def _floor(
    run: Sequence[Transition],
    flips: Sequence[Transition],
    notes: Mapping[str, Note],
    *,
    prompt: bool,
) -> int:
    note = notes.get(BACKFILL)
    if note is not None and note.body.get("epoch", -1) >= flushed_for(run, prompt=prompt):
        version = note.body.get("version")
        if isinstance(version, int):
            return version
    # It was overridden, or the way back came after it: a time after all that is of before.
    there = [line for line in flips if line.to is Stage.LIVE]
    since = run[0] if prompt or not there else there[-1]
    return int(since.at * _MICROSECONDS)


def capabilities_in(standing: Standing, pair: Pair) -> frozenset[CacheCapability]:
    """What a tenant's cache can do just now."""
    if standing.left is None:
        return pair.backend(standing.authority).capabilities
    return pair.both_can()


def limits_in(standing: Standing, pair: Pair) -> CacheLimits:
    """The bounds that hold just now."""
    right = pair.backend(standing.authority).limits
    if standing.left is None:
        return right
    other = pair.backend(standing.left).limits
    return CacheLimits(
        max_key=right.max_key,
        max_value=right.max_value,
        max_batch=min(right.max_batch, other.max_batch),
        min_ttl=max(right.min_ttl, other.min_ttl),
        staleness=max(right.staleness, other.staleness),
        generation_age=max(right.generation_age, other.generation_age),
    )


__all__ = [
    "Stand",
    "Standing",
    "capabilities_in",
    "current_run",
    "flushed_for",
    "limits_in",
    "standing_of",
    "started",
]
