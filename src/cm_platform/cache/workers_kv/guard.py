"""One write a second for a key: callers who come too soon wait for one write, the last one's.

KV answers the second write within a second with 429. Here it waits for its second, and takes
along all who write the same key meanwhile: the last value wins, as it would have had all of them
been written, and the values that nobody could have read are counted, not sent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final, TypeVar, cast

from cm_platform.runtime import Event, Runtime

T = TypeVar("T")

logger = logging.getLogger("cm_platform.cache")

Write = Callable[[T], Awaitable[None]]

# Seconds: less is rounding, and no wait.
_INSTANT: Final = 1e-6


class _Turn:
    """One write to come, and all who wait for it."""

    __slots__ = ("error", "led", "over", "value", "written")

    def __init__(self, value: object, over: Event) -> None:
        self.value = value
        self.over = over
        self.led = False
        self.written = False
        self.error: Exception | None = None


class WriteGuard:
    """Spaces the writes of this process to one key by `interval` seconds.

    dropped: values that were replaced before they were sent, since the guard was made.
    """

    def __init__(self, runtime: Runtime, interval: float) -> None:
        self._runtime = runtime
        self._interval = interval
        self._last: dict[str, float] = {}
        self._turns: dict[str, _Turn] = {}
        # Never held while waiting, so it serves both faces.
        self._guard = threading.Lock()
        self.dropped = 0

    async def write(self, key: str, value: T, send: Write[T]) -> None:
        """Send the value, or see it replaced by a later one; raises what the sending raised."""
        while True:
            mine = _Turn(value, self._runtime.event())
            # Atomic: of two threads, one gets its own turn.
            turn = self._turns.setdefault(key, mine)
            if turn is mine:
                await self._lead(key, mine, send)
                return
            joined = self._replaced(turn, value)
            await turn.over.wait()
            if not joined:
                # It was on its way already: ours is the next.
                continue
            if turn.error is not None:
                raise turn.error
            if turn.written:
                return
            # Who was to send it was cancelled. The last value is still the last, whoever goes on.
            value = cast("T", turn.value)

    def _replaced(self, turn: _Turn, value: object) -> bool:
        with self._guard:
            if turn.led:
                return False
            turn.value = value
            self.dropped += 1
        logger.debug("a write to a key of KV was replaced before it was sent")
        return True

    async def _lead(self, key: str, turn: _Turn, send: Write[T]) -> None:
        try:
            await self._wait(key)
            with self._guard:
                turn.led = True
            try:
                await send(turn.value)  # type: ignore[arg-type]
            finally:
                # Also after a failure: it may have landed.
                self._note(key)
            turn.written = True
        except Exception as error:
            turn.error = error
            raise
        finally:
            del self._turns[key]
            turn.over.set()

    async def together(self, keys: Sequence[str], send: Callable[[], Awaitable[T]]) -> T:
        """Write many keys with one request, once the second of each is over.

        Who writes one of them alone meanwhile may be refused, or make KV refuse one of these.
        """
        await self._wait(*keys)
        try:
            return await send()
        finally:
            self._note(*keys)

    async def _wait(self, *keys: str) -> None:
        while (pause := self._pause(keys)) > _INSTANT:
            # Again afterwards: others may have written them meanwhile.
            await self._runtime.sleep(pause)

    def _pause(self, keys: Sequence[str]) -> float:
        with self._guard:
            last = max(self._last.get(key, float("-inf")) for key in keys)
        return last + self._interval - self._runtime.clock.monotonic()

    def _note(self, *keys: str) -> None:
        now = self._runtime.clock.monotonic()
        with self._guard:
            for key in keys:
                self._last.pop(key, None)
                self._last[key] = now
            # In the order of their writes: those in front are the first that no longer matter.
            for other in list(islice(self._last, 2 * len(keys))):
                if self._last[other] + self._interval < now:
                    del self._last[other]


__all__ = ["WriteGuard"]
