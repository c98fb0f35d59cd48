"""Processes that die at a point of the protocol, in a stage of the migration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from cm_platform.migration.points import Point
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.testing.simulation.points import CrashPoints
from cm_platform.testing.simulation.scheduler import Simulation

from .world import LedgerServer

JANITOR: Final = "janitor"
"""The process that finishes what is left when all is over. Nothing befalls it."""


class Crash(NamedTuple):
    """A process dies when the point is reached, in that stage, for the nth time, from 1."""

    point: Point
    stage: Stage
    nth: int = 1


class StagedPoints(CrashPoints):
    """Crash points that know the stage, as the ledger has it at that moment.

    staged: which crashes. places: where somebody was, in order; each is the crash that it would
    take there. died: those that happened. Before a migration was started it is off.
    """

    def __init__(
        self,
        simulation: Simulation,
        server: LedgerServer,
        staged: Sequence[Crash],
        *crashes: tuple[str, int],
    ) -> None:
        super().__init__(simulation, *crashes, allowed=self._may)
        self.places: list[Crash] = []
        self.died: list[Crash] = []
        self._counts: Counter[tuple[Point, Stage]] = Counter()
        self._server = server
        self._staged = frozenset(staged)

    async def __call__(self, name: str) -> None:
        """Somebody is there."""
        if self._may():
            # What else asks the ledger may note something there. This only looks.
            found = drive(self._server.ledger.subjects())
            stage = found[0][1].stage if found else Stage.OFF
            place = (Point(name), stage)
            self._counts[place] += 1
            crash = Crash(*place, self._counts[place])
            self.places.append(crash)
            if crash in self._staged:
                self.died.append(crash)
                self._simulation.note(f"dies at {name} in {stage}")
                await self._simulation.task.process.crash()
        await super().__call__(name)

    def _may(self) -> bool:
        return self._simulation.task.process.name != JANITOR


__all__ = ["JANITOR", "Crash", "StagedPoints"]
