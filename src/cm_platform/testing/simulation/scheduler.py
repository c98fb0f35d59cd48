"""A scheduler of which a seed decides everything: who goes on, and how time passes.

A task runs until it awaits something of the simulation's. Then any task that could go on may be
the next. Nothing else runs beside it, so what happens between two points happens at once.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from .stuck import DeadlockError, LivelockError, shown
from .tasks import Cancelled, Process, Task, dispose, parked, point
from .timers import Timer, Timers

# Seconds since 1970 at which a simulation begins: 2100-01-01 UTC. Code that compares the age of
# what is stored with the machine's own clock finds it in the future, and cannot tell its age.
EPOCH: Final = 4_102_444_800.0


class Simulation:
    """A world of its own. Use it as a context manager, or `close` it.

    seed: the same seed, the same program: the same trace.
    step: seconds that may pass between two steps, at most.
    stall: how likely it is, after each step, that the task stands still for a while, up to
        `longest_stall` seconds: a slow disk, a collection of garbage, a machine that is late.
    traced: keep what `note` is told, in `trace`.

    now: seconds since the beginning. steps: how many were made. in_flight: how many requests
    nobody waits for and may still land. killed: how many processes were. random: the only dice;
    while `run` runs, the module `random` rolls seeded dice, too.
    """

    def __init__(
        self,
        seed: int,
        *,
        step: float = 0.002,
        stall: float = 0.0,
        longest_stall: float = 1.0,
        traced: bool = False,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - dice, no secret
        self.now = 0.0
        self.steps = 0
        self.in_flight = 0
        self.killed = 0
        self.current: Task[Any] | None = None
        self.runnable: list[Task[Any]] = []
        self.trace: list[str] | None = [] if traced else None
        self.is_closed = False
        self._step = step
        self._stall = stall
        self._longest_stall = longest_stall
        self._timers = Timers()
        self._processes: list[Process] = []
        self._buried: list[Task[Any]] = []
        self._awaited: dict[Task[Any], None] = {}
        self._is_stopping = False
        self._failure: BaseException | None = None

    def process(self, name: str, *, wall: float = 0.0, monotonic: float = 0.0) -> Process:
        """A new process; its clocks are so many seconds off."""
        made = Process(self, name, wall=wall, monotonic=monotonic)
        self._processes.append(made)
        return made

    def run(
        self, until: Task[Any] | Sequence[Task[Any]] | None = None, *, max_steps: int = 1_000_000
    ) -> None:
        """Go on until these tasks are over, or nothing is left to do.

        A task is over, too, when its process was killed. Raises what a task failed with for
        which nobody listens; `DeadlockError` when nothing is left to do and the tasks are not
        over; `LivelockError` after so many steps.
        """
        awaited = [until] if isinstance(until, Task) else until or ()
        self._awaited = {task: None for task in awaited if not task.is_over}
        self._is_stopping = until is not None and not self._awaited
        hooks, dice = sys.get_asyncgen_hooks(), random.getstate()
        sys.set_asyncgen_hooks(finalizer=_forget)
        random.seed(self.random.getrandbits(64))
        try:
            self._loop(self.steps + max_steps)
        finally:
            random.setstate(dice)
            sys.set_asyncgen_hooks(*hooks)
            self.current = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._awaited:
            raise DeadlockError(f"nothing is left to do; waiting: {shown(self._awaited)}")

    def at(self, delay: float, action: Callable[[], None]) -> Timer:
        """Do something in so many seconds."""
        return self._timers.add(self.now + delay, action)

    async def sleep(self, seconds: float) -> None:
        """Let the current task wait."""
        if seconds <= 0:
            await point()
            return
        timer = self.at(seconds, self.task.wake)
        try:
            await parked()
        finally:
            timer.cancel()

    def wall(self) -> float:
        """The true time, in seconds since 1970-01-01 UTC: that of servers."""
        return EPOCH + self.now

    @property
    def task(self) -> Task[Any]:
        """The current task."""
        if self.current is None:
            raise RuntimeError("this can only be awaited in a task of the simulation")
        return self.current

    def note(self, text: str) -> None:
        """Add a line to the trace, if there is one."""
        if self.trace is not None:
            task = self.current
            who = "-" if task is None else f"{task.process.name}/{task.name}"
            self.trace.append(f"{self.now:.6f} {who} {text}")

    def bury(self, process: Process, tasks: Sequence[Task[Any]]) -> None:
        """Never run these again; see `Process.kill`."""
        self.killed += 1
        self.note(f"killed {process.name}")
        self._buried.extend(tasks)
        # In place: the loop holds on to the list.
        self.runnable[:] = [task for task in self.runnable if task.process is not process]
        for task in tasks:
            self._strike(task)

    def close(self) -> None:
        """Dispose of all that did not end, without a word. Nothing runs after it."""
        if self.is_closed:
            return
        self.is_closed = True
        left = self._buried
        for process in self._processes:
            left.extend(process.tasks)
            process.tasks.clear()
        self.runnable.clear()
        self._timers.clear()
        for task in left:
            task.is_parked = False
            task.flight = None
            dispose(task.coroutine)
        left.clear()

    def __enter__(self) -> Self:
        """The simulation itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _loop(self, last: int) -> None:
        runnable, timers = self.runnable, self._timers
        roll, step, stall = self.random.random, self._step, self._stall
        while not self._is_stopping:
            count = len(runnable)
            if not count:
                if not self._jump():
                    return
                continue
            if self.steps >= last:
                raise LivelockError(f"no end after {self.steps} steps: {shown(runnable)}")
            self.steps += 1
            # One roll of the dice for both: who is next, and how much time has passed.
            rolled = roll() * count
            index = int(rolled)
            rest = rolled - index
            self.now = now = self.now + rest * step
            if now >= timers.next:
                self.current = None
                timers.fire(now)
                continue
            task = runnable[index]
            self.current = task
            try:
                if task.thrown is None:
                    request = task.send(None)
                else:
                    thrown, task.thrown = task.thrown, None
                    request = task.coroutine.throw(thrown)
            except StopIteration as stop:
                task.value = stop.value
                self._ended(task, index)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - how a task ended is its own affair
                task.error = error
                self._ended(task, index)
            else:
                # At a point it stays where it is in the list: most steps are such.
                if request is not None:
                    self._park(task, index)
                elif rest < stall and task.process.is_alive:
                    # After a step, so that of two steps at most one stall comes between.
                    self._park(task, index)
                    self.at(roll() * self._longest_stall, task.wake)

    def _park(self, task: Task[Any], index: int) -> None:
        if task.process.is_alive:
            self._remove(task, index)
            task.is_parked = True

    def _remove(self, task: Task[Any], index: int) -> None:
        runnable = self.runnable
        if index >= len(runnable) or runnable[index] is not task:
            # It killed somebody, and the list became shorter.
            index = runnable.index(task)
        # The order of the list is of no matter, as long as the seed decides it.
        runnable[index] = runnable[-1]
        runnable.pop()

    def _ended(self, task: Task[Any], index: int) -> None:
        process = task.process
        task.is_done = True
        if not process.is_alive:
            return
        self._remove(task, index)
        del process.tasks[task]
        if task.ended is not None:
            task.ended(task)
        elif task.error is not None and not isinstance(task.error, Cancelled):
            self.note(f"failed with {type(task.error).__name__}")
            self._failure = task.error
            self._is_stopping = True
        self._strike(task)

    def _strike(self, task: Task[Any]) -> None:
        if task in self._awaited:
            del self._awaited[task]
            self._is_stopping = self._is_stopping or not self._awaited

    def _jump(self) -> bool:
        """Go to the next thing that time brings; False when there is none."""
        self.current = None
        due = self._timers.due()
        if due is None:
            return False
        self.now = max(self.now, due)
        self._timers.fire(self.now)
        return True


def _forget(generator: Any) -> None:
    # An asynchronous generator that nobody closed, found by the garbage collector. An event loop
    # would close it some time later; here that must not depend on when the collector comes.
    closing = generator.aclose()
    with suppress(BaseException):
        closing.send(None)
        while True:
            closing.throw(Cancelled())


__all__ = ["EPOCH", "Simulation"]
