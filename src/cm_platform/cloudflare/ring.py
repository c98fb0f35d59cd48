"""When each of the last requests of a token ended: a ring of fixed size in a few kilobytes.

A request under way has a time to come in its place: until then it counts as ending now, and
after that as one whose process died.

Times are of the monotonic clock, which all processes of a machine share and nobody sets: the wall
clock may jump either way without effect. After a restart of the machine the monotonic clock
begins anew. Then what is recorded lies in the future, or seems younger than it is; the second
only makes us wait longer, and the first is put right by the wall clock.

Layout, little endian: a header (magic, requests so far, no request before, time of the last
change, the wall clock then, CRC-32 of these), padded to 64 bytes; then the times.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Final, Protocol

SLOTS: Final = 4096
"""Requests remembered, so the largest cap that can be kept."""

_MAGIC: Final = b"cm-rate1"
_HEADER: Final = struct.Struct("<8sQddd")
_CRC: Final = struct.Struct("<I")
_STAMP: Final = struct.Struct("<d")
_START: Final = 64
_SIZE: Final = _START + SLOTS * _STAMP.size

# Seconds. Nothing is blocked, or under way, for longer, whatever a damaged file says.
_MAX_BLOCK: Final = 86_400.0
_MAX_FLIGHT: Final = 7_200.0
# Requests: more than anybody sends, and the count has room to grow.
_MANY: Final = 2**62


class Memory(Protocol):
    """Where a ring's bytes are. Only used while it is locked."""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from there; fewer at the end."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes there."""
        ...


class Ring:
    """A view of the ring, as it is now. Make one under the lock, and forget it with the lock.

    now: of the monotonic clock. wall: Unix seconds.
    damaged: what was there is no ring. We cannot know what was sent, so all of it counts as sent
        just now.
    """

    def __init__(self, memory: Memory, now: float, wall: float) -> None:
        self._memory = memory
        self._now = now
        self._wall = wall
        self._taken = 0
        self._blocked = -math.inf
        self._changed = -math.inf
        self._changed_wall = wall
        self.damaged = False
        header = memory.read(0, _HEADER.size + _CRC.size)
        if not header:
            memory.write(_START, bytes(_SIZE - _START))
            self._save()
            return
        if not self._load(header):
            self.damaged = True
            self._taken, self._blocked, self._changed = SLOTS, -math.inf, now
            memory.write(_START, _STAMP.pack(now) * SLOTS)
            self._save()
        elif self._changed > now:
            self._rebase()

    def next_start(self, cap: int, period: float) -> float:
        """When the next request may begin: after the last but `cap` is `period` old.

        Request n begins only when request n - cap has ended that long ago. So of `cap` + 1 in a
        row the last reaches the server more than a period after the first, whatever time each
        took on its way: no window holds more than `cap`.
        """
        start: float = min(self._blocked, self._now + _MAX_BLOCK)
        if self._taken >= cap:
            start = max(start, self._stamp(self._taken - cap) + period)
        return start

    def take(self, flight: float) -> int:
        """Note that a request begins now, and takes at most `flight` seconds; its number."""
        number = self._taken
        self._write(number, self._now + min(flight, _MAX_FLIGHT))
        self._taken += 1
        self._save()
        return number

    def others(self, count: int) -> None:
        """Note that so many requests have ended just now, not counted by anybody here."""
        for number in range(self._taken, self._taken + count):
            self._write(number, self._now)
        self._taken += count
        self._save()

    def ended(self, number: int) -> None:
        """Note that a request has ended: the latest moment at which it may have been counted."""
        if 0 <= number < self._taken <= number + SLOTS:
            self._write(number, self._now)
            self._save()

    def block(self, seconds: float) -> None:
        """Let nothing begin for so long."""
        self._blocked = max(self._blocked, self._now + min(seconds, _MAX_BLOCK))
        self._save()

    def used(self, period: float, most: int) -> int:
        """How many of the last `most` requests are younger than a period."""
        times = self._times()
        oldest = self._now - period
        last = range(self._taken - min(most, self._taken, SLOTS), self._taken)
        # Turned round: what is no number counts as young.
        return sum(not times[number % SLOTS] <= oldest for number in last)

    def _load(self, header: bytes) -> bool:
        if len(header) < _HEADER.size + _CRC.size:
            return False
        fields = header[: _HEADER.size]
        if _CRC.unpack(header[_HEADER.size :])[0] != zlib.crc32(fields):
            return False
        magic, self._taken, self._blocked, self._changed, self._changed_wall = _HEADER.unpack(
            fields
        )
        whole = len(self._memory.read(_SIZE - _STAMP.size, _STAMP.size)) == _STAMP.size
        # Infinite times would make NaN of each other, and NaN lets everything through.
        known = (
            math.isfinite(self._changed)
            and math.isfinite(self._changed_wall)
            and self._blocked < math.inf
            and self._taken < _MANY
        )
        return whole and known and magic == _MAGIC

    def _save(self) -> None:
        self._changed = max(self._changed, self._now)
        header = _HEADER.pack(_MAGIC, self._taken, self._blocked, self._changed, self._wall)
        self._memory.write(0, header + _CRC.pack(zlib.crc32(header)))

    def _stamp(self, number: int) -> float:
        data = self._memory.read(_START + number % SLOTS * _STAMP.size, _STAMP.size)
        stamp: float = _STAMP.unpack(data)[0]
        if not stamp <= self._now + _MAX_FLIGHT:
            # It cannot be (nor can NaN, which is why this is turned round), and would stay.
            self._write(number, self._now)
        return self._now if math.isnan(stamp) else min(stamp, self._now)

    def _times(self) -> tuple[float, ...]:
        return struct.unpack(f"<{SLOTS}d", self._memory.read(_START, SLOTS * _STAMP.size))

    def _write(self, number: int, stamp: float) -> None:
        self._memory.write(_START + number % SLOTS * _STAMP.size, _STAMP.pack(stamp))

    def _rebase(self) -> None:
        # The monotonic clock began anew. A wall clock that went back in between tells nothing.
        passed = max(self._wall - self._changed_wall, 0.0)
        shift = self._now - passed - self._changed
        shifted = (time + shift for time in self._times())
        self._memory.write(_START, struct.pack(f"<{SLOTS}d", *shifted))
        self._blocked += shift
        self._changed = self._now
        self._save()


__all__ = ["SLOTS", "Memory", "Ring"]
