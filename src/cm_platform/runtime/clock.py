"""Time as a dependency: deadlines, back-off and expiry are tested by moving a clock."""

from __future__ import annotations

import time
from typing import Final, Protocol


class Clock(Protocol):
    """Where time comes from. All figures are seconds."""

    def monotonic(self) -> float:
        """Time for measuring; never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait in this thread."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Wait on the running event loop."""
        ...


class SystemClock:
    """The machine's clock."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    sleep = staticmethod(time.sleep)

    async def sleep_async(self, seconds: float) -> None:
        """Wait on the running event loop."""
        import asyncio

        await asyncio.sleep(seconds)


SYSTEM_CLOCK: Final[Clock] = SystemClock()

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]
