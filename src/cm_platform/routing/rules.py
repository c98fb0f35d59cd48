"""Rules of one kind, compiled so that their number costs nothing."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from .route import Route


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a kind's rules. Without tenants and percent it matches everybody.

    tenants: ids as `Tenant.id` has them. percent: in (0, 100].
    """

    route: Route
    tenants: tuple[str, ...] | None = None
    percent: float | None = None


class Match(Enum):
    """What made a rule match."""

    TENANT = "tenant"
    PERCENT = "percent"
    DEFAULT = "default"
    """A rule for everybody, or no rule at all."""


class Decision(NamedTuple):
    """A route and what led to it. rule: the index of the rule, None for the kind's default."""

    route: Route
    match: Match
    rule: int | None


def bucket(kind_name: str, tenant_id: str) -> float:
    """Where a tenant stands in [0, 100): the same in every process, for ever.

    It depends on the kind, so that not the same tenants go first everywhere. All percentages
    of a kind use the one bucket: 10 and then 30 are the first tenth and the next fifth.
    """
    digest = hashlib.sha256(f"{kind_name}:{tenant_id}".encode()).digest()
    # 53 bits are what a float holds exactly. With 64 the highest buckets round up to 100.0,
    # and 100 percent would leave somebody out.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53 * 100


class Rules:
    """The rules of one kind: top down, the first match wins, else the default.

    Evaluation costs a dictionary look-up, and a hash and a bisection where percentages are
    used, whatever the number of rules and tenants.
    """

    __slots__ = ("_by_tenant", "_catch_all", "_default", "_rules", "_steps", "_thresholds", "kind")

    def __init__(self, kind_name: str, rules: Sequence[Rule], default: Route) -> None:
        self.kind = kind_name
        self._rules = tuple(rules)
        self._default = default
        self._by_tenant: dict[str, int] = {}
        self._catch_all = len(self._rules)
        # A staircase: a percentage that is not above all earlier ones can never match first.
        self._thresholds: list[float] = []
        self._steps: list[int] = []
        for index, rule in enumerate(self._rules):
            if rule.tenants is not None:
                for tenant_id in rule.tenants:
                    self._by_tenant.setdefault(tenant_id, index)
            elif rule.percent is not None:
                if not self._thresholds or rule.percent > self._thresholds[-1]:
                    self._thresholds.append(rule.percent)
                    self._steps.append(index)
            else:
                self._catch_all = index
                break

    def evaluate(self, tenant_id: str) -> Route:
        """The route that the rules give a tenant."""
        return self.decide(tenant_id).route

    def decide(self, tenant_id: str) -> Decision:
        """The route, and why."""
        first = self._by_tenant.get(tenant_id, self._catch_all)
        if self._steps and self._steps[0] < first:
            step = bisect_right(self._thresholds, bucket(self.kind, tenant_id))
            if step < len(self._steps):
                first = min(first, self._steps[step])
        if first == len(self._rules):
            return Decision(self._default, Match.DEFAULT, None)
        rule = self._rules[first]
        match = Match.DEFAULT
        if rule.tenants is not None:
            match = Match.TENANT
        elif rule.percent is not None:
            match = Match.PERCENT
        return Decision(rule.route, match, first)


__all__ = ["Decision", "Match", "Rule", "Rules", "bucket"]
