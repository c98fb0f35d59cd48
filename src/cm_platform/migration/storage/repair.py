"""Finishing what somebody else began: intents whose owner's time is over."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from cm_platform.errors import PlatformError
from cm_platform.migration.intents import Intents
from cm_platform.migration.points import Point, reach
from cm_platform.runtime import Runtime

from .reconcile import Reconciler

logger = logging.getLogger("cm_platform.migration")

_BATCH: Final = 50
_RETRY: Final = 1.0
_EVERY: Final = 60.0
# Seconds before each attempt of the background; what is left then waits for somebody else.
_PATIENCE: Final = (0.0, 0.1, 0.5, 2.0, 5.0, 15.0)


class Repaired(NamedTuple):
    """Keys that are the same again, and those that could not be made so, with the error."""

    keys: int
    failed: dict[str, PlatformError]


class Repairer:
    """Claims intents that are due, and makes their keys the same."""

    __slots__ = ("_awake", "_concurrency", "_intents", "_last", "_reconciler", "_runtime")

    def __init__(
        self, intents: Intents, reconciler: Reconciler, runtime: Runtime, *, concurrency: int = 8
    ) -> None:
        self._intents = intents
        self._reconciler = reconciler
        self._runtime = runtime
        self._concurrency = concurrency
        self._awake = False
        self._last = runtime.clock.monotonic()

    async def repair(self) -> Repaired:
        """One batch of what is due; nothing is due when it repaired and failed nothing.

        Raises what the ledger raises.
        """
        held = await self._intents.claim(_BATCH)
        if held is None:
            return Repaired(0, {})
        await reach(Point.REPAIR_CLAIMED)
        failed: dict[str, PlatformError] = {}

        async def repaired(key: str) -> None:
            try:
                await self._reconciler.reconcile(held, key)
            except PlatformError as error:
                failed[key] = error

        await self._runtime.gather((repaired(key) for key in held.ids), limit=self._concurrency)
        await reach(Point.REPAIR_DONE)
        clean = [key for key in held.ids if key not in failed]
        await self._intents.finish(held, clean, after=_RETRY)
        return Repaired(len(clean), failed)

    def tick(self) -> None:
        """Repair in the background, now and then: others may have died, URLs have expired."""
        if self._runtime.clock.monotonic() - self._last > _EVERY:
            self.wake()

    def wake(self) -> None:
        """Repair in the background, for a while: intents were left."""
        self._last = self._runtime.clock.monotonic()
        if not self._awake:
            # Before it begins: it may have ended when we go on.
            self._awake = True
            if not self._runtime.spawn(self._patiently()):
                self._awake = False

    async def _patiently(self) -> None:
        try:
            for wait in _PATIENCE:
                await self._runtime.sleep(wait)
                repaired = await self.repair()
                while repaired.keys:
                    repaired = await self.repair()
        except PlatformError as error:
            logger.debug("the background could not repair: %s", error.code)
        finally:
            self._awake = False


__all__ = ["Repaired", "Repairer"]
