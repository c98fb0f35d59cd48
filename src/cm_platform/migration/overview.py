"""What is known of a migration, put together for whoever looks at it or thinks of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from cm_platform.errors import InvalidArgumentError
from cm_platform.routing import Stage

from .ledger import (
    Note,
    Pending,
    Skipped,
    State,
    Subject,
    Transition,
)
from .stages import (
    BACKFILL,
    ORDER,
    PLAN,
    VERIFICATION,
    Evidence,
    check_step,
    is_flip,
    mirrored_since,
    missing,
    next_stage,
    previous_stage,
    settling_left,
)

_FINE: Final = ("compared", "same", "pending", "unreadable")


@dataclass(frozen=True, slots=True)
class Step:
    """A change of the stage that somebody thinks of. missing: the evidence that it lacks."""

    before: Stage
    to: Stage
    missing: tuple[str, ...]

    @property
    def flips(self) -> bool:
        """Whether the authority changes, and writing pauses for a moment."""
        return is_flip(self.before, self.to)


@dataclass(frozen=True, slots=True)
class ShadowClass:
    """Shadow reads of one class of keys. pending: somebody was writing there. unreadable: a side
    did not answer. differed: how often, by the way in which the sides differed."""

    name: str
    compared: int
    same: int
    pending: int
    unreadable: int
    differed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Overview:
    """All that is known of one migration. Times are seconds.

    total: objects, as somebody has counted them last.
    settling: until what began before the stage was entered is over; a backfill waits for it.
    soak: until the migration may end, as far as time goes.
    next: the stage that follows, None at the end; missing: the evidence that it lacks.
    skipped: keys that could not be moved, as they were given.
    """

    subject: Subject
    state: State
    pending: Pending
    notes: Mapping[str, Note]
    total: int | None
    shadow: tuple[ShadowClass, ...]
    compared: int
    differed: int
    max_divergence: float
    settling: float
    soak: float
    next: Stage | None
    missing: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            **named(self.subject, self.state),
            "settling": self.settling,
            "soak": self.soak,
            "intents": intents(self.pending),
            "objects": self.total,
            **{name: _noted(self.notes.get(name)) for name in (PLAN, BACKFILL, VERIFICATION)},
            "shadow": {
                "compared": self.compared,
                "differed": self.differed,
                "max_divergence": self.max_divergence,
                "classes": {
                    found.name: {
                        "compared": found.compared,
                        "same": found.same,
                        "pending": found.pending,
                        "unreadable": found.unreadable,
                        "differed": dict(found.differed),
                    }
                    for found in self.shadow
                },
            },
            "next": None if self.next is None else str(self.next),
            "missing": list(self.missing),
            "skipped": [found._asdict() for found in self.skipped],
        }


def overview(subject: Subject, evidence: Evidence, skipped: Sequence[Skipped]) -> Overview:
    """What the evidence says, in the terms in which people ask. skipped: with their reasons."""
    # Evidence counts no further than the first thousand.
    evidence = replace(evidence, skipped=max(evidence.skipped, len(skipped)))
    state = evidence.state
    following = None if state.stage is Stage.COMPLETE else next_stage(state.stage)
    return Overview(
        subject=subject,
        state=state,
        pending=evidence.pending,
        notes=evidence.notes,
        total=known_objects(evidence.notes, evidence.log),
        shadow=_classes(evidence.counts),
        compared=evidence.compared,
        differed=evidence.differed,
        max_divergence=evidence.max_divergence,
        settling=settling_left(state, evidence.log),
        soak=_soak_left(evidence),
        next=following,
        missing=() if following is None else tuple(missing(following, evidence)),
        skipped=tuple(skipped),
    )


def step(evidence: Evidence, to: Stage | None = None) -> Step:
    """The step to a neighbouring stage, the next one by default.

    Raises `invalid_argument` as `AsyncMigration.advance` does.
    """
    before = evidence.state.stage
    to = to or next_stage(before)
    check_step(before, to)
    return Step(before, to, tuple(missing(to, evidence)))


def way_back(stage: Stage, to: Stage | None = None) -> list[Stage]:
    """The stages that a rollback goes through, that one excluded; to the one before by default.

    Raises `invalid_argument` as `AsyncMigration.rollback` does.
    """
    target = to or previous_stage(stage)
    if ORDER.index(target) >= ORDER.index(stage):
        raise InvalidArgumentError(f"a rollback goes back: {target} is not before {stage}")
    way: list[Stage] = []
    while stage is not target:
        stage = previous_stage(stage)
        way.append(stage)
    return way


def resumable(evidence: Evidence) -> Note | None:
    """What a backfill that was stopped has written down, if the next one goes on there."""
    note, began = evidence.notes.get(BACKFILL), mirrored_since(evidence.log)
    if note is None or began is None or note.body.get("complete"):
        return None
    here = note.body.get("side"), note.body.get("since")
    return note if here == (evidence.state.authority, began.epoch) else None


def known_objects(notes: Mapping[str, Note], log: Sequence[Transition]) -> int | None:
    """Objects, as a verification or the plan has counted them; None where nobody has."""
    if (found := objects(notes, VERIFICATION, PLAN)) is not None:
        return found
    # Entering dualwrite removes the plan's note; the log still tells what was known then.
    for line in reversed(log):
        if isinstance(plan := line.evidence.get(PLAN), Mapping):
            found = cast("Mapping[str, Any]", plan).get("objects")
            return found if isinstance(found, int) else None
    return None


def named(subject: Subject, state: State) -> dict[str, Any]:
    """What moves and where it is, as JSON-ready data."""
    terms = state.terms
    return {
        "service": subject.kind,
        "tenant": subject.tenant_id,
        "migration": terms.migration,
        "source": terms.source,
        "target": terms.target,
        "stage": str(state.stage),
        "authority": state.authority,
        "epoch": state.epoch,
        "age": state.age,
        "paused": state.paused,
        # The ledger lends nothing while a change of sides is announced.
        "flipping": state.lease <= 0,
    }


def objects(notes: Mapping[str, Note], *names: str) -> int | None:
    """How many objects the first of these notes speaks of that is there; None without one."""
    for name in names:
        if (note := notes.get(name)) is not None:
            found = note.body.get("objects")
            return found if isinstance(found, int) else None
    return None


def _soak_left(evidence: Evidence) -> float:
    if evidence.state.stage not in (Stage.LIVE, Stage.RAMPDOWN):
        return 0.0
    return max(evidence.state.terms.soak - evidence.since_flip(), 0.0)


def _classes(counts: Mapping[tuple[str, str], int]) -> tuple[ShadowClass, ...]:
    groups: dict[str, dict[str, int]] = {}
    for (group, name), count in counts.items():
        groups.setdefault(group, {})[name] = count
    return tuple(
        ShadowClass(
            group,
            found.get("compared", 0),
            found.get("same", 0),
            found.get("pending", 0),
            found.get("unreadable", 0),
            {name: count for name, count in sorted(found.items()) if name not in _FINE},
        )
        for group, found in sorted(groups.items())
    )


def intents(pending: Pending) -> dict[str, Any]:
    """Intents as JSON-ready data; times are seconds."""
    return {
        "open": pending.count,
        "due": pending.due,
        "oldest": pending.oldest,
        "uploads": pending.uploads,
        "uploads_until": max(pending.until, 0.0),
    }


def _noted(note: Note | None) -> dict[str, Any] | None:
    # A cursor is the store's and the ledger's business.
    if note is None:
        return None
    body = {name: value for name, value in note.body.items() if name != "cursor"}
    return {**body, "age": note.age}


__all__ = [
    "Overview",
    "ShadowClass",
    "Step",
    "intents",
    "known_objects",
    "named",
    "objects",
    "overview",
    "resumable",
    "step",
    "way_back",
]
