"""Background work of the blocking runtime: one daemon thread each, bounded, joined, stopped."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from .clock import Clock, SystemClock
from .protocol import BACKGROUND_LIMIT, WorkStopped

# Seconds for stopped work to run its `finally` blocks. What is still busy then is in a blocking
# call, which only its socket's timeout can end.
LAST_WORDS: Final = 1.0


class Background:
    """The threads of one runtime that work for nobody in particular.

    Daemons: the interpreter's exit waits for none of them. The threads of an executor would be
    joined there, and a heartbeat would keep the process alive for ever.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: set[threading.Thread] = set()
        self._stop = Stop()
        self._here = threading.local()

    def start(self, work: Callable[[], None]) -> bool:
        """Call `work`, which must not raise, in a thread of its own; False when there is no room.

        It sees the caller's context variables.
        """
        # When the main thread has ended, the interpreter is on its way out, and would cut the
        # work off at any line.
        if not threading.main_thread().is_alive():
            return False
        context = contextvars.copy_context()
        with self._guard:
            running = self._running
            if len(running) >= BACKGROUND_LIMIT:
                return False
            stop = self._stop

            def run() -> None:
                self._here.stop = stop
                try:
                    context.run(work)
                finally:
                    running.discard(thread)

            thread = threading.Thread(target=run, name="cm_platform-background", daemon=True)
            running.add(thread)
            try:
                thread.start()
            except RuntimeError:
                # The machine, or an interpreter that shuts down, gives no more threads.
                running.discard(thread)
                return False
        return True

    def stop_here(self) -> Stop | None:
        """What stops the thread that asks; None when it is none of these."""
        stop: Stop | None = getattr(self._here, "stop", None)
        return stop

    def close(self, timeout: float) -> int:
        """Wait up to `timeout` seconds, stop what waits, and say how many are still busy."""
        if self._joined(timeout):
            return 0
        with self._guard:
            # A new one for what is started later: a runtime is usable after `close`.
            stop, self._stop = self._stop, Stop()
        stop.set()
        self._joined(LAST_WORDS)
        return len(self._others())

    def _joined(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        # Again and again, because work may start more of it.
        while others := self._others():
            for thread in others:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                thread.join(left)
        return True

    def _others(self) -> set[threading.Thread]:
        return set(self._running) - {threading.current_thread()}


class Stop:
    """The order to background threads to wait no more."""

    def __init__(self) -> None:
        self._raised = threading.Event()
        self._guard = threading.Lock()
        self._waiting: list[threading.Condition] = []

    def set(self) -> None:
        """Wake all who wait under this order, for good."""
        self._raised.set()
        with self._guard:
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    def check(self) -> None:
        """Raise `WorkStopped` when the order was given."""
        if self._raised.is_set():
            raise WorkStopped

    def sleep(self, clock: Clock, seconds: float) -> None:
        """Wait, unless and until stopped."""
        self.check()
        if type(clock) is SystemClock:
            self._raised.wait(seconds)
        else:
            # A clock that was given decides what waiting is; it cannot be woken.
            clock.sleep(seconds)
        self.check()

    def wait_for(
        self, condition: threading.Condition, holds: Callable[[], bool], timeout: float | None
    ) -> bool:
        """`condition.wait_for(holds, timeout)`, unless and until stopped."""
        with self._wakes(condition), condition:
            # Seen or woken: `set` raises the flag before it asks for the condition's lock.
            condition.wait_for(lambda: self._raised.is_set() or holds(), timeout)
            self.check()
            return holds()

    @contextmanager
    def _wakes(self, condition: threading.Condition) -> Generator[None, None, None]:
        with self._guard:
            self._waiting.append(condition)
        try:
            yield
        finally:
            with self._guard:
                self._waiting.remove(condition)


__all__ = ["Background", "Stop"]
