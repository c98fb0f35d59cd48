"""A ledger behind one face: opened, called and, with others, called at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from cm_platform.migration.ledger import Ledger
from cm_platform.registry import REGISTRY, Backend
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Clock, Runtime, drive

T = TypeVar("T")


class LedgerFace:
    """One ledger under the runtime of one face. Use it as a context manager.

    name: "sync" or "async". table: see `LedgerHarness`. clock: the runtime's, which a ledger
        that keeps time itself goes by.

    The async face runs on an event loop of its own, in the caller's thread.
    """

    def __init__(self, name: str, table: Mapping[str, Any], clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self._runner = asyncio.Runner() if name == "async" else None
        self.runtime: Runtime = (
            BlockingRuntime(clock=clock) if self._runner is None else AsyncRuntime(clock=clock)
        )
        driver = table["driver"]
        self._backend: Backend[Any] = (
            driver if isinstance(driver, Backend) else REGISTRY.get("ledger", driver)
        )
        self._settings = {key: value for key, value in table.items() if key != "driver"}
        self._opened = self._open()
        self.ledger = self._opened.ledger
        self.calls = self._opened.calls

    @contextmanager
    def another(self) -> Generator[Opened, None, None]:
        """The same ledger, opened once more: as another process has it."""
        opened = self._open()
        try:
            yield opened
        finally:
            opened.calls.close()

    def _open(self) -> Opened:
        settings = self._backend.config(**self._settings)
        ledger: Ledger = self.run(self._backend.open(settings, self.runtime))
        self.run(ledger.prepare())
        return Opened(ledger, Calls(ledger, self.run))

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine of this face to its end."""
        return drive(coroutine) if self._runner is None else self._runner.run(coroutine)

    def at_once(self, coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Run coroutines beside each other, in threads or tasks; their results in order."""
        taken = list(coroutines)
        found: list[T] = self.run(self.runtime.gather(taken, limit=len(taken)))
        return found

    def close(self) -> None:
        """Close the ledger, its runtime and, of the async face, the loop."""
        self.calls.close()
        self.run(self.runtime.close())
        if self._runner is not None:
            self._runner.close()

    def __enter__(self) -> Self:
        """The face itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


class Opened(NamedTuple):
    """A ledger, and its methods run to their end."""

    ledger: Ledger
    calls: Calls


class Calls:
    """A ledger's methods, run to their end."""

    def __init__(self, ledger: Ledger, run: Callable[[Any], Any]) -> None:
        self._ledger = ledger
        self._run = run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._ledger, name)

        def call(*args: Any) -> Any:
            return self._run(method(*args))

        return call


__all__ = ["Calls", "LedgerFace", "Opened"]
