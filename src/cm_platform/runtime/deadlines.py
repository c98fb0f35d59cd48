"""Deadlines on an event loop: one timer for all of them, set to the earliest.

`asyncio.timeout` makes a timer for each block and cancels it again: 4 microseconds, twice in a
download, for something that hardly ever happens. Here a block enters and leaves a set; the timer
goes off once a while, looks who is late, and is set anew.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, CancelledError, Task, TimerHandle, current_task
from contextvars import Context
from operator import attrgetter
from types import TracebackType
from typing import Any, Final

_NEVER: Final = float("inf")

# Seconds that a deadline may be late for each that waits. To look at one takes a tenth of that:
# when thousands are due one after the other (a backend went silent), they are taken together.
_PATIENCE: Final = 1e-6

_by_time: Final = attrgetter("due")


class Deadlines:
    """Those of one event loop."""

    __slots__ = ("_alarm", "_context", "_next", "loop", "waiting")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: set[Deadline] = set()
        self._alarm: TimerHandle | None = None
        self._next = _NEVER
        # Empty: the timer would else keep alive whatever is in the context of a request that
        # ended long ago, and copy that first.
        self._context = Context()

    def enter(self, deadline: Deadline) -> None:
        """Watch over it, from now until it is discarded from `waiting`."""
        self.waiting.add(deadline)
        if deadline.due < self._next:
            self._set(deadline.due)

    def _set(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._next = when
        self._alarm = self.loop.call_at(when, self._look, context=self._context)

    def _look(self) -> None:
        self._alarm, self._next = None, _NEVER
        now, waiting = self.loop.time(), self.waiting
        late = sorted((one for one in waiting if one.due <= now), key=_by_time)
        waiting.difference_update(late)
        if waiting:
            self._set(max(min(map(_by_time, waiting)), now + len(waiting) * _PATIENCE))
        for deadline in late:
            deadline.pass_()


class Deadline:
    """A block that raises TimeoutError when it is not done by then. As `asyncio.timeout`: the
    task is cancelled, and the cancellation becomes a TimeoutError, unless somebody else cancelled
    the task, too. Used once.

    due: when, on the loop's clock.
    """

    __slots__ = ("_all", "_cancelling", "_passed", "_task", "due")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._all = deadlines
        self._passed = False
        self.due: float = deadlines.loop.time() + seconds

    async def __aenter__(self) -> None:
        """Begin."""
        task = current_task(self._all.loop)
        if task is None:
            raise RuntimeError("a deadline can only be set in a task, which it cancels")
        self._task: Task[Any] = task
        self._cancelling = task.cancelling()
        self._all.enter(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; `TimeoutError` when it was this deadline that ended the block."""
        if not self._passed:
            self._all.waiting.discard(self)
        elif (
            # Ours is taken back in any case. When more are left than there were at the start,
            # somebody else wants the task to end, and that goes first.
            self._task.uncancel() <= self._cancelling
            and kind is not None
            and issubclass(kind, CancelledError)
        ):
            raise TimeoutError from error

    def pass_(self) -> None:
        """It is late: end the block."""
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

__all__ = ["NO_DEADLINE", "Deadline", "Deadlines"]
