"""The only ways to wait, lock and fork off work, so that one source serves two faces.

From the services down everything is written once, as `async def`. Under `BlockingRuntime`
nothing ever suspends and `drive` runs a coroutine to its end in the caller's thread; under
`AsyncRuntime` the same coroutine runs on the caller's event loop.
"""

from .asynchronous import AsyncRuntime
from .blocking import BlockingRuntime
from .clock import SYSTEM_CLOCK, Clock, SystemClock
from .driving import drive, drive_each
from .protocol import Event, Runtime, WorkStopped
from .shapes import each, entered, settle

__all__ = [
    "SYSTEM_CLOCK",
    "AsyncRuntime",
    "BlockingRuntime",
    "Clock",
    "Event",
    "Runtime",
    "SystemClock",
    "WorkStopped",
    "drive",
    "drive_each",
    "each",
    "entered",
    "settle",
]
