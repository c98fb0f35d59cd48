"""The route table of one kind: what the executor reads before every operation.

A hit is a dictionary look-up and a comparison of times, without a lock. Everything else is a
refresh, which may block: evaluation can be remote.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from cm_platform.errors import UnavailableError
from cm_platform.runtime import SYSTEM_CLOCK, Clock

from .judging import Complaint, Evaluate, Home, Judge, Reason, Whereabouts
from .route import Kind, Route

logger = logging.getLogger("cm_platform.routing")

CAPACITY: Final = 100_000
RETRY_AFTER: Final = 5.0
_LOG_MEMORY: Final = 256
_ASKED_EARLY: Final[Reason] = "not_proven"


@dataclass(frozen=True, slots=True)
class RouteEvent:
    """A request for a route that was not followed.

    reason: "evaluation_failed" (the flag service is down, or failed), "invalid_route" (its
        answer is no route here), "not_proven" (the ledger says otherwise), "no_evidence"
        (the ledger could not tell).
    requested: the route asked for, None where there was none or it was unreadable.
    kept: the route that holds; None when there was none and the call failed.
    detail: for people.
    """

    kind: str
    tenant_id: str
    reason: Reason
    requested: str | None
    kept: str | None
    detail: str


@dataclass(slots=True)
class _Entry:
    """route: the last known good; None in a mark that only forbids older evaluations.
    evaluated: when the route's evaluation began. forbidden: evaluations that began before are
    known to be outdated. Both count in the table's ticks. told: what was said last of why the
    tenant's request was not followed; None since it was.
    """

    route: Route | None
    generation: int
    expires: float
    evaluated: int
    forbidden: int
    told: tuple[object, ...] | None = None


class RouteTable:
    """Routes of one kind by tenant, refreshed by events and by time.

    evaluate: asks for a tenant's route (`cm_platform.routing.openfeature`).
    known: why a route cannot be taken (`known_routes`), or None.
    ttl: seconds that a route is used without asking again.
    on_event: told of every refresh whose request was not followed.
    ledger: when given, it decides, and `evaluate` only requests. home, end: see `Judge`.
    capacity: tenants remembered; beyond, those refreshed longest ago are forgotten.
    """

    __slots__ = (
        "_capacity",
        "_entries",
        "_guard",
        "_judge",
        "_logged",
        "_now",
        "_on_event",
        "_ticks",
        "_ttl",
        "generation",
        "kind",
    )

    def __init__(
        self,
        kind: Kind,
        evaluate: Evaluate,
        *,
        known: Callable[[Route], str | None],
        ttl: float,
        clock: Clock = SYSTEM_CLOCK,
        on_event: Callable[[RouteEvent], None],
        ledger: Whereabouts | None = None,
        home: Home | None = None,
        end: Callable[[Route], Route] | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        self.kind = kind
        self.generation = 0
        self._judge = Judge(kind.name, evaluate, known, ledger, home, end)
        self._ttl = ttl
        self._now = clock.monotonic
        self._on_event = on_event
        self._capacity = capacity
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        # Counting is atomic, so generations need no lock, and evaluations have an order.
        self._ticks = itertools.count(1)
        self._guard = threading.Lock()
        self._logged: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def lookup(self, tenant_id: str) -> Route:
        """The tenant's route; may block on a miss.

        Raises `unavailable` when no route is known and none can be found out.
        """
        # `cached`, written out: a call less on the path of every operation.
        entry = self._entries.get(tenant_id)
        if (
            entry is not None
            and entry.generation == self.generation
            and self._now() < entry.expires
            and entry.route is not None
        ):
            return entry.route
        return self.refresh(tenant_id)

    def cached(self, tenant_id: str) -> Route | None:
        """The tenant's route if it is known and fresh. Never blocks."""
        entry = self._entries.get(tenant_id)
        if (
            entry is not None
            and entry.generation == self.generation
            and self._now() < entry.expires
        ):
            return entry.route
        return None

    def refresh(self, tenant_id: str) -> Route:
        """Ask for the tenant's route now, through `runtime.call`: it may block.

        A request that fails, or names what cannot be taken, keeps the last known good route.
        Raises `unavailable` (retryable) when there is none: never a guess.
        """
        generation = self.generation
        tick = next(self._ticks)
        started = self._now()
        route, complaint = self._judge.decide(tenant_id)
        entry = self._remember(tenant_id, route, complaint, generation, tick, started)
        kept = entry.route if entry is not None else None
        if complaint is not None:
            self._tell(tenant_id, complaint, kept, entry)
        if kept is None:
            why = complaint.detail if complaint is not None else "it was never decided"
            raise UnavailableError(
                f"where this tenant's {self.kind.name} is could not be found out, and it was "
                f"not known before: {why}",
                service=self.kind.name,
                retryable=True,
                not_sent=True,
            ) from (complaint.cause if complaint is not None else None)
        return kept

    def invalidate(self, tenant_id: str | None = None) -> None:
        """Ask again before the next use, for one tenant or for all.

        Last known good routes stay, for when asking fails. An evaluation that is under way
        does not count as an answer.
        """
        tick = next(self._ticks)
        if tenant_id is None:
            self.generation = tick
            return
        with self._guard:
            entry = self._entries.get(tenant_id)
            if entry is None:
                entry = _Entry(None, self.generation, float("-inf"), 0, tick)
            else:
                entry = replace(entry, expires=float("-inf"), forbidden=tick)
            self._put(tenant_id, entry)

    def after_fork(self) -> None:
        """Make the table usable in a forked child: call it there, before anything else."""
        # A thread that is no more may have held the lock.
        self._guard = threading.Lock()
        self.invalidate()

    def __len__(self) -> int:
        return len(self._entries)

    def _remember(
        self,
        tenant_id: str,
        route: Route | None,
        complaint: Complaint | None,
        generation: int,
        tick: int,
        started: float,
    ) -> _Entry | None:
        with self._guard:
            entry = self._entries.get(tenant_id)
            if route is None:
                if entry is None or entry.route is None:
                    return entry
                if tick < max(entry.evaluated, entry.forbidden):
                    return entry
                # The last known good holds, and a service that is down is not asked each time.
                entry = replace(
                    entry, generation=generation, expires=started + min(self._ttl, RETRY_AFTER)
                )
            elif entry is not None and entry.evaluated > tick:
                # Another thread asked later and was answered sooner: its answer is the newer.
                return entry
            else:
                forbidden = entry.forbidden if entry is not None else 0
                expires = started + self._ttl if tick > forbidden else float("-inf")
                told = entry.told if entry is not None else None
                if complaint is None and told is not None:
                    # It works again: the next failure is news. What a ledger does not support is
                    # none: tenants come to it one after the other, all through a migration.
                    if told[0] != _ASKED_EARLY:
                        self._logged.pop(told, None)
                    told = None
                entry = _Entry(route, generation, expires, tick, forbidden, told)
            self._put(tenant_id, entry)
            return entry

    def _put(self, tenant_id: str, entry: _Entry) -> None:
        self._entries[tenant_id] = entry
        self._entries.move_to_end(tenant_id)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def _tell(
        self, tenant_id: str, complaint: Complaint, kept: Route | None, entry: _Entry | None
    ) -> None:
        held = None if kept is None else str(kept)
        news = (complaint.reason, complaint.detail, complaint.requested, held)
        with self._guard:
            first = news not in self._logged
            changed = first
            if entry is not None:
                changed, entry.told = entry.told != news, news
            if changed:
                self._logged[news] = None
                self._logged.move_to_end(news)
                if len(self._logged) > _LOG_MEMORY:
                    self._logged.popitem(last=False)
        if changed:
            # For people once for all tenants, for whoever debugs once for each; and nameless.
            level = logging.DEBUG
            if first:
                level = logging.INFO if complaint.reason == _ASKED_EARLY else logging.WARNING
            logger.log(
                level,
                "%s: a requested route (%s) was not followed, %s is kept: %s: %s",
                self.kind.name,
                complaint.requested or "unknown",
                held or "none",
                complaint.reason,
                complaint.detail,
            )
        event = RouteEvent(
            self.kind.name,
            tenant_id,
            complaint.reason,
            complaint.requested,
            held,
            complaint.detail,
        )
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001 - an observer must not fail the operation
            logger.warning("an observer of route events failed: %s", type(error).__name__)


__all__ = ["CAPACITY", "RETRY_AFTER", "RouteEvent", "RouteTable"]
