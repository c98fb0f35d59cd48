"""What a move would mean for a tenant's cache, by what was recorded of its use. Nothing is read
from the stores, which cannot list what they have, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final

from cm_platform.cache.backend import CacheCapability
from cm_platform.config import NamespaceConfig

from .classes import Counts, by_group, ends_before, judge, over
from .mix import (
    CONDITION,
    COUNTER,
    EXACT_WITHIN,
    FOR_EVER,
    HOT,
    KEY_OVER,
    NOT_COPIED,
    READ,
    SPANS,
    TIME,
    VALUE_OVER,
    WRITE,
)
from .names import RAW_GROUP
from .pair import Pair


@dataclass(frozen=True, slots=True)
class Finding:
    """what: in words, with the way out. count: operations. examples: namespaces."""

    what: str
    count: int
    examples: list[str]


@dataclass(slots=True)
class Plan:
    """What a move would do.

    objects: operations that were recorded. namespaces: for each, where it can live and why.
    losses: what would be otherwise afterwards; each must be accepted.
    obstacles: what the target cannot do, or what cannot move without loss.
    capabilities: what the tenant's cache could do and will not be able to.
    declared: what nobody can check and whoever starts has to declare.
    """

    objects: int = 0
    namespaces: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    losses: list[Finding] = field(default_factory=list[Finding])
    obstacles: list[Finding] = field(default_factory=list[Finding])
    capabilities: list[str] = field(default_factory=list[str])
    declared: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)


DECLARED: Final = (
    "all who use this tenant's cache run with this configuration and its ledger",
    "others (other languages, scripts, a console) do not write it, or read it where it was",
    "they have run with it for long enough that what they do was recorded",
)

_STAYS: Final = (
    "give what needs it a namespace with a route of its own, which stays or moves to Durable "
    "Objects or Redis"
)


def planned(
    pair: Pair,
    counts: Mapping[tuple[str, str], int],
    namespaces: Mapping[str, NamespaceConfig],
    *,
    soak: float,
) -> Plan:
    """The plan. namespaces: as configured, of those that move. soak: seconds between the change
    of sides and the end."""
    groups = by_group(counts)
    plan = Plan(
        objects=sum(found.get(READ, 0) + found.get(WRITE, 0) for found in groups.values()),
        capabilities=sorted(map(str, pair.source.capabilities - pair.target.capabilities)),
        declared=DECLARED,
    )
    for group, found in sorted(groups.items()):
        verdict = judge(group, found)
        plan.namespaces[group] = {
            "home": str(verdict.home),
            "why": list(verdict.why),
            "reads": verdict.reads,
            "writes": verdict.writes,
        }
    plan.obstacles = obstacles(pair, groups, namespaces, soak=soak)
    plan.losses = _losses(pair, groups)
    return plan


def obstacles(
    pair: Pair,
    groups: Mapping[str, Counts],
    namespaces: Mapping[str, NamespaceConfig],
    *,
    soak: float,
) -> list[Finding]:
    """What stands against a move."""
    target = pair.target
    found = _Findings(groups)
    for what, name, capability in (
        ("increments", COUNTER, CacheCapability.ATOMIC_INCREMENT),
        ("conditional writes", CONDITION, CacheCapability.COMPARE_AND_SET),
        ("times given to values", TIME, CacheCapability.EXPIRE),
    ):
        if capability not in target.capabilities:
            found.add(
                f"{what}, which the target cannot do ({capability}): {_STAYS}",
                partial(_seen, name),
            )
    if pair.is_prompt("source") and pair.is_prompt("target"):
        found.add(
            "counters or conditional writes without an end: a cache cannot list what it has, so "
            f"those that nobody touches would stay behind; give them a ttl, or {_STAYS}",
            lambda counts: counts.get(FOR_EVER, 0),
        )
        found.add(
            f"counters or conditional values that live for longer than the soak time of {soak:g} "
            "seconds, after which those that nobody touched would be gone: raise `soak`",
            lambda counts: sum(
                counts.get(f"{EXACT_WITHIN}{span}", 0) for span in SPANS if span > soak
            ),
        )
    elif pair.is_prompt("target"):
        found.add(
            "counters or conditional writes, which cannot leave a store that shows its writes "
            f"late without loss: {_STAYS}",
            lambda counts: counts.get(COUNTER, 0) + counts.get(CONDITION, 0),
        )
    limits = target.limits
    found.add(
        f"keys of more than {limits.max_key} bytes, which the target refuses",
        lambda counts: over(counts, KEY_OVER, limits.max_key),
    )
    found.add(
        f"values of more than {limits.max_value} bytes, which the target refuses",
        lambda counts: over(counts, VALUE_OVER, limits.max_value),
    )
    raw = sorted(name for name, one in namespaces.items() if one.encoding == "raw")
    seen = [group for group in groups if group.endswith(RAW_GROUP)]
    if raw or seen:
        found.findings.append(
            Finding(
                "keys that are shared with other programs, which would not follow: give their "
                "namespace a default of its own, and they stay where they are",
                sum(sum(groups[group].values()) for group in seen),
                raw or seen,
            )
        )
    prompt = [name for name, one in namespaces.items() if one.consistency == "read_your_writes"]
    if prompt and not pair.is_prompt("target"):
        found.findings.append(
            Finding(
                "namespaces that ask for read_your_writes, which the target cannot promise: give "
                "them a default of their own",
                0,
                sorted(prompt),
            )
        )
    return found.findings


def _losses(pair: Pair, groups: Mapping[str, Counts]) -> list[Finding]:
    found = _Findings(groups)
    limits = pair.target.limits
    late = limits.staleness + limits.generation_age
    if not groups:
        found.findings.append(
            Finding("nothing was recorded of this tenant: nobody knows what it needs", 0, [])
        )
    if pair.is_prompt("source") and late:
        found.findings.append(
            Finding(
                f"a read may be {late:g} seconds older than what was written, deleted or cleared",
                sum(counts.get(READ, 0) for counts in groups.values()),
                sorted(groups)[:5],
            )
        )
        found.add(
            f"values that end within {late:g} seconds, before all may have seen them",
            lambda counts: ends_before(counts, late),
        )
        found.add(
            "writes to a key that was written within a second: the last one counts, and all wait "
            "for it",
            lambda counts: counts.get(HOT, 0),
        )
    found.add(
        "writes of which no copy could be made on the target",
        lambda counts: sum(n for name, n in counts.items() if name.startswith(NOT_COPIED)),
    )
    return found.findings


def _seen(name: str, counts: Counts) -> int:
    return counts.get(name, 0)


class _Findings:
    """Findings over all groups."""

    def __init__(self, groups: Mapping[str, Counts]) -> None:
        self._groups = groups
        self.findings: list[Finding] = []

    def add(self, what: str, times: Callable[[Counts], int]) -> None:
        """One, if it was seen at all. times: how often, given a group's counts."""
        seen = {group: times(counts) for group, counts in self._groups.items()}
        where: Sequence[str] = [group for group, n in seen.items() if n]
        if where:
            self.findings.append(Finding(what, sum(seen.values()), sorted(where)[:5]))


def longest_exact(groups: Mapping[str, Counts]) -> float:
    """Seconds that something which must be exact may live, at most; infinity for ever, 0 where
    there is nothing of the kind."""
    longest = 0.0
    for counts in groups.values():
        if counts.get(FOR_EVER):
            return float("inf")
        for span in SPANS:
            if counts.get(f"{EXACT_WITHIN}{span}"):
                longest = max(longest, float(span))
    return longest


__all__ = ["DECLARED", "Finding", "Plan", "longest_exact", "obstacles", "planned"]
