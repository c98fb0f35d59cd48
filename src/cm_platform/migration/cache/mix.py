"""What a tenant does with its cache, counted: enough to say what another store cannot do.

In every process, all the time, also before anybody thinks of a migration; so it is cheap: a
count in memory, written to the ledger every few seconds, by namespace; but that a namespace has
what must be exact is written before the first of it is. Reads are counted one in
sixteen; writes all; what makes a difference (conditions, counters, how long they live) exactly.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from cm_platform.errors import PlatformError
from cm_platform.limits import limits
from cm_platform.migration.ledger import Ledger, Subject
from cm_platform.runtime import Runtime

from .names import Kept, group_of, read_name
from .pair import Pair

logger = logging.getLogger("cm_platform.migration")

READ: Final = "read"
WRITE: Final = "write"
DELETE: Final = "delete"
COUNTER: Final = "counter"
CONDITION: Final = "condition"
TIME: Final = "time"
HOT: Final = "written again at once"
FOR_EVER: Final = "exact for ever"
KEY_OVER: Final = "key over "
VALUE_OVER: Final = "value over "
ENDS_BEFORE: Final = "ends before "
EXACT_WITHIN: Final = "exact within "
NOT_COPIED: Final = "not copied: "

SPANS: Final = (60, 3600, 86_400, 7 * 86_400, 30 * 86_400)
"""Seconds: the classes of how long what must be exact may live."""

_SAMPLED: Final = 16
_FLUSH_EVERY: Final = 10.0
_REMEMBERED: Final = 1024


def mix_subject(subject: Subject) -> Subject:
    """Under which the ledger keeps the counts: they outlive the start of a migration."""
    return Subject(f"{subject.kind}!mix", subject.tenant_id)


class Mix:
    """Counts what one process does for one tenant. prefix: what its partitions begin with."""

    __slots__ = (
        "_counts",
        "_exact",
        "_flushed",
        "_guard",
        "_interval",
        "_keys",
        "_ledger",
        "_now",
        "_prefix",
        "_reads",
        "_recent",
        "_runtime",
        "_subject",
        "_times",
        "_values",
    )

    def __init__(
        self, ledger: Ledger, subject: Subject, pair: Pair, runtime: Runtime, prefix: str
    ) -> None:
        kv, objects = limits("cache", "workers_kv"), limits("cache", "durable_objects")
        sides = (pair.source.limits, pair.target.limits)
        self._keys = _bounds(kv["max_key"], objects["max_key"], *(x.max_key for x in sides))
        self._values = _bounds(kv["max_value"], objects["max_value"], *(x.max_value for x in sides))
        self._times = sorted({kv["staleness"], *(x.staleness + x.generation_age for x in sides)})
        self._interval = 1.0 / limits("cloudflare", "kv")["max_writes_per_key"]
        self._ledger = ledger
        self._subject = mix_subject(subject)
        self._runtime = runtime
        self._prefix = prefix
        self._now = runtime.clock.monotonic
        self._guard = threading.Lock()
        self._counts: dict[tuple[str, str], int] = {}
        # What must be exact, and was written down by this process.
        self._exact: set[tuple[str, str]] = set()
        self._reads = 0
        self._flushed = self._now()
        # When keys were written last: a store may take only so many writes of one.
        self._recent: OrderedDict[str, float] = OrderedDict()

    def read(self, partition: str, keys: Sequence[str]) -> None:
        """Keys were asked for; by convention of the service the last one is a value's."""
        self._reads += 1
        if self._reads % _SAMPLED == 1 and keys:
            self._add(partition, keys[-1], (READ,), _SAMPLED)

    def wrote(self, partition: str, key: str, size: int, ttl: float | None) -> None:
        """A value was written. size: bytes."""
        name = read_name(key)
        if name.is_version or name.kept is Kept.LOCK:
            return
        seen = [WRITE]
        length = len(partition) + len(key)
        if length * 4 > self._keys[0]:
            length = len((partition + key).encode())
            seen += [f"{KEY_OVER}{most}" for most in self._keys if length > most][-1:]
        seen += [f"{VALUE_OVER}{most}" for most in self._values if size > most][-1:]
        if ttl is not None:
            seen += [f"{ENDS_BEFORE}{least:g}" for least in self._times if ttl < least][:1]
        if self._is_hot(partition + key):
            seen.append(HOT)
        self._add(partition, key, seen)

    def deleted(self, partition: str, keys: Sequence[str]) -> None:
        """Keys were deleted."""
        if keys:
            self._add(partition, keys[0], (DELETE,), len(keys))

    async def exact(self, what: str, partition: str, key: str, ttl: float | None) -> None:
        """Something is about to be done that must happen once. ttl: what the value is to live.

        Raises `unavailable`, with nothing sent, where the ledger cannot be told of the first.
        """
        name = read_name(key)
        if name.is_version or name.kept is Kept.LOCK:
            # The service does without where a store cannot.
            return
        lives = FOR_EVER
        if ttl is not None and ttl <= SPANS[-1]:
            lives = f"{EXACT_WITHIN}{next(most for most in SPANS if ttl <= most)}"
        seen = (group_of(name, partition, self._prefix), lives)
        if seen in self._exact:
            self._add(partition, key, (what, lives))
            return
        # Before it is done: what is left behind is asked for as long as it may live, and whoever
        # moves the tenant has to know of it by then.
        try:
            await self._ledger.count(self._subject, {seen: 1})
        except PlatformError as error:
            error.not_sent = True
            raise
        self._exact.add(seen)
        self._add(partition, key, (what,))

    def not_copied(self, partition: str, key: str, why: str) -> None:
        """A copy could not be made."""
        self._add(partition, key, (NOT_COPIED + why,))

    def _is_hot(self, physical: str) -> bool:
        now = self._now()
        with self._guard:
            before = self._recent.pop(physical, None)
            self._recent[physical] = now
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        return before is not None and now - before < self._interval

    def _add(self, partition: str, key: str, names: Sequence[str], times: int = 1) -> None:
        group = group_of(read_name(key), partition, self._prefix)
        with self._guard:
            counts = self._counts
            for name in names:
                counts[group, name] = counts.get((group, name), 0) + times
            is_due = self._now() - self._flushed >= _FLUSH_EVERY
            if is_due:
                self._flushed = self._now()
        if is_due:
            self._runtime.spawn(self.flush())

    async def flush(self) -> None:
        """Write down what was counted."""
        with self._guard:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            await self._ledger.count(self._subject, counts)
        except PlatformError as error:
            # Counted again later; twice at worst, and never lost.
            logger.debug("what a cache does was not written down: %s", error.code)
            with self._guard:
                for name, times in counts.items():
                    self._counts[name] = self._counts.get(name, 0) + times


def _bounds(*values: int) -> list[int]:
    return sorted(set(values))


__all__ = [
    "CONDITION",
    "COUNTER",
    "DELETE",
    "ENDS_BEFORE",
    "EXACT_WITHIN",
    "FOR_EVER",
    "HOT",
    "KEY_OVER",
    "NOT_COPIED",
    "READ",
    "SPANS",
    "TIME",
    "VALUE_OVER",
    "WRITE",
    "Mix",
    "mix_subject",
]
