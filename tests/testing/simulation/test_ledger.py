"""A ledger behind a wire: the real one, whose requests and answers get lost."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from cm_platform.errors import PlatformError
from cm_platform.migration.ledger import Fenced, Intent, Ledger, Move, Subject, Terms
from cm_platform.migration.ledgers.sqlite import SqliteConfig, SqliteLedger
from cm_platform.migration.ledgers.sqlite.ledger import MEMORY
from cm_platform.routing import Stage
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.testing.simulation import (
    Fault,
    FaultyLedger,
    PlannedFaults,
    Process,
    SimulatedClock,
    Simulation,
    Task,
)

SUBJECT = Subject("storage", "tenant")
TERMS = Terms("to-r2", "s3", "r2")
SEEDS = range(30)


class World:
    """A simulation with a ledger in which a migration writes to both sides."""

    def __init__(self, seed: int) -> None:
        self.simulation = Simulation(seed)
        self.process = self.simulation.process("app")
        clock = SimulatedClock(self.simulation.process("database"))
        self.real = SqliteLedger(SqliteConfig(path=MEMORY), BlockingRuntime(clock=clock))
        drive(self.real.prepare())
        drive(self.real.start(SUBJECT, TERMS, Move("one", Stage.OFF, "me")))
        state = drive(self.real.move(SUBJECT, 1, Move("two", Stage.DUALWRITE, "me")))
        self.epoch = state.epoch

    def spawn(self, *plan: Fault, epoch: int | None = None) -> Task[object]:
        ledger = faulty(self.real, self.process, *plan)

        async def begins() -> object:
            try:
                await ledger.begin(
                    SUBJECT, self.epoch if epoch is None else epoch, "me", [Intent("i", "k")], 60
                )
            except (PlatformError, Fenced) as error:
                return error
            return None

        return self.process.spawn(begins())

    def begin(self, *plan: Fault, epoch: int | None = None) -> Any:
        task = self.spawn(*plan, epoch=epoch)
        self.simulation.run(until=task)
        return task.value

    @property
    def intents(self) -> int:
        return drive(self.real.pending(SUBJECT)).count

    def close(self) -> None:
        self.simulation.close()
        drive(self.real.close())


def faulty(real: Ledger, process: Process, *plan: Fault) -> Ledger:
    return FaultyLedger(real, process, PlannedFaults(dict(enumerate(plan))))


@pytest.fixture(params=SEEDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    yield made
    made.close()


def test_it_is_the_whole_ledger() -> None:
    for name, method in inspect.getmembers(Ledger, inspect.isfunction):
        if not name.startswith("_"):
            ours = getattr(FaultyLedger, name)
            assert inspect.signature(ours) == inspect.signature(method), name


def test_without_faults_it_is_the_real_one(world: World) -> None:
    assert world.begin() is None
    assert world.intents == 1
    assert isinstance(world.begin(epoch=77), Fenced)


def test_a_refused_or_lost_request_changes_nothing(world: World) -> None:
    assert world.begin(Fault.REFUSED).not_sent
    assert world.begin(Fault.LOST_REQUEST).code == "deadline_exceeded"
    world.simulation.run()
    assert world.intents == 0


def test_a_commit_may_be_ambiguous(world: World) -> None:
    error = world.begin(Fault.LOST_REPLY)
    assert error.code in ("deadline_exceeded", "unavailable")
    assert error.retryable
    assert world.intents == 1
    # As the ledger says, a call whose answer was lost may be repeated.
    assert world.begin() is None
    assert world.intents == 1


def test_a_late_transaction_commits_soon_or_is_fenced(world: World) -> None:
    assert world.begin(Fault.LATE).code == "deadline_exceeded"
    assert world.begin(Fault.LATE, epoch=77).code == "deadline_exceeded"
    world.simulation.run()
    assert world.intents == 1


def test_a_crash_leaves_all_or_nothing() -> None:
    outcomes = set()
    for seed in SEEDS:
        world = World(seed)
        task = world.spawn(Fault.CRASH)
        world.simulation.run(until=task)
        world.simulation.run()
        assert not task.is_done
        outcomes.add(world.intents)
        world.close()
    assert outcomes == {0, 1}


def test_what_a_killed_process_sent_may_still_commit() -> None:
    outcomes = set()
    for seed in SEEDS:
        world = World(seed)
        task = world.spawn()
        world.simulation.at(0.001, world.process.kill)
        world.simulation.run(until=task)
        world.simulation.run()
        outcomes.add(world.intents)
        world.close()
    assert outcomes == {0, 1}
