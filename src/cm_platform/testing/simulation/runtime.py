"""The third runtime: tasks of a simulated process, on virtual time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, TypeVar

from cm_platform.runtime import Clock
from cm_platform.runtime.protocol import BACKGROUND_LIMIT
from cm_platform.runtime.shapes import taken

from .scheduler import EPOCH
from .tasks import Cancelled, Process, Task, parked
from .waiting import NO_DEADLINE, Deadline, Semaphore, SimulatedEvent

T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger("cm_platform.runtime")


class SimulatedClock:
    """A process's clocks. They go as fast as the simulation's and stand where they like."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._simulation = process.simulation

    def monotonic(self) -> float:
        """Time for measuring; never goes back."""
        return self._simulation.now + self._process.monotonic

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC; the simulation begins in the year 2100."""
        return EPOCH + self._simulation.now + self._process.wall

    def sleep(self, seconds: float, /) -> None:
        """Always an error: a thread that waits would stop all processes."""
        raise RuntimeError("blocking code cannot sleep in a simulation: use Runtime.sleep")

    async def sleep_async(self, seconds: float) -> None:
        """Let the task wait."""
        await self._simulation.sleep(seconds)


class SimulatedRuntime:
    """The `Runtime` of a process. What it waits for, the simulation's scheduler decides."""

    is_async = True

    def __init__(self, process: Process) -> None:
        self.clock: Clock = SimulatedClock(process)
        self.dropped = 0
        self._process = process
        self._simulation = process.simulation
        self._running: dict[Task[Any], None] = {}
        self._closing: Task[Any] | None = None

    async def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it here."""
        return fn(*args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        """Let the task wait."""
        await self._simulation.sleep(seconds)

    async def gather(
        self,
        coroutines: Iterable[Coroutine[Any, Any, T]] | AsyncIterable[Coroutine[Any, Any, T]],
        *,
        limit: int,
    ) -> list[T]:
        """See `Runtime.gather`."""
        if limit <= 1:
            async with taken(coroutines) as items:
                return [await coroutine async for coroutine in items]
        crew = _Crew(self._simulation.task)
        tasks: list[Task[T]] = []
        async with taken(coroutines) as items:
            try:
                async for coroutine in items:
                    if crew.failures:
                        coroutine.close()
                        break
                    name = f"{crew.owner.name}.{len(tasks)}"
                    tasks.append(self._process.spawn(coroutine, name, ended=crew.ended))
                    crew.running += 1
                    await crew.until_below(limit)
                await crew.until_below(1)
            finally:
                for task in tasks:
                    task.cancel()
                await crew.until_below(1, come_what_may=True)
        if crew.failures:
            raise crew.failures[0]
        for task in tasks:
            if task.error is not None:
                raise task.error
        return [task.value for task in tasks]

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Cancels the task when the time is up, and makes a TimeoutError of that."""
        return NO_DEADLINE if seconds is None else Deadline(self._simulation, seconds)

    def lock(self) -> AbstractAsyncContextManager[Any]:
        """Mutual exclusion within this process."""
        return Semaphore(self._simulation, 1)

    def semaphore(self, value: int) -> AbstractAsyncContextManager[Any]:
        """At most `value` inside at a time."""
        return Semaphore(self._simulation, value)

    def event(self) -> SimulatedEvent:
        """A new flag, down."""
        return SimulatedEvent(self._simulation)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run as a task, if there is room."""
        if len(self._running) >= BACKGROUND_LIMIT:
            self.dropped += 1
            coroutine.close()
            return False
        task = self._process.spawn(coroutine, "background", ended=self._ended)
        self._running[task] = None
        return True

    async def close(self, timeout: float = 5.0) -> None:
        """Wait for background work, cancel what is left."""
        self._closing = task = self._simulation.task
        timer = self._simulation.at(timeout, task.wake)
        try:
            if self._running:
                await parked()
            for late in tuple(self._running):
                late.cancel()
            while self._running:
                await parked()
        finally:
            timer.cancel()
            self._closing = None

    def _ended(self, task: Task[Any]) -> None:
        del self._running[task]
        if task.error is not None and not isinstance(task.error, Cancelled):
            logger.warning("background work failed: %s", type(task.error).__name__)
            self._simulation.note(f"background work failed: {task.error!r}")
        if not self._running and self._closing is not None:
            self._closing.wake()


class _Crew:
    """The tasks of one `gather`, and who waits for them."""

    def __init__(self, owner: Task[Any]) -> None:
        self.owner = owner
        self.running = 0
        self.failures: list[BaseException] = []
        self._is_awaited = False

    def ended(self, task: Task[Any]) -> None:
        self.running -= 1
        if task.error is not None and not isinstance(task.error, Cancelled):
            # In the order of time.
            self.failures.append(task.error)
        if self._is_awaited:
            # Only then: the owner may wait for something else, such as the next piece of a file.
            self.owner.wake()

    async def until_below(self, limit: int, *, come_what_may: bool = False) -> None:
        """Wait until fewer are running, or one has failed."""
        self._is_awaited = True
        try:
            while self.running >= limit and (come_what_may or not self.failures):
                await parked()
        finally:
            self._is_awaited = False


__all__ = ["SimulatedClock", "SimulatedRuntime"]
