"""Processes that die at named points of the protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from cm_platform.migration import points

from .scheduler import Simulation
from .tasks import Task, parked, point


class CrashPoints:
    """A hook for `cm_platform.migration.points`: kills the process that reaches a point.

    crashes: names of points with the time, from 1, at which reaching it is deadly; counted over
        all processes. allowed: asked whether it may be now (a stage, a process that matters).
    reached: how often each point was reached. struck: which crashes have happened.

    A point is, besides, one where others may go on.
    """

    def __init__(
        self,
        simulation: Simulation,
        *crashes: tuple[str, int],
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.reached: Counter[str] = Counter()
        self.struck: list[tuple[str, int]] = []
        self._simulation = simulation
        self._crashes = frozenset((str(name), nth) for name, nth in crashes)
        self._allowed = allowed
        self._waiting: dict[str, list[Task[Any]]] = {}

    async def __call__(self, name: str) -> None:
        """Somebody is there."""
        name = str(name)
        for task in self._waiting.pop(name, ()):
            task.wake()
        if self._allowed():
            self.reached[name] += 1
            crash = (name, self.reached[name])
            if crash in self._crashes:
                self.struck.append(crash)
                self._simulation.note(f"dies at {name}")
                await self._simulation.task.process.crash()
        await point()

    async def until(self, name: str, patience: float) -> None:
        """Wait until somebody gets to a point, or for so many seconds: to be in the way there."""
        simulation = self._simulation
        task = simulation.task
        timer = simulation.at(patience, task.wake)
        waiting = self._waiting.setdefault(str(name), [])
        waiting.append(task)
        try:
            await parked()
        finally:
            timer.cancel()
            if task in waiting:
                waiting.remove(task)

    @contextmanager
    def installed(self) -> Generator[CrashPoints, None, None]:
        """The hook, for as long as the block lasts."""
        before, points.hook = points.hook, self
        try:
            yield self
        finally:
            points.hook = before


__all__ = ["CrashPoints"]
