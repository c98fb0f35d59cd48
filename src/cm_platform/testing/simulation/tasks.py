"""Tasks and the processes that they live and die in."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from .scheduler import Simulation

T = TypeVar("T")

PARKED: Final = object()

# How often a coroutine may suspend again while it is being closed, before it is left alone.
_STUBBORN: Final = 1000


class Cancelled(BaseException):
    """What a cancelled task sees: the simulation's `asyncio.CancelledError`.

    Like that no Exception: code that survives failures must not survive this.
    """


@types.coroutine
def point() -> Generator[None, None, None]:
    """Let the scheduler decide who goes on; may also be where a task ends for good."""
    yield


@types.coroutine
def parked() -> Generator[object, None, None]:
    """Wait until somebody calls the task's `wake`, or cancels it."""
    yield PARKED


class Task(Generic[T]):
    """A coroutine of a process.

    value, error: how it ended. is_done: whether it did. is_over: that, or its process was killed.
    flight: what to do with the request that it has on the wire, should nobody wait for it any
        more: a function, and what to give it.
    """

    __slots__ = (
        "cancelling",
        "coroutine",
        "ended",
        "error",
        "flight",
        "is_done",
        "is_parked",
        "name",
        "process",
        "send",
        "thrown",
        "value",
    )

    value: T

    def __init__(
        self,
        process: Process,
        coroutine: Coroutine[Any, Any, T],
        name: str,
        ended: Callable[[Task[Any]], None] | None,
    ) -> None:
        self.process = process
        self.coroutine = coroutine
        self.send = coroutine.send
        self.name = name
        self.ended = ended
        self.error: BaseException | None = None
        self.thrown: BaseException | None = None
        self.cancelling = 0
        self.is_done = False
        self.is_parked = False
        self.flight: tuple[Callable[[Any], None], Any] | None = None

    def __repr__(self) -> str:
        return f"<{self.process.name}/{self.name} {where(self.coroutine)}>"

    @property
    def is_over(self) -> bool:
        """Whether it will do nothing any more."""
        return self.is_done or not self.process.is_alive

    def wake(self) -> None:
        """Let it go on, if it is parked."""
        if self.is_parked:
            self.is_parked = False
            self.process.simulation.runnable.append(self)

    def cancel(self) -> None:
        """Throw `Cancelled` where it waits, the next time that it is scheduled."""
        if not self.is_over:
            self.cancelling += 1
            self.thrown = Cancelled()
            self.wake()

    def uncancel(self) -> int:
        """Take one cancellation back, after it was seen; how many are left."""
        self.cancelling -= 1
        return self.cancelling


class Process:
    """Tasks that are killed together, with clocks of their own.

    wall, monotonic: seconds by which its clocks differ from the simulation's.
    """

    def __init__(
        self, simulation: Simulation, name: str, *, wall: float = 0.0, monotonic: float = 0.0
    ) -> None:
        self.simulation = simulation
        self.name = name
        self.wall = wall
        self.monotonic = monotonic
        self.is_alive = True
        # A dictionary keeps the order in which they came; a set would not.
        self.tasks: dict[Task[Any], None] = {}

    def __repr__(self) -> str:
        return f"<{self.name}{'' if self.is_alive else ', dead'}>"

    def spawn(
        self,
        coroutine: Coroutine[Any, Any, T],
        name: str = "main",
        *,
        ended: Callable[[Task[Any]], None] | None = None,
    ) -> Task[T]:
        """A new task, to be run from now on.

        ended: told when it is done, and then its failure is the listener's; a failure that
            nobody listens for ends `Simulation.run`.
        """
        simulation = self.simulation
        if not self.is_alive or simulation.is_closed:
            coroutine.close()
            raise RuntimeError(f"the process {self.name!r} is dead: make a new one")
        task = Task(self, coroutine, name, ended)
        self.tasks[task] = None
        simulation.runnable.append(task)
        return task

    def kill(self) -> None:
        """End it as SIGKILL does: no task goes on, no `finally` runs.

        What its tasks have on the wire may still arrive. A task of the process that calls this
        must wait for ever right after it, which `crash` does.
        """
        if not self.is_alive:
            return
        self.is_alive = False
        tasks = tuple(self.tasks)
        self.tasks.clear()
        self.simulation.bury(self, tasks)
        for task in tasks:
            task.is_parked = False
            if task.flight is not None:
                act, argument = task.flight
                task.flight = None
                act(argument)

    async def crash(self) -> None:
        """Kill the process from within; never comes back."""
        self.kill()
        await parked()


def dispose(coroutine: Any) -> None:
    """Close a coroutine or an awaitable like it, whatever it says to that.

    One that suspends again in a `finally` refuses to close; asked again, it closes there.
    """
    for _ in range(_STUBBORN):
        with suppress(BaseException):
            try:
                coroutine.close()
            except RuntimeError:
                continue
        return


def where(coroutine: Any) -> str:
    """The innermost function in which a coroutine is suspended, and its line."""
    found = "ended"
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            found = f"in {frame.f_code.co_qualname}:{frame.f_lineno}"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return found


__all__ = ["PARKED", "Cancelled", "Process", "Task", "dispose", "parked", "point", "where"]
