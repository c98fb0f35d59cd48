"""Migrations in which processes die at named points: what they are, and what is expected."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from cm_platform.routing import Stage
from cm_platform.testing.simulation import FaultRates
from cm_platform.testing.simulation.migrating import LedgerServer, Outcome, Scenario, simulate
from cm_platform.testing.simulation.migrating.crashing import Crash

_COURSES: Final = (
    (Stage.COMPLETE,),
    (Stage.RAMPDOWN, Stage.OFF, Stage.LIVE),
    (Stage.LIVE, Stage.DUALWRITE, Stage.RAMPDOWN, Stage.COMPLETE),
    (Stage.SHADOW, Stage.OFF, Stage.RAMPDOWN, Stage.SHADOW),
)


def scenario_of(seed: int) -> Scenario:
    """A migration through all stages, in which little else goes wrong."""
    dice = random.Random(f"crashes {seed}")  # noqa: S311 - dice
    drawn = Scenario.drawn(dice)
    return replace(
        drawn,
        course=_COURSES[seed % len(_COURSES)],
        processes=3,
        readers=0,
        clients=2,
        operations=5,
        keys=("a", "b"),
        acts=dict.fromkeys(drawn.acts, 1),
        stores=FaultRates(lost_reply=dice.choice((0.0, 0.03)), slow=0.02),
        ledger=FaultRates(slow=0.02),
        stall=0.0,
        pause=8.0,
        uploads=True,
        part_size=8,
    )


def crashed(seed: int, *crashes: Crash, server: LedgerServer) -> Outcome:
    """That migration, with crashes."""
    return simulate(seed, scenario=scenario_of(seed), server=server, crashes=crashes, staged=True)


__all__ = ["crashed", "scenario_of"]
