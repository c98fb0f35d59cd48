"""Two stores, a ledger, and the processes that share them."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from cm_platform.config import MigrationConfig
from cm_platform.migration.control import AsyncMigration
from cm_platform.migration.ledger import Subject, Terms
from cm_platform.migration.ledgers.sqlite import SqliteConfig, SqliteLedger
from cm_platform.migration.ledgers.sqlite.ledger import MEMORY
from cm_platform.migration.mover import Mover, Sides
from cm_platform.migration.storage.assembling import assemble
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.storage.backend import StorageBackend, StorageCapability
from cm_platform.testing.simulation.faults import NO_FAULTS, FaultSource, RandomFaults
from cm_platform.testing.simulation.ledger import FaultyLedger
from cm_platform.testing.simulation.runtime import SimulatedRuntime
from cm_platform.testing.simulation.scheduler import EPOCH, Simulation
from cm_platform.testing.simulation.storage import SMALL_LIMITS, SimulatedStorage
from cm_platform.testing.simulation.store import SimulatedStore
from cm_platform.testing.simulation.tasks import Process

from .scenario import ALL, Scenario

SUBJECT: Final = Subject("storage", "tenant")

# Seconds that a step of somebody else may take, and that no stall is: for what is declared.
_SLACK: Final = 0.1


class LedgerServer:
    """The real embedded ledger, on virtual time; one for many simulations, one after the other."""

    def __init__(self) -> None:
        self._clock = _ServerClock()
        self.ledger = SqliteLedger(SqliteConfig(path=MEMORY), BlockingRuntime(clock=self._clock))
        drive(self.ledger.prepare())

    def begin(self, simulation: Simulation) -> SqliteLedger:
        """The ledger, empty, in that simulation's time."""
        self._clock.simulation = simulation
        self.ledger.reset()
        return self.ledger

    def __enter__(self) -> Self:
        """The server itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the ledger."""
        drive(self.ledger.close())


class _ServerClock:
    """The clock of the simulation that is under way."""

    simulation: Simulation | None = None

    def monotonic(self) -> float:
        return 0.0 if self.simulation is None else self.simulation.now

    def wall(self) -> float:
        return EPOCH + self.monotonic()

    def sleep(self, seconds: float, /) -> None:
        raise RuntimeError("a simulated server does not sleep")

    async def sleep_async(self, seconds: float) -> None:
        raise RuntimeError("a simulated server does not sleep")


@dataclass(frozen=True, slots=True)
class Member:
    """What one process holds: as an application, and as an operator."""

    process: Process
    runtime: SimulatedRuntime
    storage: StorageBackend
    mover: Mover
    migration: AsyncMigration


class World:
    """What all processes of one simulated migration share."""

    def __init__(self, simulation: Simulation, scenario: Scenario, server: LedgerServer) -> None:
        self.simulation = simulation
        self.scenario = scenario
        self.ledger = server.begin(simulation)
        self.source, self.target = (
            SimulatedStore(
                name, simulation.wall, limits=SMALL_LIMITS, unique_etags=scenario.unique_etags
            )
            for name in ("s3", "r2")
        )
        self.store_faults = RandomFaults(simulation.random, scenario.stores)
        self.ledger_faults = RandomFaults(simulation.random, scenario.ledger)
        times = scenario.times
        self._terms = Terms("to-r2", "s3", "r2", lease=times.lease, soak=times.soak)
        self._config = MigrationConfig(
            source="s3",
            target="r2",
            lease=times.lease,
            upload_ttl=times.upload,
            soak=times.soak,
            shadow_sample=0.5,
        )

    def join(self, name: str, *, calm: bool = False) -> Member:
        """A new process. calm: nothing befalls it."""
        simulation, scenario = self.simulation, self.scenario
        dice, times = simulation.random, scenario.times
        process = simulation.process(
            name, wall=dice.uniform(-100, 100), monotonic=dice.uniform(0, 10_000)
        )
        runtime = SimulatedRuntime(process)
        stores: FaultSource = NO_FAULTS if calm else self.store_faults
        ledger = FaultyLedger(
            self.ledger,
            process,
            NO_FAULTS if calm else self.ledger_faults,
            lifetime=times.lease / 2,
            longest_way=times.slow,
        )

        def storage(store: SimulatedStore, lacks: frozenset[StorageCapability]) -> StorageBackend:
            return SimulatedStorage(
                store,
                process,
                stores,
                capabilities=ALL - lacks,
                max_request_lifetime=times.lifetime,
                lifetime=times.lifetime - times.stalled - _SLACK,
                longest_way=times.slow,
            )

        moving = assemble(
            Sides(
                storage(self.source, scenario.source_lacks),
                storage(self.target, scenario.target_lacks),
            ),
            ledger,
            SUBJECT,
            self._terms,
            self._config,
            runtime,
            act=times.act,
            prefix="",
        )
        migration = AsyncMigration(
            ledger, SUBJECT, moving.terms, moving.mover, runtime, who="operator"
        )
        return Member(process, runtime, moving.backend, moving.mover, migration)

    def stop_faults(self) -> None:
        """From now on all goes well."""
        self.store_faults.stop()
        self.ledger_faults.stop()


__all__ = ["SUBJECT", "LedgerServer", "Member", "World"]
