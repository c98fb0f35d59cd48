"""What tasks of one process wait with: deadlines, locks and events, on virtual time."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any, Final

from .scheduler import Simulation
from .tasks import Cancelled, Task, parked, point
from .timers import Timer


class Deadline:
    """A block that raises TimeoutError when it takes longer, as `AsyncRuntime.timeout` does: the
    task is cancelled, and the cancellation becomes a TimeoutError, unless somebody else cancelled
    the task, too. Used once."""

    __slots__ = ("_before", "_passed", "_seconds", "_simulation", "_task", "_timer")

    _task: Task[Any]
    _timer: Timer

    def __init__(self, simulation: Simulation, seconds: float) -> None:
        self._simulation = simulation
        self._seconds = seconds
        self._passed = False

    async def __aenter__(self) -> None:
        """Begin."""
        self._task = task = self._simulation.task
        self._before = task.cancelling
        self._timer = self._simulation.at(self._seconds, self._pass)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; `TimeoutError` when it was this deadline that ended the block."""
        if not self._passed:
            self._timer.cancel()
        elif self._task.uncancel() <= self._before and isinstance(error, Cancelled):
            raise TimeoutError from error

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()


class NoDeadline:
    """A block that may take as long as it likes."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        """Begin."""

    async def __aexit__(self, *exc: object) -> None:
        """End."""


NO_DEADLINE: Final = NoDeadline()


class Semaphore:
    """At most so many inside, in the order in which they came; with one, a lock."""

    __slots__ = ("_free", "_simulation", "_waiting")

    def __init__(self, simulation: Simulation, value: int) -> None:
        self._simulation = simulation
        self._free = value
        self._waiting: deque[Task[Any]] = deque()

    async def __aenter__(self) -> None:
        """Come in, when there is room."""
        # Threads may change places here, and where they may, this scheduler does.
        await point()
        if self._free > 0:
            self._free -= 1
            return
        task = self._simulation.task
        self._waiting.append(task)
        try:
            await parked()
        except BaseException:
            if task in self._waiting:
                self._waiting.remove(task)
            else:
                # It was let in at the same moment.
                self._leave()
            raise

    async def __aexit__(self, *exc: object) -> None:
        """Leave."""
        self._leave()

    def _leave(self) -> None:
        if self._waiting:
            self._waiting.popleft().wake()
        else:
            self._free += 1


class SimulatedEvent:
    """See `Event`."""

    __slots__ = ("_is_set", "_simulation", "_waiting")

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._is_set = False
        self._waiting: list[Task[Any]] = []

    def set(self) -> None:
        """Raise the flag; wakes all who wait."""
        self._is_set = True
        for task in self._waiting:
            task.wake()

    def is_set(self) -> bool:
        """Whether the flag is up."""
        return self._is_set

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the flag, at most `timeout` seconds; whether it is up."""
        if self._is_set or (timeout is not None and timeout <= 0):
            await point()
            return self._is_set
        task = self._simulation.task
        timer = None if timeout is None else self._simulation.at(timeout, task.wake)
        self._waiting.append(task)
        try:
            await parked()
        finally:
            self._waiting.remove(task)
            if timer is not None:
                timer.cancel()
        return self._is_set


__all__ = ["NO_DEADLINE", "Deadline", "NoDeadline", "Semaphore", "SimulatedEvent"]
