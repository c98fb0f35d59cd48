"""What the tests of the simulation share: one process, one store, faults by plan."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from cm_platform.errors import PlatformError
from cm_platform.storage.backend import Attributes, StorageBackend
from cm_platform.testing.simulation import (
    SMALL_LIMITS,
    Fault,
    PlannedFaults,
    SimulatedStorage,
    SimulatedStore,
    Simulation,
    Task,
)

T = TypeVar("T")

LIFETIME = 10.0
PLAIN = Attributes(content_type="text/plain", metadata={"cm-rev": "0" * 32})

Work = Callable[[StorageBackend], Coroutine[Any, Any, T]]


class World:
    """A simulation with one store."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.simulation = Simulation(seed, traced=traced)
        self.store = SimulatedStore("s3", self.simulation.wall, limits=SMALL_LIMITS)
        self.process = self.simulation.process("app")

    def storage(self, **plan: Fault) -> StorageBackend:
        """A backend; plan: `at_0=...` is the fault of the first request."""
        faults = PlannedFaults({int(at.removeprefix("at_")): plan[at] for at in plan})
        return SimulatedStorage(self.store, self.process, faults, max_request_lifetime=LIFETIME)

    def spawn(self, work: Work[T], **plan: Fault) -> Task[T | PlatformError]:
        """Work that is under way; a PlatformError is its value."""

        async def told(storage: StorageBackend) -> T | PlatformError:
            try:
                return await work(storage)
            except PlatformError as error:
                return error

        return self.process.spawn(told(self.storage(**plan)))

    def run(self, work: Work[T], **plan: Fault) -> T | PlatformError:
        """Its value, or the PlatformError that it raised."""
        task = self.spawn(work, **plan)
        self.simulation.run(until=task)
        return task.value

    @property
    def bodies(self) -> dict[str, bytes]:
        """What is stored."""
        return {key: stored.body for key, stored in self.store.objects.items()}
