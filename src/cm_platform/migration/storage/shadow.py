"""Looking at the other side after a read was answered: some reads, within a budget, unseen.

The caller never waits for it and never hears of it. It compares what both sides say of the same
key now, and counts by class of keys what it found.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cm_platform.errors import NotFoundError, PlatformError
from cm_platform.migration.lease import View
from cm_platform.migration.ledger import Ledger, Subject
from cm_platform.routing import Stage
from cm_platform.runtime import Runtime

from .pair import Pair
from .sameness import difference

logger = logging.getLogger("cm_platform.migration")

_FLUSH_EVERY: Final = 1.0
_LOOKS: Final = 3

COMPARED: Final = "compared"
SAME: Final = "same"
PENDING: Final = "pending"
UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class ShadowTerms:
    """sample: of all reads, 0 to 1. per_second: comparisons in this process, at most."""

    sample: float = 0.01
    per_second: float = 10.0


class Shadow:
    """Compares sampled keys in the background, in the stages shadow and live.

    class_of: what keys are counted together, given one.
    """

    __slots__ = (
        "_class_of",
        "_counts",
        "_flushed",
        "_guard",
        "_ledger",
        "_now",
        "_pair",
        "_refilled",
        "_runtime",
        "_subject",
        "_terms",
        "_tokens",
    )

    def __init__(
        self,
        pair: Pair,
        ledger: Ledger,
        subject: Subject,
        runtime: Runtime,
        terms: ShadowTerms,
        class_of: Callable[[str], str],
    ) -> None:
        self._pair = pair
        self._ledger = ledger
        self._subject = subject
        self._runtime = runtime
        self._terms = terms
        self._class_of = class_of
        self._now = runtime.clock.monotonic
        self._tokens = terms.per_second
        self._refilled = self._flushed = self._now()
        self._counts: dict[tuple[str, str], int] = {}
        self._guard = runtime.lock()

    def offer(self, view: View, key: str, failure: Exception | None) -> None:
        """Maybe look at a key that was just read. Never raises, never waits."""
        if view.stage not in (Stage.SHADOW, Stage.LIVE) or not self._terms.sample:
            return
        if failure is not None and not isinstance(failure, NotFoundError):
            return
        if random.random() < self._terms.sample and self._may():  # noqa: S311 - a sample
            self._runtime.spawn(self._compare(key))

    def _may(self) -> bool:
        now = self._now()
        rate = self._terms.per_second
        # One, at least: less than one a second is one every few seconds.
        self._tokens = min(max(rate, 1.0), self._tokens + (now - self._refilled) * rate)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def _compare(self, key: str) -> None:
        try:
            found = await self._found(key)
        except PlatformError as error:
            logger.debug("a shadow read failed: %s", error.code)
            found = UNREADABLE
        group = self._class_of(key)
        async with self._guard:
            for name in (COMPARED, found):
                self._counts[group, name] = self._counts.get((group, name), 0) + 1
        if self._now() - self._flushed >= _FLUSH_EVERY:
            await self.flush()

    async def _found(self, key: str) -> str:
        """How the sides differ, if nobody is writing there."""
        for _ in range(_LOOKS):
            infos = await self._pair.heads(key)
            how = difference(*infos)
            if how is None:
                return SAME
            if await self._ledger.is_pending(self._subject, key):
                continue
            # An intent may have ended between the look at the sides and the one at the ledger.
            if await self._pair.heads(key) == infos:
                return how
        return PENDING

    async def flush(self) -> None:
        """Write down what was counted."""
        async with self._guard:
            counts, self._counts = self._counts, {}
            self._flushed = self._now()
        if counts:
            try:
                await self._ledger.count(self._subject, counts)
            except PlatformError as error:
                logger.warning("shadow reads were not written down: %s", error.code)

    async def close(self) -> None:
        """Write down what was counted so far."""
        await self.flush()


__all__ = ["COMPARED", "PENDING", "SAME", "UNREADABLE", "Shadow", "ShadowTerms"]
