"""Whole migrations, simulated: the real code, a few clients, an operator, faults, a judge.

    with LedgerServer() as server:
        for seed in range(1000):
            outcome = simulate(seed, server=server)
            assert not outcome.wrong, (seed, outcome.wrong)

`simulate(seed, traced=True).trace` tells how it came to that.
"""

from __future__ import annotations

from .crashing import Crash
from .running import Outcome, simulate
from .scenario import Scenario, Times
from .world import LedgerServer

__all__ = ["Crash", "LedgerServer", "Outcome", "Scenario", "Times", "simulate"]
