"""What a ledger promises: where each tenant's data is, who is writing it, and how it came there.

The ledger is strongly consistent and never on the way of the bytes. Flags ask for a stage; the
ledger knows it. Rules for every method:

- A method is one attempt, atomic: all of it happened or nothing.
- `ledger time` is the ledger's own clock. No process's clock is compared with another's: times
  go in and come out as seconds from now.
- What begins by a write (a stage, an announcement) counts from after its commit: until then others
  read what was before. An announcement that has run out lends no lease until its end is written.
- Writes take ids made by the caller. Made twice, they leave what made once leaves: a call whose
  answer was lost may be repeated.
- Errors are `PlatformError`s: `unavailable` and `deadline_exceeded` (retryable) when the ledger
  could not be asked or did not answer; `config_invalid` when its tables are not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple, Protocol

from cm_platform.routing import Stage

Side = Literal["source", "target"]
"""The two backends of a migration, by the direction in which its data moves."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What moves: one tenant's data of one kind.

    kind: "storage", or with a namespace "cache.sessions". tenant_id: as `Tenant.id` has it.
    """

    kind: str
    tenant_id: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed when a migration started, for all processes. Times are seconds.

    migration, source, target: names of the configuration.
    lease: for how long an answer of the ledger may be used.
    longest: how long a request, begun under such an answer, may still change something: the
        longest operation and what may land after its timeout.
    soak: between the arrival at the new backend and the end of the migration.
    """

    migration: str
    source: str
    target: str
    lease: float = 5.0
    longest: float = 120.0
    soak: float = 86_400.0

    @property
    def settling(self) -> float:
        """Until nobody acts any more on what the ledger said before."""
        return self.lease + self.longest


@dataclass(frozen=True, slots=True)
class State:
    """Where a tenant's data is, as of now.

    epoch: raised by every change of the stage.
    lease: for so many seconds from before the question this answer may be used; 0 while a flip
        is announced: then what was read counts only if the epoch is still the same afterwards.
    paused: no write may begin just now.
    age: seconds since the stage was entered. flipped: the epoch of the last flip, 0 if none.
    """

    terms: Terms
    stage: Stage
    epoch: int
    lease: float
    paused: bool
    age: float
    flipped: int = 0

    @property
    def authority(self) -> Side:
        """The side that is right, whatever the other one has."""
        return authority(self.stage)


_AT_TARGET: Final = frozenset({Stage.LIVE, Stage.RAMPDOWN, Stage.COMPLETE})
_MIRRORED: Final = frozenset({Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN})


def authority(stage: Stage) -> Side:
    """The side that is right in a stage."""
    return "target" if stage in _AT_TARGET else "source"


def is_mirrored(stage: Stage) -> bool:
    """Whether what is written to one side is brought to the other."""
    return stage in _MIRRORED


def home_of(state: State) -> str | None:
    """The one backend that has the data, where only one takes part."""
    if state.stage is Stage.OFF:
        return state.terms.source
    return state.terms.target if state.stage is Stage.COMPLETE else None


class Purpose(StrEnum):
    """What an intent was made for."""

    WRITE = "write"
    BACKFILL = "backfill"
    UPLOAD = "upload"
    """Somebody else holds a signed URL; due when it has expired."""


@dataclass(frozen=True, slots=True)
class Intent:
    """That something may be changed at a key, and the two sides may differ there.

    id: made by the caller, unique. key: as the backends know it.
    """

    id: str
    key: str
    purpose: Purpose = Purpose.WRITE


@dataclass(frozen=True, slots=True)
class Pending:
    """Intents of a subject. due: those whose owner's time is over. oldest: age in seconds of the
    oldest. uploads: how many wait for a signed URL, until: seconds until the last one is due."""

    count: int
    due: int
    oldest: float
    uploads: int
    until: float


@dataclass(frozen=True, slots=True)
class Move:
    """A transition that somebody wants. evidence: what was known then, as JSON-ready data.

    id: made by the caller, unique. reason: why evidence was overridden, None if it was not.
    """

    id: str
    to: Stage
    who: str
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A line of the log, which only grows. at: seconds since 1970-01-01 UTC, ledger time.

    before: None for the start of a migration.
    """

    id: str
    epoch: int
    at: float
    who: str
    before: Stage | None
    to: Stage
    evidence: Mapping[str, Any]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Note:
    """A piece of evidence. age: seconds since it was written. body: JSON-ready data."""

    body: Mapping[str, Any]
    age: float


class Skipped(NamedTuple):
    """A key that could not be moved, and why. side: the one that has what is right."""

    key: str
    reason: str
    side: Side = "source"


class Fenced(Exception):  # noqa: N818 - an answer of the ledger, not a failure
    """The epoch is not the current one any more, or writing is paused: ask for the state again."""


class Busy(Exception):  # noqa: N818 - an answer of the ledger, not a failure
    """A flip is not possible now; the message says what is missing."""


class Ledger(Protocol):
    """A ledger, opened under one runtime."""

    async def state(self, subject: Subject) -> State | None:
        """Where the subject is now; None when no migration was ever started."""
        ...

    # Intents ------------------------------------------------------------------------------

    async def begin(
        self, subject: Subject, epoch: int, owner: str, intents: Sequence[Intent], lease: float
    ) -> None:
        """Record intents, all or none, unless the epoch has changed or writing is paused.

        lease: the owner acts under them for so many seconds at most; they are due after that.
        MUST raise `Fenced` when the epoch is not current, when writing is paused, and for
            uploads while a flip is announced.
        MUST be fenced against `pause` and `move`: once either is answered, no intent of an older
        epoch, or begun before the pause and not yet answered, becomes visible.
        An intent that is there already, of the same owner, is left as it is.
        """
        ...

    async def end(self, owner: str, ids: Sequence[str]) -> None:
        """Remove intents, of this owner only: what others have claimed stays."""
        ...

    async def leave(self, owner: str, ids: Sequence[str], after: float) -> None:
        """Give intents of this owner up to whoever repairs; due after so many seconds."""
        ...

    async def extend(self, owner: str, ids: Sequence[str], lease: float) -> bool:
        """Act under them for so many seconds more; False when not all are this owner's any more."""
        ...

    async def claim(
        self, subject: Subject, owner: str, lease: float, limit: int
    ) -> Sequence[Intent]:
        """Take over up to `limit` due intents, the oldest first; nobody else gets them meanwhile.

        Allowed in every stage, also while writing is paused.
        """
        ...

    async def is_pending(self, subject: Subject, key: str) -> bool:
        """Whether there is an intent for the key."""
        ...

    async def pending(self, subject: Subject) -> Pending:
        """Intents of all purposes."""
        ...

    # Stages -------------------------------------------------------------------------------

    async def start(self, subject: Subject, terms: Terms, move: Move) -> State:
        """Begin a migration in the stage off, and say so in the log.

        MUST raise `Fenced` when the subject has one that is neither off nor complete, or when its
        data is on another backend than `terms.source`, unless it was this very move that started
        it. Evidence and skipped keys of an earlier one are
        removed; epochs go on.
        """
        ...

    async def announce(self, subject: Subject, epoch: int, seconds: float) -> None:
        """Grant no leases for so many seconds from now; 0 ends it. Extends an earlier one.

        MUST raise `Fenced` when the epoch is not current.
        """
        ...

    async def pause(self, subject: Subject, epoch: int, seconds: float) -> None:
        """Let no intent begin for so many seconds from now; 0 ends it.

        MUST raise `Fenced` when the epoch is not current.
        """
        ...

    async def move(self, subject: Subject, epoch: int, move: Move) -> State:
        """Enter another stage, raise the epoch, write the log; the new state. Ends announcement
        and pause.

        MUST raise `Fenced` when the epoch is not current, unless it was this very move that
        changed it: then the state is answered again.
        When the authority changes, MUST raise `Busy`, checked in the same transaction, unless:
        the flip has been announced without a gap for `terms.lease` seconds at least, writing is
        paused, and there is no intent.
        Entering `dualwrite` from `off` removes the evidence and the skipped keys of before.
        """
        ...

    async def log(self, subject: Subject) -> Sequence[Transition]:
        """Every transition, the oldest first."""
        ...

    async def subjects(self) -> Sequence[tuple[Subject, State]]:
        """Everything that was ever started, by kind and tenant."""
        ...

    # Evidence -----------------------------------------------------------------------------

    async def note(self, subject: Subject, name: str, body: Mapping[str, Any]) -> None:
        """Write a piece of evidence; replaces the one of that name."""
        ...

    async def notes(self, subject: Subject) -> Mapping[str, Note]:
        """The evidence by name."""
        ...

    async def count(self, subject: Subject, counts: Mapping[tuple[str, str], int]) -> None:
        """Add to counters; each has a group (a class of keys) and a name (what was seen).

        The one write that is not safe to repeat: a lost answer may count twice.
        """
        ...

    async def counts(self, subject: Subject) -> Mapping[tuple[str, str], int]:
        """The counters by group and name."""
        ...

    async def reset_counts(self, subject: Subject) -> None:
        """Begin counting anew."""
        ...

    async def skip(self, subject: Subject, key: str, reason: str, side: Side = "source") -> None:
        """Remember a key that could not be moved from a side; replaces what was said before."""
        ...

    async def unskip(self, subject: Subject, keys: Sequence[str]) -> None:
        """Forget such keys: they were moved after all."""
        ...

    async def skipped(self, subject: Subject, limit: int) -> Sequence[Skipped]:
        """Keys that could not be moved, in order, up to `limit`."""
        ...

    async def skipped_among(self, subject: Subject, keys: Sequence[str]) -> Sequence[Skipped]:
        """Those of the keys that could not be moved, in order."""
        ...

    # Life ---------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Make the tables, where they are not there."""
        ...

    async def ping(self) -> None:
        """Ask something, as cheaply as it can be done."""
        ...

    async def close(self) -> None:
        """Let go of connections. MUST be safe to call twice."""
        ...


__all__ = [
    "Busy",
    "Fenced",
    "Intent",
    "Ledger",
    "Move",
    "Note",
    "Pending",
    "Purpose",
    "Side",
    "Skipped",
    "State",
    "Subject",
    "Terms",
    "Transition",
    "authority",
    "home_of",
    "is_mirrored",
]
