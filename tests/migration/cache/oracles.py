"""What the users of a cache saw, and whether it can be true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Act:
    """What a client did. start, end: true time; end None: it was never answered, or in doubt.

    value: what it wrote, or read, or was told. ttl: seconds. what: read, set, delete, clear,
    invalidate, increment. tag: what it was written under, or what was invalidated.
    """

    what: str
    key: str
    start: float
    end: float | None = None
    value: Any = None
    ttl: float | None = None
    who: str = ""
    tag: str = ""


LateBy = Callable[[Act, Act], float]
"""Seconds by which a read may be late with what ended a value."""


@dataclass
class History:
    """All that was done, in the order in which it began."""

    acts: list[Act] = field(default_factory=list[Act])
    prompt: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """From when to when the side that is right showed its writes at once."""

    def begin(self, what: str, key: str, now: float, who: str, **details: Any) -> Act:
        act = Act(what, key, now, who=who, **details)
        self.acts.append(act)
        return act

    def problems(self, *, bound: float = 0.0, skew: float = 0.0) -> list[str]:
        """What cannot be true.

        bound: seconds by which a read may be late. skew: by which clocks may differ.
        """
        found: list[str] = []
        by_key: dict[str, list[Act]] = defaultdict(list)
        for act in self.acts:
            if act.what not in ("clear", "invalidate"):
                by_key[act.key].append(act)
        clears = [
            act for act in self.acts if act.what in ("clear", "invalidate") and act.end is not None
        ]
        for key, acts in by_key.items():
            if any(act.what == "increment" for act in acts):
                found += _counted(key, acts)
            else:
                found += _read(key, acts, clears, self._late_by(bound), skew)
        return found

    def _late_by(self, bound: float) -> LateBy:
        def late_by(ender: Act, read: Act) -> float:
            assert read.end is not None
            # What was left on a late side is hidden one by one, and not by a clear.
            if ender.what in ("set", "delete"):
                for start, end in self.prompt:
                    if start <= ender.start and read.end <= end:
                        return 0.0
            return bound

        return late_by


def _read(key: str, acts: list[Act], clears: list[Act], late_by: LateBy, skew: float) -> list[str]:
    found: list[str] = []
    writes = {act.value: act for act in acts if act.what == "set"}
    enders = [a for a in acts if a.what in ("set", "delete") and a.end is not None] + clears
    reads = [a for a in acts if a.what == "read" and a.end is not None and a.value is not None]
    for read in reads:
        assert read.end is not None
        write = writes.get(read.value)
        if write is None:
            found.append(f"{read} is of what nobody wrote")
            continue
        if write.start > read.end:
            found.append(f"{read} is of a write to come: {write}")
        if write.end is None:
            # In doubt: it may take effect at any time.
            continue
        if write.ttl is not None and read.start > write.end + write.ttl + skew:
            found.append(f"{read} is past its time: {write}")
        for ender in enders:
            assert ender.end is not None
            if ender.what == "invalidate" and ender.tag != write.tag:
                continue
            late = late_by(ender, read)
            if ender is not write and ender.start > write.end and ender.end + late < read.start:
                found.append(f"{read} came back: {write} was ended by {ender}")
        if late_by(read, read):
            continue
        for other in reads:
            assert other.end is not None
            its = writes.get(other.value)
            # What was not answered by then may be seen for a moment, and not again.
            if its is None or its.end is None or its.end > read.start:
                continue
            if other.value != read.value and write.end < other.start and other.end < read.start:
                found.append(f"{read} came back: {write}; {other} was between")
    return found


def _counted(key: str, acts: list[Act]) -> list[str]:
    """Counters are never ended in these histories: each answer is a number of its own, and none
    is missing but those in doubt."""
    found: list[str] = []
    counts = [act for act in acts if act.what == "increment"]
    done = [act for act in counts if act.end is not None]
    numbers = [act.value for act in done]
    if len(set(numbers)) != len(numbers):
        found.append(f"{key}: two were told the same number: {sorted(numbers)}")
    if numbers and max(numbers) > len(counts):
        found.append(f"{key}: it gained: {max(numbers)} of {len(counts)}")
    for act in done:
        before = sum(1 for other in done if other.end is not None and other.end < act.start)
        if act.value <= before:
            found.append(f"{key}: it lost: {act} after {before} that were answered")
    for read in (act for act in acts if act.what == "read" and act.end is not None):
        before = sum(1 for other in done if other.end is not None and other.end < read.start)
        begun = sum(1 for other in counts if read.end is None or other.start < read.end)
        told = read.value if read.value is not None else 0
        if not before <= told <= begun and (read.value is not None or before):
            found.append(f"{key}: {read} after {before} that were answered, of {begun} begun")
    return found
