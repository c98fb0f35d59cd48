"""What one simulated migration is made of, drawn from its seed."""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cm_platform.migration.points import Point
from cm_platform.routing import Stage
from cm_platform.storage.backend import StorageCapability
from cm_platform.testing.simulation.faults import Fault, FaultRates

Value = tuple[bytes, str | None]
"""An object as clients know it: its bytes, and the number of its write in its metadata; None for
an upload by URL, which has none."""

ALL = frozenset(StorageCapability)

# As Amazon's and Cloudflare's stores are: R2 deletes without conditions.
_LACKS: Sequence[frozenset[StorageCapability]] = (
    frozenset(),
    frozenset({StorageCapability.CONDITIONAL_DELETE}),
    frozenset(StorageCapability) - {StorageCapability.PRESIGN},
)

_EVERYTHING: Final = ALL - {StorageCapability.PRESIGN}

_COURSES: Sequence[tuple[Stage, ...]] = (
    (Stage.LIVE,),
    (Stage.LIVE, Stage.SHADOW),
    (Stage.LIVE, Stage.DUALWRITE, Stage.LIVE),
    (Stage.LIVE, Stage.OFF),
    (Stage.SHADOW, Stage.OFF, Stage.LIVE),
    (Stage.RAMPDOWN, Stage.SHADOW),
    (Stage.RAMPDOWN,),
    (Stage.COMPLETE,),
    (Stage.LIVE, Stage.SHADOW, Stage.COMPLETE),
)


_TO_AND_FRO: Sequence[tuple[Stage, ...]] = (
    (Stage.LIVE, Stage.SHADOW, Stage.LIVE, Stage.SHADOW),
    (Stage.LIVE, Stage.DUALWRITE, Stage.LIVE),
    (Stage.LIVE, Stage.SHADOW, Stage.COMPLETE),
)

ACTS: Final = (
    *("put", "get", "head", "delete", "delete_many", "multipart", "create", "replace"),
    *("delete_version", "copy", "upload"),
)

_MOMENTS: Final = (
    *(Point.MOVED, Point.FLIP_ANNOUNCED, Point.FLIP_PAUSED, Point.FLIP_DRAINED),
    *(Point.BACKFILL_BEGUN, Point.COPY_BEGUN, Point.COMPARED, Point.INTENT_BEGUN),
    *(Point.AUTHORITY_CHANGED, Point.OTHER_CHANGED, Point.REPAIR_CLAIMED, Point.READ_ANSWERED),
)

_AT_FLIPS: Final = (*(Point.MOVED, Point.FLIP_PAUSED, Point.FLIP_DRAINED, Point.AUTHORITY_CHANGED),)
_IN_BETWEEN: Final = (
    *(Point.COPY_BEGUN, Point.OTHER_CHANGED, Point.AUTHORITY_CHANGED, Point.INTENT_BEGUN),
    *(Point.COMPARED, Point.REPAIR_CLAIMED, Point.FLIP_PAUSED),
)
_LATE_COMERS: Final = (
    *(Point.BACKFILL_BEGUN, Point.REPAIR_CLAIMED, Point.COPY_BEGUN, Point.AUTHORITY_CHANGED),
    *(Point.INTENT_BEGUN, Point.FLIP_PAUSED, Point.OTHER_CHANGED),
)

_STORE_FAULTS: Final = tuple(fault for fault in Fault if fault not in (Fault.CRASH, Fault.SLOW))
_LEDGER_FAULTS: Final = (
    *(Fault.REFUSED, Fault.LOST_REQUEST, Fault.LOST_REPLY, Fault.LATE, Fault.UNAVAILABLE),
)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds, all of them.

    lease, soak: as configured. act: that an operation may take. wait: after which a client gives
    up; more than `act` where calls block, and nobody can interrupt them. lifetime: that a request
    may live on, as the stores declare; it is less by what a process may be stalled. upload: that
    a URL to upload is valid. slow: that a slow request is on its way, in one direction. stalled:
    that a process may stand still.
    """

    lease: float = 1.0
    soak: float = 1.0
    act: float = 3.0
    wait: float = 3.0
    lifetime: float = 1.5
    upload: int = 2
    slow: float = 0.3
    stalled: float = 0.4


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who takes part, and what befalls them.

    course: the stages to be reached, one after the other. processes, clients, operations: how
    many applications, clients of each, operations of each client. readers: how many of the
    processes only read. keys: what they work on.
    acts: what clients do, and how often. listings: how often they list all keys.
    moments: at which they like to be in the way.
    source_lacks, target_lacks: what each store cannot do. unique_etags: of each write, not of
    its bytes.
    stores, ledger: what befalls requests to them. stall: see `Simulation`.
    pause: seconds between a client's operations, at most. patience: seconds for which a client
    waits for the moment at which it wants to be in somebody's way, at most. burst: operations
    that it makes then, one after the other.
    part_size: bytes above which an object is copied in parts, None for as many as in earnest.
    trusting: the operator verifies nothing, and overrides what evidence that leaves missing. So
    what the protocol itself lets through is not caught by looking.
    """

    course: tuple[Stage, ...] = (Stage.LIVE,)
    processes: int = 2
    readers: int = 0
    clients: int = 1
    operations: int = 4
    keys: tuple[str, ...] = ("a", "b")
    acts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(ACTS, 1))
    listings: int = 0
    moments: tuple[Point, ...] = (Point.MOVED,)
    source_lacks: frozenset[StorageCapability] = frozenset()
    target_lacks: frozenset[StorageCapability] = frozenset()
    unique_etags: bool = False
    stores: FaultRates = field(default_factory=FaultRates)
    ledger: FaultRates = field(default_factory=FaultRates)
    stall: float = 0.0
    pause: float = 6.0
    patience: float = 20.0
    burst: int = 1
    uploads: bool = False
    part_size: int | None = None
    trusting: bool = False
    times: Times = field(default_factory=Times)

    def version(self, value: Value) -> Hashable:
        """What an etag tells of an object: which one it is, or only its bytes."""
        return value if self.unique_etags else value[0]

    @classmethod
    def drawn(cls, dice: random.Random) -> Scenario:
        """One of many. Each has a few things in plenty rather than a little of everything: what
        goes wrong does so where two or three certain things come together."""
        is_calm = dice.random() < 0.1
        share = 0.0 if is_calm else dice.choice((0.03, 0.1, 0.2))
        crash = 0.0 if is_calm else dice.choice((0.0, 0.002, 0.01))
        made = cls(
            course=dice.choice(_COURSES),
            processes=dice.choice((2, 2, 3)),
            clients=dice.choice((1, 1, 2)),
            operations=dice.choice((3, 4)),
            keys=("a", "b") if dice.random() < 0.35 else ("a",),
            acts={name: dice.choice((0, 1, 1, 3)) for name in ACTS},
            moments=tuple(dice.sample(_MOMENTS, dice.choice((1, 2, 4)))),
            source_lacks=dice.choice(_LACKS),
            target_lacks=dice.choice(_LACKS),
            unique_etags=dice.random() < 0.3,
            stores=_some(dice, _STORE_FAULTS, share, crash, dice.choice((0.0, 0.05, 0.2))),
            ledger=_some(dice, _LEDGER_FAULTS, share, crash, dice.choice((0.0, 0.02, 0.1))),
            stall=dice.choice((0.0, 0.002, 0.02)),
            pause=dice.choice((0.05, 2.0, 8.0)),
            patience=dice.choice((5.0, 20.0, 40.0)),
            uploads=dice.random() < 0.2,
            times=Times(slow=dice.choice((0.1, 0.3, 1.2))),
            part_size=dice.choice((None, 8)),
            trusting=dice.random() < 0.3,
        )
        theme = dice.random()
        if theme < 0.2:
            made = _rushed(made, dice)
        elif theme < 0.4:
            made = _belated(made, dice)
        elif theme < 0.55:
            made = _contended(made, dice)
        return replace(made, listings=dice.choice((0, 0, 0, 1, 3)))


def _rushed(made: Scenario, dice: random.Random) -> Scenario:
    """Many reads beside a few writes, just when the data changes sides: by processes that may
    have known the ledger's answer for a while."""
    refused = dice.choice((0.0, 0.1, 0.3))
    return replace(
        made,
        processes=3,
        readers=dice.choice((1, 2)),
        clients=1,
        operations=8,
        keys=("a",),
        acts={**dict.fromkeys(ACTS, 0), "put": 2, "delete": 1},
        moments=tuple(dice.sample(_AT_FLIPS, 2)),
        burst=8,
        pause=0.05,
        patience=40.0,
        stores=FaultRates(refused=refused, slow=dice.choice((0.0, 0.2))),
        uploads=False,
        times=replace(made.times, lease=dice.choice((1.0, 4.0))),
    )


def _belated(made: Scenario, dice: random.Random) -> Scenario:
    """Slow stores without conditions, a slow ledger, little time to act, and calls that nobody
    interrupts: what comes late must see so by itself."""
    return replace(
        made,
        course=dice.choice(_TO_AND_FRO),
        processes=3,
        clients=2,
        operations=dice.choice((5, 8)),
        keys=("a",),
        acts={**dict.fromkeys(ACTS, 0), "put": 2, "delete": 1},
        source_lacks=_EVERYTHING,
        target_lacks=_EVERYTHING,
        # Who begins now may be late when the sides change; who comes then is overwritten.
        moments=(Point.FLIP_ANNOUNCED, Point.MOVED, dice.choice(_LATE_COMERS)),
        patience=40.0,
        burst=2,
        stores=FaultRates(
            refused=dice.choice((0.0, 0.05)),
            crash=dice.choice((0.0, 0.01)),
            slow=dice.choice((0.3, 0.6)),
        ),
        ledger=FaultRates(lost_reply=dice.choice((0.0, 0.05)), slow=dice.choice((0.05, 0.1))),
        uploads=False,
        trusting=dice.random() < 0.7,
        stall=0.02,
        times=Times(act=0.3, wait=10.0, lifetime=1.1, slow=0.9, stalled=0.05),
    )


def _contended(made: Scenario, dice: random.Random) -> Scenario:
    """Many writers of one key, in stores without conditions, whose requests arrive late."""
    return replace(
        made,
        processes=2,
        clients=2,
        keys=("a",),
        acts={**dict.fromkeys(ACTS, 0), "put": 2, "delete": 1, "get": 1},
        source_lacks=_EVERYTHING,
        target_lacks=_EVERYTHING,
        moments=tuple(dice.sample(_IN_BETWEEN, 2)),
        burst=dice.choice((1, 2)),
        stores=FaultRates(
            late=dice.choice((0.0, 0.05, 0.15)),
            lost_reply=dice.choice((0.0, 0.05)),
            slow=dice.choice((0.0, 0.1)),
        ),
        uploads=False,
    )


def _some(
    dice: random.Random, faults: Sequence[Fault], share: float, crash: float, slow: float
) -> FaultRates:
    chosen = dice.sample(faults, dice.choice((1, 2, 4)))
    rates = {str(fault): share / len(chosen) for fault in chosen}
    return FaultRates(**rates, crash=crash, slow=slow)


__all__ = ["ACTS", "ALL", "Scenario", "Times", "Value"]
