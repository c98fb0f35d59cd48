"""`ledger.sqlite`: a ledger for the processes of one machine, in one file.

Its time is the machine's: setting the clock forward, by more than the leases, while a migration
is under way ends what others still rely on. What is slewed, as time daemons do, does no harm.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import Field, field_validator

from cm_platform.errors import InvalidArgumentError, PlatformError, UnsupportedError
from cm_platform.migration.ledger import (
    Intent,
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
from cm_platform.registry import Backend
from cm_platform.routing import Stage
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings
from cm_platform.sqlite import Ticket, patiently, refusal

from . import evidence, fence, stages
from .database import Database, FileDatabase, MemoryDatabase, Work
from .schema import FORM

T = TypeVar("T")

MEMORY: Final = Path(":memory:")


class SqliteConfig(Settings):
    """A ledger on this machine, for development, tests and small installations.

    path: a file that any number of processes share, on a local disk; made when it is missing.
        ":memory:", given in code, is for tests: this process's memory, behind one connection.
    fsync: a write is answered when it would survive a power cut. Without it, a power cut may take
        back what a store was changed under: then nobody knows that its two sides differ.
    busy_timeout: seconds to wait for those who write to the file: for other threads, and then as
        long again for other processes.
    """

    path: Path
    fsync: bool = True
    busy_timeout: float = Field(default=5.0, gt=0, le=60, allow_inf_nan=False)

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: Path) -> Path:
        # A configuration makes paths absolute: this would be a file of that name.
        if path.name == MEMORY.name and path != MEMORY:
            raise ValueError("a ledger that is configured needs a file; memory is for tests")
        return path


class SqliteLedger:
    """A `Ledger` over tables in a file. Call `prepare` first."""

    def __init__(self, config: SqliteConfig, runtime: Runtime) -> None:
        self._config = config
        self._runtime = runtime
        self._database: Database = (
            MemoryDatabase(runtime.clock)
            if config.path == MEMORY
            else FileDatabase(
                config.path,
                runtime.clock,
                fsync=config.fsync,
                busy_timeout=config.busy_timeout,
            )
        )

    # Intents ------------------------------------------------------------------------------

    async def begin(
        self, subject: Subject, epoch: int, owner: str, intents: Sequence[Intent], lease: float
    ) -> None:
        """See `Ledger.begin`."""
        _check_seconds(lease)
        if intents:
            await self._write(
                lambda db, now: fence.begin(db, now, subject, epoch, owner, intents, lease)
            )

    async def end(self, owner: str, ids: Sequence[str]) -> None:
        """See `Ledger.end`."""
        if ids:
            await self._write(lambda db, now: fence.end(db, now, owner, ids))

    async def leave(self, owner: str, ids: Sequence[str], after: float) -> None:
        """See `Ledger.leave`."""
        _check_seconds(after)
        if ids:
            await self._write(lambda db, now: fence.leave(db, now, owner, ids, after))

    async def extend(self, owner: str, ids: Sequence[str], lease: float) -> bool:
        """See `Ledger.extend`. When not all are this owner's, none is extended."""
        _check_seconds(lease)
        return await self._write(lambda db, now: fence.extend(db, now, owner, ids, lease))

    async def claim(
        self, subject: Subject, owner: str, lease: float, limit: int
    ) -> Sequence[Intent]:
        """See `Ledger.claim`."""
        _check_seconds(lease)
        _check_limit(limit)
        return await self._once(lambda ticket: self._claim(subject, owner, lease, limit, ticket))

    async def is_pending(self, subject: Subject, key: str) -> bool:
        """See `Ledger.is_pending`."""
        return await self._read(lambda db, now: fence.is_pending(db, now, subject, key))

    async def pending(self, subject: Subject) -> Pending:
        """See `Ledger.pending`."""
        return await self._read(lambda db, now: fence.pending(db, now, subject))

    # Stages -------------------------------------------------------------------------------

    async def state(self, subject: Subject) -> State | None:
        """See `Ledger.state`."""
        return await self._runtime.call(self._state, subject)

    async def start(self, subject: Subject, terms: Terms, move: Move) -> State:
        """See `Ledger.start`."""
        if move.to is not Stage.OFF:
            raise InvalidArgumentError("a migration starts in the stage off", not_sent=True)
        return await self._transition(
            subject, lambda db, now: stages.start(db, now, subject, terms, move)
        )

    async def announce(self, subject: Subject, epoch: int, seconds: float) -> None:
        """See `Ledger.announce`. One that is in force is never made shorter, but by 0."""
        _check_seconds(seconds)
        await self._once(lambda ticket: self._announce(subject, epoch, seconds, ticket))

    async def pause(self, subject: Subject, epoch: int, seconds: float) -> None:
        """See `Ledger.pause`. One that is in force is never made shorter, but by 0."""
        _check_seconds(seconds)
        await self._write(lambda db, now: stages.pause(db, now, subject, epoch, seconds))

    async def move(self, subject: Subject, epoch: int, move: Move) -> State:
        """See `Ledger.move`."""
        return await self._transition(
            subject, lambda db, now: stages.move(db, now, subject, epoch, move)
        )

    async def log(self, subject: Subject) -> Sequence[Transition]:
        """See `Ledger.log`."""
        return await self._read(lambda db, now: stages.log(db, now, subject))

    async def subjects(self) -> Sequence[tuple[Subject, State]]:
        """See `Ledger.subjects`."""
        return await self._read(stages.subjects)

    # Evidence -----------------------------------------------------------------------------

    async def note(self, subject: Subject, name: str, body: Mapping[str, Any]) -> None:
        """See `Ledger.note`."""
        await self._write(lambda db, now: evidence.note(db, now, subject, name, body))

    async def notes(self, subject: Subject) -> Mapping[str, Note]:
        """See `Ledger.notes`."""
        return await self._read(lambda db, now: evidence.notes(db, now, subject))

    async def count(self, subject: Subject, counts: Mapping[tuple[str, str], int]) -> None:
        """See `Ledger.count`."""
        if counts:
            await self._write(lambda db, now: evidence.count(db, now, subject, counts))

    async def counts(self, subject: Subject) -> Mapping[tuple[str, str], int]:
        """See `Ledger.counts`."""
        return await self._read(lambda db, now: evidence.counts(db, now, subject))

    async def reset_counts(self, subject: Subject) -> None:
        """See `Ledger.reset_counts`."""
        await self._write(lambda db, now: evidence.reset_counts(db, now, subject))

    async def skip(self, subject: Subject, key: str, reason: str, side: Side = "source") -> None:
        """See `Ledger.skip`."""
        await self._write(lambda db, now: evidence.skip(db, now, subject, key, reason, side))

    async def unskip(self, subject: Subject, keys: Sequence[str]) -> None:
        """See `Ledger.unskip`."""
        if keys:
            await self._write(lambda db, now: evidence.unskip(db, now, subject, keys))

    async def skipped(self, subject: Subject, limit: int) -> Sequence[Skipped]:
        """See `Ledger.skipped`."""
        _check_limit(limit)
        return await self._read(lambda db, now: evidence.skipped(db, now, subject, limit))

    async def skipped_among(self, subject: Subject, keys: Sequence[str]) -> Sequence[Skipped]:
        """See `Ledger.skipped_among`."""
        return await self._read(lambda db, now: evidence.skipped_among(db, now, subject, keys))

    # Life ---------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Make the file and its tables, or recognize them.

        Raises `config_invalid` for a file that is not ours, or cannot be used.
        """
        try:
            await patiently(self._runtime, self._database.prepare, self._config.busy_timeout)
        except (OSError, sqlite3.Error) as error:
            told = refusal(error, self._config.path, FORM)
            if told is None:
                raise
            raise told from error

    async def ping(self) -> None:
        """Look whether the file is there and can be used."""
        await self._runtime.call(self._database.ping)

    async def close(self) -> None:
        """See `Ledger.close`. What is in memory is lost."""
        await self._runtime.call(self._database.close)

    def reset(self) -> None:
        """Forget all subjects, for the next of many tests; in memory only."""
        if not isinstance(self._database, MemoryDatabase):
            raise UnsupportedError("a ledger in a file is not emptied: delete the file")
        self._database.reset()

    async def _read(self, work: Work[T]) -> T:
        return await self._runtime.call(self._database.read, work)

    async def _write(self, work: Work[T]) -> T:
        return await self._once(lambda ticket: self._database.write(work, ticket))

    async def _once(self, act: Callable[[Ticket], T]) -> T:
        ticket = Ticket()
        try:
            return await self._runtime.call(act, ticket)
        except BaseException:
            ticket.withdraw()
            raise

    async def _transition(self, subject: Subject, work: Work[State]) -> State:
        def act(ticket: Ticket) -> State:
            state = self._database.write(work, ticket)
            self._settle(subject)
            return state

        return await self._once(act)

    def _state(self, subject: Subject) -> State | None:
        row, now = self._find(subject)
        if row is not None and stages.is_unsettled(row, now):
            self._settle(subject)
            row, now = self._find(subject)
        return None if row is None else stages.state_of(row, now)

    def _find(self, subject: Subject) -> tuple[stages.Row | None, float]:
        return self._database.read(lambda db, now: (stages.find(db, subject), now))

    def _settle(self, subject: Subject) -> None:
        # What is not noted now, is by whoever asks next. Until then the stage
        # counts as new, and no lease is granted.
        with suppress(PlatformError):
            self._database.write(lambda db, now: stages.settle(db, now, subject), Ticket())

    def _announce(self, subject: Subject, epoch: int, seconds: float, ticket: Ticket) -> None:
        write = self._database.write
        if write(lambda db, now: stages.announce(db, now, subject, epoch, seconds), ticket):
            write(lambda db, now: stages.stamp_announcement(db, now, subject, epoch), Ticket())

    def _claim(
        self, subject: Subject, owner: str, lease: float, limit: int, ticket: Ticket
    ) -> list[Intent]:
        # It is asked over and over, mostly in vain: that should be in no writer's way.
        if not self._database.read(lambda db, now: fence.is_any_due(db, now, subject)):
            return []
        return self._database.write(
            lambda db, now: fence.claim(db, now, subject, owner, lease, limit), ticket
        )


def _check_seconds(seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise InvalidArgumentError("times are seconds, 0 or more, and finite", not_sent=True)


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise InvalidArgumentError("a limit is 1 or more", not_sent=True)


async def _open(config: SqliteConfig, runtime: Runtime) -> SqliteLedger:
    ledger = SqliteLedger(config, runtime)
    try:
        await ledger.prepare()
    except BaseException:
        await ledger.close()
        raise
    return ledger


BACKEND: Final = Backend(
    name="ledger.sqlite", config=SqliteConfig, open=_open, capabilities=frozenset()
)

__all__ = ["BACKEND", "MEMORY", "SqliteConfig", "SqliteLedger"]
