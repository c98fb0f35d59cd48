"""Which stage may follow which, and what has to be known first.

Flags ask for a stage. What the evidence does not support is refused with the reason; who
overrides says why, and it is written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cm_platform.errors import InvalidArgumentError
from cm_platform.routing import Stage

from .ledger import Note, Pending, State, Transition, authority

ORDER: Final = tuple(Stage)

PLAN: Final = "plan"
BACKFILL: Final = "backfill"
VERIFICATION: Final = "verification"
"""The names of notes in the ledger."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a migration at one moment.

    counts: of shadow reads, by class of keys and outcome. skipped: keys that could not be moved.
    max_divergence: of compared reads, the share that may differ, 0 to 1.
    """

    state: State
    pending: Pending
    notes: Mapping[str, Note]
    counts: Mapping[tuple[str, str], int]
    skipped: int
    log: Sequence[Transition]
    max_divergence: float = 0.0

    @property
    def compared(self) -> int:
        """Shadow reads that were compared."""
        return sum(n for (_, name), n in self.counts.items() if name == "compared")

    @property
    def differed(self) -> int:
        """Shadow reads that found a difference nobody was about to remove."""
        fine = ("compared", "same", "pending", "unreadable")
        return sum(n for (_, name), n in self.counts.items() if name not in fine)

    def since_flip(self) -> float:
        """Seconds since the data arrived where it is."""
        if not self.log:
            return 0.0
        now = self.log[-1].at + self.state.age
        arrived = [line.at for line in self.log if line.epoch == self.state.flipped]
        return now - arrived[-1] if arrived else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data, for the log."""
        return {
            "epoch": self.state.epoch,
            "intents": self.pending.count,
            "due": self.pending.due,
            "skipped": self.skipped,
            "compared": self.compared,
            "differed": self.differed,
            **{name: dict(note.body) for name, note in self.notes.items()},
        }


def check_step(before: Stage, to: Stage) -> None:
    """Raise `invalid_argument` unless the stages are neighbours and `before` is not the end."""
    if before is Stage.COMPLETE:
        raise InvalidArgumentError(
            "the migration is complete, and the old backend has not followed since: to go back, "
            "configure a migration the other way round and start that"
        )
    if abs(ORDER.index(before) - ORDER.index(to)) != 1:
        near = [str(stage) for stage in ORDER if abs(ORDER.index(stage) - ORDER.index(before)) == 1]
        raise InvalidArgumentError(
            f"from {before} a migration goes to {' or '.join(near)}, one stage at a time; not to "
            f"{to}"
        )


def next_stage(stage: Stage) -> Stage:
    """The stage after it. Raises `invalid_argument` at the end."""
    if stage is Stage.COMPLETE:
        raise InvalidArgumentError("the migration is complete: there is no stage after that")
    return ORDER[ORDER.index(stage) + 1]


def previous_stage(stage: Stage) -> Stage:
    """The stage before it. Raises `invalid_argument` where there is none to go back to."""
    if stage is Stage.OFF:
        raise InvalidArgumentError("the migration is off: there is no stage before that")
    before = ORDER[ORDER.index(stage) - 1]
    check_step(stage, before)
    return before


def is_flip(before: Stage, to: Stage) -> bool:
    """Whether the authority changes."""
    return authority(before) != authority(to)


def missing(to: Stage, evidence: Evidence) -> list[str]:
    """What has to be known before that stage and is not, in words. Going back needs nothing."""
    before = evidence.state.stage
    if ORDER.index(to) < ORDER.index(before):
        return []
    match to:
        case Stage.SHADOW:
            return _backfilled(evidence)
        case Stage.LIVE:
            return [*_backfilled(evidence), *_verified(evidence), *_agreeing(evidence)]
        case Stage.RAMPDOWN:
            return _agreeing(evidence)
        case Stage.COMPLETE:
            return _over(evidence)
        case _:
            return []


def mirrored_since(log: Sequence[Transition]) -> Transition | None:
    """The transition from which on both sides were written, without a gap; None in off."""
    began: Transition | None = None
    for line in log:
        if line.to is Stage.OFF:
            began = None
        elif line.before is Stage.OFF:
            began = line
    return began


def settling_left(state: State, log: Sequence[Transition]) -> float:
    """Seconds until every write is over that began before both sides were written."""
    began = mirrored_since(log)
    if began is None:
        return 0.0
    return max(state.terms.settling - (log[-1].at + state.age - began.at), 0.0)


def _since(evidence: Evidence) -> int:
    began = mirrored_since(evidence.log)
    return 0 if began is None else began.epoch


def _backfilled(evidence: Evidence) -> list[str]:
    note = evidence.notes.get(BACKFILL)
    lacks: list[str] = []
    # One that was under way while somebody went back to off may be written down afterwards.
    if (
        note is None
        or not note.body.get("complete")
        or note.body.get("since", 0) < _since(evidence)
    ):
        lacks.append("the backfill is not complete")
    if evidence.skipped:
        lacks.append(f"keys that could not be moved: {evidence.skipped}")
    return lacks


def _verified(evidence: Evidence) -> list[str]:
    note = evidence.notes.get(VERIFICATION)
    if note is None or note.body.get("epoch", 0) < _since(evidence):
        return ["nothing was verified"]
    if not note.body.get("clean"):
        divergent, unread = note.body.get("divergent", 0), note.body.get("unread", 0)
        return [f"the verification is not clean: {divergent} keys differ, {unread} are unread"]
    return []


def _agreeing(evidence: Evidence) -> list[str]:
    if not evidence.compared:
        return []
    share = evidence.differed / evidence.compared
    if share <= evidence.max_divergence:
        return []
    bar = evidence.max_divergence
    return [f"{share:.2%} of {evidence.compared} shadow reads differed; {bar:.2%} may"]


def _over(evidence: Evidence) -> list[str]:
    lacks = [*_verified(evidence)]
    if not lacks:
        body = evidence.notes[VERIFICATION].body
        if not body.get("full"):
            lacks.append("only a sample was verified: the end needs a full verification")
        if body.get("pending"):
            lacks.append(f"{body['pending']} keys were not compared: intents stood for them")
        if body.get("epoch", 0) < evidence.state.flipped:
            lacks.append("the last verification is from before the flip")
    if evidence.pending.due:
        # Those of writes that are under way are waited for, while writing is paused.
        lacks.append(f"{evidence.pending.due} intents are left to repair")
    left = evidence.state.terms.soak - evidence.since_flip()
    if left > 0:
        lacks.append(f"the soak time is not over: {left:.0f} more seconds")
    return [*lacks, *_agreeing(evidence)]


__all__ = [
    "BACKFILL",
    "ORDER",
    "PLAN",
    "VERIFICATION",
    "Evidence",
    "check_step",
    "is_flip",
    "mirrored_since",
    "missing",
    "next_stage",
    "previous_stage",
    "settling_left",
]
