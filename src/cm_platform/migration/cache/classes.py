"""Which store a namespace can live in, by what was recorded of it: Workers KV, Durable Objects,
or the one where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cm_platform.limits import limits

from .mix import (
    CONDITION,
    COUNTER,
    DELETE,
    ENDS_BEFORE,
    HOT,
    KEY_OVER,
    READ,
    TIME,
    VALUE_OVER,
    WRITE,
)
from .names import RAW_GROUP

Counts = Mapping[str, int]

_OFTEN: Final = 0.01
"""Of all writes, the share that may come upon a key that was written a moment ago."""


class Home(StrEnum):
    """Where a namespace can live."""

    WORKERS_KV = "workers_kv"
    DURABLE_OBJECTS = "durable_objects"
    STAYS = "stays"


@dataclass(frozen=True, slots=True)
class Verdict:
    """home: the cheapest store that can do all that was seen. why: what rules others out.

    reads, writes: recorded operations, as far as they are sampled.
    """

    home: Home
    why: tuple[str, ...]
    reads: int
    writes: int


def by_group(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """The counters of each group."""
    found: dict[str, dict[str, int]] = {}
    for (group, name), times in counts.items():
        found.setdefault(group, {})[name] = times
    return found


def over(counts: Counts, what: str, most: float) -> int:
    """How often something was seen that is over a bound. what: `KEY_OVER` or `VALUE_OVER`."""
    return sum(
        times
        for name, times in counts.items()
        if name.startswith(what) and float(name.removeprefix(what)) >= most
    )


def ends_before(counts: Counts, least: float) -> int:
    """How often something was written that lives for less than so many seconds."""
    return sum(
        times
        for name, times in counts.items()
        if name.startswith(ENDS_BEFORE) and float(name.removeprefix(ENDS_BEFORE)) <= least
    )


def judge(group: str, counts: Counts) -> Verdict:
    """Where a group can live."""
    kv, objects = limits("cache", "workers_kv"), limits("cache", "durable_objects")
    writes = counts.get(WRITE, 0) + counts.get(DELETE, 0)
    stays = [
        f"{times} {what}"
        for what, times in (
            (
                "operations on keys that other programs share",
                sum(counts.values()) if group.endswith(RAW_GROUP) else 0,
            ),
            (
                f"keys over {objects['max_key']} bytes",
                over(counts, KEY_OVER, objects["max_key"]),
            ),
            (f"values over {kv['max_value']} bytes", over(counts, VALUE_OVER, kv["max_value"])),
        )
        if times
    ]
    not_kv = [
        f"{times} {what}"
        for what, times in (
            ("increments", counts.get(COUNTER, 0)),
            ("conditional writes", counts.get(CONDITION, 0)),
            ("times given to values", counts.get(TIME, 0)),
            (f"keys over {kv['max_key']} bytes", over(counts, KEY_OVER, kv["max_key"])),
            (
                f"values that end within {kv['staleness']:g} seconds, before all may see them",
                ends_before(counts, kv["staleness"]),
            ),
        )
        if times
    ]
    hot = counts.get(HOT, 0)
    if hot > _OFTEN * max(writes, 1):
        not_kv.append(f"{hot} writes to a key that was written within a second")
    not_objects = [
        f"{times} values over {objects['max_value']} bytes"
        for times in (over(counts, VALUE_OVER, objects["max_value"]),)
        if times
    ]
    if stays or (not_kv and not_objects):
        home, why = Home.STAYS, [*stays, *not_kv, *not_objects]
    elif not_kv:
        home, why = Home.DURABLE_OBJECTS, not_kv
    else:
        home, why = Home.WORKERS_KV, []
    return Verdict(home, tuple(why), counts.get(READ, 0), writes)


__all__ = ["Counts", "Home", "Verdict", "by_group", "ends_before", "judge", "over"]
