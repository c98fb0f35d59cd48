"""Entries in this process's memory, bounded in bytes; the least recently used go first."""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

from cm_platform.runtime import Clock
from cm_platform.sqlite import Ticket

from .table import Kept, Table, size_of

T = TypeVar("T")

OVERHEAD: Final = 512
"""Bytes of an entry beyond its key and its value, as CPython lays them out: the heads of both
objects, the pair of value and time, places in two tables and in the heap of times, and as much
again there for one that is outdated. Measured, and rounded up; a test holds it against the
interpreter's own figures."""

_SLACK: Final = 64


class MemoryStore:
    """A table in memory, and its lock. Shared by threads; lost with the process."""

    overhead = OVERHEAD

    def __init__(self, clock: Clock, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._table = MemoryTable(clock, max_bytes)

    @property
    def used(self) -> int:
        """Bytes that are kept, as they are counted against the bound."""
        return self._table.used

    def keys(self) -> list[bytes]:
        """The physical keys, the least recently used first; also those whose time is over."""
        with self._lock:
            return list(self._table.entries)

    def read(self, work: Callable[[Table], T]) -> T:
        """See `Store.read`."""
        with self._lock:
            return work(self._table)

    def write(self, work: Callable[[Table], T], ticket: Ticket) -> T:
        """See `Store.write`. Nothing waits in here, so no caller can be cancelled meanwhile."""
        with self._lock:
            return work(self._table)

    def ping(self) -> None:
        """Always there."""

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._table.clear()


class MemoryTable:
    """See `Table`. Its time is the clock's monotonic one."""

    def __init__(self, clock: Clock, max_bytes: int) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        # Least recently used first. An ordinary dict would have to step over all those places at
        # its beginning from which something was taken.
        self.entries: OrderedDict[bytes, Kept] = OrderedDict()
        self.used = 0
        # When entries are over. An entry that was replaced or removed stays in here, until it is
        # on top or there are too many like it.
        self._times: list[tuple[float, bytes]] = []
        self._timed = 0

    @property
    def now(self) -> float:
        """See `Table.now`."""
        return self._clock.monotonic()

    def get(self, key: bytes) -> Kept | None:
        """See `Table.get`."""
        kept = self.entries.get(key)
        if kept is None:
            return None
        if kept.expires is not None and kept.expires <= self._clock.monotonic():
            self.remove(key)
            return None
        self.entries.move_to_end(key)
        return kept

    def put(self, key: bytes, value: bytes, expires: float | None) -> None:
        """See `Table.put`."""
        size = size_of(key, value, OVERHEAD, self._max_bytes)
        self.remove(key)
        if self.used + size > self._max_bytes:
            self._make_room(self._max_bytes - size)
        self.entries[key] = Kept(value, expires)
        self.used += size
        self._time(key, expires)

    def expire(self, key: bytes, expires: float | None) -> None:
        """See `Table.expire`."""
        old = self.entries[key]
        self.entries[key] = Kept(old.value, expires)
        self._timed -= old.expires is not None
        self._time(key, expires)

    def remove(self, key: bytes) -> None:
        """See `Table.remove`."""
        kept = self.entries.pop(key, None)
        if kept is not None:
            self.used -= len(key) + len(kept.value) + OVERHEAD
            self._timed -= kept.expires is not None

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self._times.clear()
        self.used = self._timed = 0

    def _time(self, key: bytes, expires: float | None) -> None:
        if expires is None:
            return
        self._timed += 1
        heapq.heappush(self._times, (expires, key))
        if len(self._times) > 2 * self._timed + _SLACK:
            self._times = [
                (kept.expires, known)
                for known, kept in self.entries.items()
                if kept.expires is not None
            ]
            heapq.heapify(self._times)

    def _make_room(self, bound: int) -> None:
        now = self._clock.monotonic()
        while self.used > bound and self._times and self._times[0][0] <= now:
            expires, key = heapq.heappop(self._times)
            kept = self.entries.get(key)
            # It may have been given another time since.
            if kept is not None and kept.expires == expires:
                self.remove(key)
        while self.used > bound:
            self.remove(next(iter(self.entries)))


__all__ = ["OVERHEAD", "MemoryStore", "MemoryTable"]
