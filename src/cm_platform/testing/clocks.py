"""The machine's time, which a test can put forward."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class MovableClock:
    """A `Clock` that runs as the machine's does, and is ahead of it by `ahead` seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def advance(self, seconds: float) -> None:
        """Put it forward."""
        self.ahead += seconds

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic() + self.ahead

    def wall(self) -> float:
        """See `Clock`."""
        return time.time() + self.ahead

    def sleep(self, seconds: float, /) -> None:
        """See `Clock`; it takes as long as it says."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """See `Clock`; it takes as long as it says."""
        await asyncio.sleep(seconds)


class LeapingClock:
    """A `Clock` by which sleeping takes no time: it is put forward instead.

    leapt: told by how many seconds, to move a store's own clock along.
    calendar: whether the time of day leaps, too. Signatures do not outlive that.
    """

    def __init__(self, leapt: Callable[[float], object], *, calendar: bool = False) -> None:
        self._ahead = 0.0
        self._leapt = leapt
        self._calendar = calendar

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic() + self._ahead

    def wall(self) -> float:
        """See `Clock`."""
        return time.time() + (self._ahead if self._calendar else 0.0)

    def sleep(self, seconds: float, /) -> None:
        """See `Clock`."""
        self._ahead += seconds
        self._leapt(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """See `Clock`."""
        self.sleep(seconds)
        await asyncio.sleep(0)


__all__ = ["LeapingClock", "MovableClock"]
