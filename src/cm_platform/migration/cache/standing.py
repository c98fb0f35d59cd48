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

**What is left behind** outlives its stage, because two things do. Who has not heard of a change
may go on reading the other side for a lease: so in `complete`, and in `off` after a way back,
writers go on taking keys from there until nobody can. And a counter that nobody has touched is
still there, and only there: so in `rampdown`, and in `dualwrite` and `off` after a way back,
reads go on asking the other side for as long as it may live. Both end by time (`phases_of`).

**Copies** are a rehearsal: they show whether the target takes what this tenant writes, and they
never count as values, so nothing depends on their order or on whether they arrive.

**Neighbours.** Reads are right in any stage, as long as the sides that they ask are kept free of
what is outdated; and a side is, for as long as anybody asks it: in `live`, in `rampdown`, and at
first in `complete`, writers take keys from the source before they write. The same holds on the
way back, from `shadow` by `dualwrite` to `off`. Between `shadow` and `live` the authority changes:
a writer that the change has overtaken learns it before it answers, and writes again (see
`writes.py`); what it left on the old side meanwhile is a write that is under way, and may be
seen. What was read counts only while the answer of the ledger, by which it was read, was good,
else it is read anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from cm_platform.cache.backend import CacheCapability, CacheLimits
from cm_platform.migration.ledger import Note, Side, Transition
from cm_platform.migration.stages import BACKFILL, is_flip, mirrored_since
from cm_platform.routing import Stage

from .pair import Pair

_EVER: Final = float("inf")
_DRIFT: Final = 0.01
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


class Times(NamedTuple):
    """now: Unix seconds by the ledger's clock. settling: seconds until nobody acts any more on
    what the ledger said before. exact: seconds that something may live which must neither be lost
    nor be counted twice; 0 where there is nothing of the kind."""

    now: float
    settling: float
    exact: float = 0.0


class Phase(NamedTuple):
    """What holds for so many seconds more; the last one for ever."""

    left: float
    standing: Standing


def phases_of(
    stage: Stage,
    epoch: int,
    log: Sequence[Transition],
    notes: Mapping[str, Note],
    pair: Pair,
    times: Times,
) -> list[Phase]:
    """What holds in a stage, one after the other, given how it came about; one at least.

    log: may be longer than until then.
    """
    log = [line for line in log if line.epoch <= epoch]
    now, settling, exact = times
    if not pair.is_exact:
        # Nothing must be exact where nothing can be moved exactly.
        exact = 0.0
    run = current_run(log)
    flips = [line for line in run if line.before is not None and is_flip(line.before, line.to)]
    if not flips:
        forward = Standing(stage, epoch, "source", copies=stage is not Stage.OFF)
        forward = forward._replace(since=started(run))
        return _still_there(forward, log, notes, pair, times._replace(exact=exact))
    prompt = pair.is_prompt("target")
    floor = _floor(run, flips, notes, prompt=prompt)
    at = Standing(stage, epoch, "source", since=started(run), floor=floor)
    changed = flips[-1].at
    if stage in (Stage.DUALWRITE, Stage.SHADOW):
        if not prompt:
            return [Phase(_EVER, at)]
        at = at._replace(left="target")
    else:
        at = at._replace(authority="target", left="source", late=not pair.is_prompt("source"))
    asked = at._replace(falls_back=True)
    match stage:
        case Stage.LIVE | Stage.SHADOW:
            return [Phase(_EVER, asked)]
        case Stage.RAMPDOWN | Stage.DUALWRITE:
            return _in_turn(Phase(changed + exact - now, asked), Phase(_EVER, at))
        case _:
            alone = at._replace(left=None, late=False)
            return _in_turn(Phase(log[-1].at + settling - now, at), Phase(_EVER, alone))


def _still_there(
    at: Standing,
    log: Sequence[Transition],
    notes: Mapping[str, Note],
    pair: Pair,
    times: Times,
) -> list[Phase]:
    """What holds after a way back to `off`: what was left on the target is asked for, and kept
    free of what is outdated, for as long as somebody may read it or count on it."""
    now, settling, exact = times
    run = _last_run(log)
    flips = [line for line in run if line.before is not None and is_flip(line.before, line.to)]
    if not flips or not pair.is_prompt("target"):
        return [Phase(_EVER, at)]
    floor = _floor(run, flips, notes, prompt=True)
    left = at._replace(left="target", copies=False, floor=floor)
    read = flips[-1].at + exact - now
    # Clocks of two machines do not run equally fast.
    taken = max(run[-1].at - now, read + exact * _DRIFT) + settling
    return _in_turn(
        Phase(read, left._replace(falls_back=True)), Phase(taken, left), Phase(_EVER, at)
    )


def _in_turn(*phases: Phase) -> list[Phase]:
    return [phase for phase in phases if phase.left > 0]


def current_run(log: Sequence[Transition]) -> Sequence[Transition]:
    """The transitions since the migration last left `off`, that one included."""
    began = mirrored_since(log)
    return [] if began is None else [line for line in log if line.epoch >= began.epoch]


def _last_run(log: Sequence[Transition]) -> Sequence[Transition]:
    """The transitions of the run before the current one, its end in `off` included; none where
    a migration was started since."""
    ends = next((n for n in reversed(range(len(log))) if log[n].to is Stage.OFF), -1)
    if ends < 0 or log[ends].before is None:
        return []
    return [*current_run(log[:ends]), log[ends]]


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
    "Phase",
    "Standing",
    "Times",
    "capabilities_in",
    "current_run",
    "flushed_for",
    "limits_in",
    "phases_of",
    "started",
]
