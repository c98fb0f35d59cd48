"""What goes wrong with a request, chosen by dice or by plan."""

from __future__ import annotations

import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import accumulate
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a client to a server, as far as faults go by it.

    writes: it changes something. conditional: under a condition. streams: the reply has a body.
    duplicates: it may be delivered twice. Not a conditional deletion: the second meets the
    first's success as a refusal, and nothing that is stored could tell whose doing it was.
    """

    name: str
    writes: bool = False
    conditional: bool = False
    streams: bool = False
    duplicates: bool = False


class Fault(StrEnum):
    """What can go wrong. "Not sent" is what the error then says: it certainly had no effect."""

    REFUSED = "refused"
    """No connection: unavailable, not sent."""
    LOST_REQUEST = "lost_request"
    """It never arrives: deadline exceeded."""
    LOST_REPLY = "lost_reply"
    """It takes effect, and the answer is lost: deadline exceeded or unavailable."""
    LATE = "late"
    """Deadline exceeded now; it takes effect later, within the longest life of a request, whether
    or not the caller lives to see it. Its conditions are checked then."""
    RATE_LIMITED = "rate_limited"
    """429: not sent."""
    UNAVAILABLE = "unavailable"
    """503: unavailable, not sent."""
    FAILED = "failed"
    """500: internal or unavailable; with or without effect."""
    CONFLICT = "conflict"
    """409, of a conditional write: unavailable, not sent."""
    DUPLICATE = "duplicate"
    """Delivered twice in a row; the answer is the second's. A conditional write is so refused
    (412), though it is stored: its own first delivery was in the way."""
    TRUNCATED = "truncated"
    """The body ends early: unavailable."""
    CRASH = "crash"
    """The caller's process is killed: before the request leaves, on its way, or after it."""
    SLOW = "slow"
    """It is on its way for a while, and arrives. No fault, and what uncovers most."""
    PARTIAL = "partial"
    """Of a batch, some fail (internal), with or without effect."""
    SHORT_PAGE = "short_page"
    """A page of a listing has less than was asked for, maybe nothing, and a cursor."""


_APPLIES: Final[Mapping[Fault, Callable[[Request], bool]]] = {
    # An unconditional write whose reply was `unavailable` is repeated at once by the executor,
    # because nothing of the first is under way any more. So what lands late has always been
    # `deadline_exceeded` to its caller; the backends promise as much.
    Fault.LATE: lambda request: request.writes,
    Fault.CONFLICT: lambda request: request.writes and request.conditional,
    Fault.DUPLICATE: lambda request: request.duplicates,
    Fault.TRUNCATED: lambda request: request.streams,
    Fault.PARTIAL: lambda request: request.name == "delete_many",
    Fault.SHORT_PAGE: lambda request: request.name == "list",
}


class FaultSource(Protocol):
    """Asked about each request."""

    def next(self, request: Request) -> Fault | None:
        """What happens to this one; None: what should."""
        ...


class NoFaults:
    """All goes well."""

    def next(self, request: Request) -> Fault | None:
        """Nothing."""
        return None


NO_FAULTS: Final = NoFaults()


@dataclass(frozen=True, slots=True)
class FaultRates:
    """How likely each fault is, from 0 to 1; together at most 1. See `Fault`."""

    refused: float = 0.0
    lost_request: float = 0.0
    lost_reply: float = 0.0
    late: float = 0.0
    rate_limited: float = 0.0
    unavailable: float = 0.0
    failed: float = 0.0
    conflict: float = 0.0
    duplicate: float = 0.0
    truncated: float = 0.0
    crash: float = 0.0
    slow: float = 0.0
    partial: float = 0.0
    short_page: float = 0.0

    @classmethod
    def even(cls, rate: float, *, crash: float = 0.0, slow: float = 0.0) -> FaultRates:
        """So many requests fail, by each fault as likely as by any other.

        A fault that does not apply to a request leaves it alone, so that fewer do.
        """
        kinds = [fault for fault in Fault if fault not in (Fault.CRASH, Fault.SLOW)]
        each = rate / len(kinds)
        return cls(**{str(fault): each for fault in kinds}, crash=crash, slow=slow)


# After these nobody can tell, for as long as a request may live, whether it has had an effect.
_DOUBTFUL: Final = frozenset(
    {Fault.LOST_REQUEST, Fault.LOST_REPLY, Fault.LATE, Fault.FAILED, Fault.CRASH, Fault.PARTIAL}
)


class RandomFaults:
    """Faults by dice.

    dice: the simulation's `random`. seen: how often each has come. doubt: whether there are
    faults after which a write may or may not have had an effect; the others come anyway.
    """

    def __init__(self, dice: random.Random, rates: FaultRates) -> None:
        self.seen: Counter[Fault] = Counter()
        self.doubt = True
        self._roll = dice.random
        given = [(Fault(field.name), getattr(rates, field.name)) for field in fields(rates)]
        chosen = [(fault, rate) for fault, rate in given if rate > 0]
        self._faults = [fault for fault, _ in chosen]
        self._bounds = list(accumulate(rate for _, rate in chosen))
        self._total = self._bounds[-1] if chosen else 0.0
        if self._total > 1 or any(rate < 0 for _, rate in given):
            raise ValueError("the rates of faults are from 0 to 1, and together at most 1")

    def next(self, request: Request) -> Fault | None:
        """Roll the dice."""
        rolled = self._roll()
        if rolled >= self._total:
            return None
        fault = self._faults[bisect(self._bounds, rolled)]
        applies = _APPLIES.get(fault)
        if applies is not None and not applies(request):
            return None
        if not self.doubt and fault in _DOUBTFUL:
            return None
        self.seen[fault] += 1
        return fault

    def stop(self) -> None:
        """From now on all goes well."""
        self._total = 0.0


class PlannedFaults:
    """Faults by plan.

    plan: the fault of the nth request, from 0, of all that ask this source. asked: them all, in
    order, for making a plan. A fault that does not apply to its request does nothing.
    """

    def __init__(self, plan: Mapping[int, Fault]) -> None:
        self.asked: list[Request] = []
        self._plan = plan

    def next(self, request: Request) -> Fault | None:
        """Look at the plan."""
        fault = self._plan.get(len(self.asked))
        self.asked.append(request)
        applies = None if fault is None else _APPLIES.get(fault)
        return None if applies is not None and not applies(request) else fault


__all__ = [
    "NO_FAULTS",
    "Fault",
    "FaultRates",
    "FaultSource",
    "NoFaults",
    "PlannedFaults",
    "RandomFaults",
    "Request",
]
