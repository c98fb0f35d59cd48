"""A ledger in a file or in memory, opened on either face, on a clock that is told to move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cm_platform.migration.ledger import Intent, Move, Subject, Terms
from cm_platform.migration.ledgers.sqlite import BACKEND, SqliteConfig, SqliteLedger
from cm_platform.routing import Stage
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Clock, Runtime, drive

ACME = Subject("storage", "acme")
TERMS = Terms("to-new", "old", "new", lease=5.0)
OFF = Move("start", Stage.OFF, "operator")
DUALWRITE = Move("dualwrite", Stage.DUALWRITE, "operator")


class StandingClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.now += seconds


class Opened:
    """A ledger and how its coroutines are run."""

    def __init__(
        self, ledger: SqliteLedger, run: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self.ledger = ledger
        self.run = run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.ledger, name)
        return lambda *args: self.run(method(*args))

    def to_dualwrite(self) -> None:
        """In the stage dualwrite; its epoch is 2."""
        self.run(self.ledger.start(ACME, TERMS, OFF))
        self.run(self.ledger.move(ACME, 1, DUALWRITE))

    def begins(
        self, id_: str, key: str = "key", *, owner: str = "writer", lease: float = 60
    ) -> None:
        self.run(self.ledger.begin(ACME, 2, owner, [Intent(id_, key)], lease))


async def _opened(config: SqliteConfig, runtime: Runtime) -> SqliteLedger:
    ledger = await BACKEND.open(config, runtime)
    assert isinstance(ledger, SqliteLedger)
    return ledger


@contextmanager
def opened(
    path: Path, face: str = "sync", *, clock: Clock | None = None, **settings: Any
) -> Iterator[Opened]:
    """face: "sync" or "async"."""
    clock = clock or StandingClock()
    with asyncio.Runner() as runner:
        runtime: Runtime
        run: Callable[[Coroutine[Any, Any, Any]], Any]
        if face == "async":
            runtime, run = AsyncRuntime(clock=clock), runner.run
        else:
            runtime, run = BlockingRuntime(clock=clock), drive
        ledger = run(_opened(SqliteConfig(path=path, **settings), runtime))
        try:
            yield Opened(ledger, run)
        finally:
            run(ledger.close())
            run(runtime.close())
