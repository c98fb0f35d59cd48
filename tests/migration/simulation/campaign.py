"""Many simulated migrations in a row, and what they came to."""

from __future__ import annotations

import gc
import json
import logging
import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cm_platform.testing.simulation.migrating import LedgerServer, Outcome, simulate

SUMMARIES: Final = Path(__file__).parents[3] / ".cache" / "prove"
"""Where long proofs write down what they came to."""

# What one leaves behind goes in circles; a collection after each would cost a tenth of the time.
_COLLECTED_AFTER = 250


@dataclass(slots=True)
class Campaign:
    """What was seen. wrong: by seed. seconds: of processor time."""

    migrations: int = 0
    steps: int = 0
    killed: int = 0
    looks: int = 0
    seconds: float = 0.0
    wrong: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    faults: Counter[str] = field(default_factory=Counter[str])
    operations: Counter[str] = field(default_factory=Counter[str])
    reached: Counter[str] = field(default_factory=Counter[str])
    stages: Counter[str] = field(default_factory=Counter[str])

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.migrations += 1
        self.steps += outcome.steps
        self.killed += outcome.killed
        self.looks += outcome.looks
        self.faults += outcome.faults
        self.operations += outcome.operations
        self.reached += outcome.reached
        self.stages[str(outcome.stage)] += 1
        if outcome.wrong:
            self.wrong[outcome.seed] = list(outcome.wrong)

    def told(self) -> str:
        """The seeds that went wrong, and how to look at one; empty if there are none."""
        if not self.wrong:
            return ""
        lines = [f"{len(self.wrong)} of {self.migrations} simulated migrations went wrong:"]
        lines += [f"  seed {seed}: {'; '.join(how)}" for seed, how in sorted(self.wrong.items())]
        lines.append(
            "To see one: `simulate(seed, traced=True)` of cm_platform.testing.simulation.migrating "
            "has the course of events in `trace`, and what the clients saw in `histories`."
        )
        return "\n".join(lines)

    def summary(self, first: int) -> str:
        """All of it, as a line of JSON. first: the first seed."""
        return json.dumps(
            {
                "first": first,
                "migrations": self.migrations,
                "wrong": self.wrong,
                "per_second": round(self.migrations / max(self.seconds, 1e-9), 1),
                "seconds": round(self.seconds, 2),
                "steps": self.steps,
                "killed": self.killed,
                "looks": self.looks,
                "faults": dict(self.faults),
                "operations": dict(self.operations),
                "reached": dict(self.reached),
                "stages": dict(self.stages),
            }
        )


def run(seeds: Iterable[int]) -> Campaign:
    """Simulate them all. What a simulation itself fails with is an error that names its seed."""
    campaign = Campaign()
    began = time.process_time()
    with LedgerServer() as server, hushed():
        for number, seed in enumerate(seeds):
            try:
                campaign.add(simulate(seed, server=server))
            except Exception as error:
                error.add_note(f"in the simulated migration of seed {seed}")
                raise
            if number % _COLLECTED_AFTER == 0:
                gc.collect()
    campaign.seconds = time.process_time() - began
    return campaign


@contextmanager
def hushed() -> Generator[None, None, None]:
    """Without log records, which nobody reads here, and without collections of garbage."""
    before, was_enabled = logging.root.manager.disable, gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
        logging.disable(before)


__all__ = ["SUMMARIES", "Campaign", "hushed", "run"]
