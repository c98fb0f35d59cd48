"""Looking at the copy of what was just read: some reads, within a budget, unseen by the caller.

A copy may be late by as much as is declared. So what differs is looked at once more after that
time, and counts only if it still differs and nobody has written there since.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from cm_platform.cache.entry import HEADER, STAMP
from cm_platform.errors import PlatformError
from cm_platform.migration.ledger import Ledger, Subject
from cm_platform.routing import Stage
from cm_platform.runtime import Runtime

from .judging import is_entry
from .names import Kept, group_of, read_name
from .pair import Pair
from .standing import Standing

logger = logging.getLogger("cm_platform.migration")

COMPARED: Final = "compared"
SAME: Final = "same"
PENDING: Final = "pending"
UNREADABLE: Final = "unreadable"

_FLUSH_EVERY: Final = 1.0
_WAITING: Final = 1000
_BODY: Final = STAMP.stop


@dataclass(frozen=True, slots=True)
class ShadowTerms:
    """sample: of all reads, 0 to 1. per_second: comparisons in this process, at most.

    bound: seconds by which a copy may be late.
    """

    sample: float = 0.01
    per_second: float = 10.0
    bound: float = 120.0


class _Look(NamedTuple):
    due: float
    partition: str
    key: str
    value: bytes


class Shadow:
    """Compares sampled keys in the background, in the stage shadow. prefix: see `group_of`."""

    __slots__ = (
        "_counts",
        "_flushed",
        "_guard",
        "_ledger",
        "_now",
        "_pair",
        "_prefix",
        "_refilled",
        "_runtime",
        "_subject",
        "_terms",
        "_tokens",
        "_waiting",
    )

    def __init__(
        self,
        pair: Pair,
        ledger: Ledger,
        subject: Subject,
        runtime: Runtime,
        terms: ShadowTerms,
        prefix: str,
    ) -> None:
        self._pair = pair
        self._ledger = ledger
        self._subject = subject
        self._runtime = runtime
        self._terms = terms
        self._prefix = prefix
        self._now = runtime.clock.monotonic
        self._tokens = terms.per_second
        self._refilled = self._flushed = self._now()
        self._guard = threading.Lock()
        self._counts: dict[tuple[str, str], int] = {}
        self._waiting: deque[_Look] = deque()

    def offer(self, standing: Standing, partition: str, key: str, value: bytes | None) -> None:
        """Maybe look at the copy of an entry that was just read. Never raises, never waits."""
        if not standing.copies or standing.stage is not Stage.SHADOW or not self._terms.sample:
            return
        self._look_again()
        if value is None or not is_entry(value) or read_name(key).kept is not Kept.VALUE:
            return
        if random.random() < self._terms.sample and self._may():  # noqa: S311 - a sample
            self._runtime.spawn(self._first(partition, key, value))

    def _may(self) -> bool:
        with self._guard:
            now = self._now()
            rate = self._terms.per_second
            # Less than one a second is one now and then.
            self._tokens = min(max(rate, 1.0), self._tokens + (now - self._refilled) * rate)
            self._refilled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    async def _first(self, partition: str, key: str, value: bytes) -> None:
        found = await self._found(partition, key, value)
        if found in (SAME, UNREADABLE):
            await self._count(partition, key, found)
            return
        with self._guard:
            if len(self._waiting) < _WAITING:
                due = self._now() + self._terms.bound
                self._waiting.append(_Look(due, partition, key, value))

    def _look_again(self) -> None:
        with self._guard:
            if not self._waiting or self._waiting[0].due > self._now():
                return
            look = self._waiting.popleft()
        self._runtime.spawn(self._second(look))

    async def _second(self, look: _Look) -> None:
        _, partition, key, value = look
        found = await self._found(partition, key, value)
        if found not in (SAME, UNREADABLE):
            try:
                now = (await self._pair.fetch("source", partition, [key]))[key]
            except PlatformError:
                found = UNREADABLE
            else:
                found = found if now == value else PENDING
        await self._count(partition, key, found)

    async def _found(self, partition: str, key: str, value: bytes) -> str:
        """How the copy differs, in words."""
        try:
            copy = (await self._pair.fetch("target", partition, [key]))[key]
        except PlatformError as error:
            logger.debug("a shadow read failed: %s", error.code)
            return UNREADABLE
        if copy is None:
            return "missing on the target"
        if not is_entry(copy) or copy[:2] != value[:2]:
            return "form"
        if copy[_BODY:] == value[_BODY:]:
            return SAME
        if copy[HEADER.size :] == value[HEADER.size :]:
            return "time"
        return "value"

    async def _count(self, partition: str, key: str, found: str) -> None:
        group = group_of(read_name(key), partition, self._prefix)
        with self._guard:
            for name in (COMPARED, found):
                self._counts[group, name] = self._counts.get((group, name), 0) + 1
        if self._now() - self._flushed >= _FLUSH_EVERY:
            await self.flush()

    async def flush(self) -> None:
        """Write down what was counted."""
        with self._guard:
            counts, self._counts = self._counts, {}
            self._flushed = self._now()
        if counts:
            try:
                await self._ledger.count(self._subject, counts)
            except PlatformError as error:
                logger.warning("shadow reads were not written down: %s", error.code)


__all__ = ["COMPARED", "PENDING", "SAME", "UNREADABLE", "Shadow", "ShadowTerms"]
