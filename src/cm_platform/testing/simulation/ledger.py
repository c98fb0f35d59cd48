"""A ledger as one process sees it: over a wire on which requests and answers get lost."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from cm_platform.errors import PlatformError
from cm_platform.migration.ledger import (
    Busy,
    Fenced,
    Intent,
    Ledger,
    Move,
    Note,
    Pending,
    Side,
    Skipped,
    State,
    Subject,
    Terms,
    Transition,
)
from cm_platform.runtime import drive

from .faults import NO_FAULTS, FaultSource, Request
from .tasks import Process
from .wire import LONGEST_WAY, Wire

T = TypeVar("T")

_READS: Final = {
    name: Request(name)
    for name in (
        *(
            "state",
            "is_pending",
            "pending",
            "log",
            "subjects",
            "notes",
            "counts",
            "skipped",
            "skipped_among",
        ),
        "ping",
    )
}
_WRITES: Final = {
    name: Request(name, writes=True)
    for name in (
        *("begin", "end", "leave", "extend", "claim", "start", "announce", "pause", "move"),
        *("note", "count", "reset_counts", "skip", "unskip", "prepare"),
    )
}
_REQUESTS: Final = {**_READS, **_WRITES}


class FaultyLedger:
    """A `Ledger` of one simulated process.

    ledger: the real one, shared by all. Opened under a `BlockingRuntime` whose clock is the
        simulation's, so that each method is one step, which is what a database makes of it.
    longest_way: seconds that a slow request is on its way, in one direction, at most.
    lifetime: seconds within which a transaction whose client gave up may still commit.
    """

    def __init__(
        self,
        ledger: Ledger,
        process: Process,
        faults: FaultSource = NO_FAULTS,
        *,
        lifetime: float = 1.0,
        longest_way: float = LONGEST_WAY,
    ) -> None:
        self._ledger = ledger
        self._wire = Wire(
            process,
            "ledger",
            faults,
            lifetime,
            longest_way,
            refusals=(PlatformError, Fenced, Busy),
        )

    async def state(self, subject: Subject) -> State | None:
        """See `Ledger.state`."""
        return await self._send("state", self._ledger.state, subject)

    async def begin(
        self, subject: Subject, epoch: int, owner: str, intents: Sequence[Intent], lease: float
    ) -> None:
        """See `Ledger.begin`."""
        await self._send("begin", self._ledger.begin, subject, epoch, owner, intents, lease)

    async def end(self, owner: str, ids: Sequence[str]) -> None:
        """See `Ledger.end`."""
        await self._send("end", self._ledger.end, owner, ids)

    async def leave(self, owner: str, ids: Sequence[str], after: float) -> None:
        """See `Ledger.leave`."""
        await self._send("leave", self._ledger.leave, owner, ids, after)

    async def extend(self, owner: str, ids: Sequence[str], lease: float) -> bool:
        """See `Ledger.extend`."""
        return await self._send("extend", self._ledger.extend, owner, ids, lease)

    async def claim(
        self, subject: Subject, owner: str, lease: float, limit: int
    ) -> Sequence[Intent]:
        """See `Ledger.claim`."""
        return await self._send("claim", self._ledger.claim, subject, owner, lease, limit)

    async def is_pending(self, subject: Subject, key: str) -> bool:
        """See `Ledger.is_pending`."""
        return await self._send("is_pending", self._ledger.is_pending, subject, key)

    async def pending(self, subject: Subject) -> Pending:
        """See `Ledger.pending`."""
        return await self._send("pending", self._ledger.pending, subject)

    async def start(self, subject: Subject, terms: Terms, move: Move) -> State:
        """See `Ledger.start`."""
        return await self._send("start", self._ledger.start, subject, terms, move)

    async def announce(self, subject: Subject, epoch: int, seconds: float) -> None:
        """See `Ledger.announce`."""
        await self._send("announce", self._ledger.announce, subject, epoch, seconds)

    async def pause(self, subject: Subject, epoch: int, seconds: float) -> None:
        """See `Ledger.pause`."""
        await self._send("pause", self._ledger.pause, subject, epoch, seconds)

    async def move(self, subject: Subject, epoch: int, move: Move) -> State:
        """See `Ledger.move`."""
        return await self._send("move", self._ledger.move, subject, epoch, move)

    async def log(self, subject: Subject) -> Sequence[Transition]:
        """See `Ledger.log`."""
        return await self._send("log", self._ledger.log, subject)

    async def subjects(self) -> Sequence[tuple[Subject, State]]:
        """See `Ledger.subjects`."""
        return await self._send("subjects", self._ledger.subjects)

    async def note(self, subject: Subject, name: str, body: Mapping[str, Any]) -> None:
        """See `Ledger.note`."""
        await self._send("note", self._ledger.note, subject, name, body)

    async def notes(self, subject: Subject) -> Mapping[str, Note]:
        """See `Ledger.notes`."""
        return await self._send("notes", self._ledger.notes, subject)

    async def count(self, subject: Subject, counts: Mapping[tuple[str, str], int]) -> None:
        """See `Ledger.count`."""
        await self._send("count", self._ledger.count, subject, counts)

    async def counts(self, subject: Subject) -> Mapping[tuple[str, str], int]:
        """See `Ledger.counts`."""
        return await self._send("counts", self._ledger.counts, subject)

    async def reset_counts(self, subject: Subject) -> None:
        """See `Ledger.reset_counts`."""
        await self._send("reset_counts", self._ledger.reset_counts, subject)

    async def skip(self, subject: Subject, key: str, reason: str, side: Side = "source") -> None:
        """See `Ledger.skip`."""
        await self._send("skip", self._ledger.skip, subject, key, reason, side)

    async def unskip(self, subject: Subject, keys: Sequence[str]) -> None:
        """See `Ledger.unskip`."""
        await self._send("unskip", self._ledger.unskip, subject, keys)

    async def skipped(self, subject: Subject, limit: int) -> Sequence[Skipped]:
        """See `Ledger.skipped`."""
        return await self._send("skipped", self._ledger.skipped, subject, limit)

    async def skipped_among(self, subject: Subject, keys: Sequence[str]) -> Sequence[Skipped]:
        """See `Ledger.skipped_among`."""
        return await self._send("skipped_among", self._ledger.skipped_among, subject, keys)

    async def prepare(self) -> None:
        """See `Ledger.prepare`."""
        await self._send("prepare", self._ledger.prepare)

    async def ping(self) -> None:
        """See `Ledger.ping`."""
        await self._send("ping", self._ledger.ping)

    async def close(self) -> None:
        """The ledger belongs to all."""

    async def _send(
        self, name: str, method: Callable[..., Coroutine[Any, Any, T]], *args: Any
    ) -> T:
        return await self._wire.send(_REQUESTS[name], lambda: drive(method(*args)), args)


__all__ = ["FaultyLedger"]
