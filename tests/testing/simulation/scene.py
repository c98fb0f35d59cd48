"""A simulation with everything in it, for comparing its traces. Run, it prints the hash of one."""

from __future__ import annotations

import hashlib
import random
import sys

from cm_platform.errors import PlatformError
from cm_platform.runtime import Runtime
from cm_platform.storage.backend import Attributes, StorageBackend
from cm_platform.testing.simulation import (
    SMALL_LIMITS,
    FaultRates,
    RandomFaults,
    SimulatedRuntime,
    SimulatedStorage,
    SimulatedStore,
    Simulation,
)


async def _work(storage: StorageBackend, runtime: Runtime, number: int) -> None:
    lock = runtime.lock()

    async def one(step: int) -> None:
        key = random.choice("abc")  # noqa: S311 - dice
        try:
            async with runtime.timeout(3):
                body = f"{number}-{step}".encode()
                await storage.put(key, body, Attributes(metadata={"n": str(step)}))
                async with lock:
                    await (await storage.get(key)).read()
                await storage.list("", delimiter=None, cursor=None, limit=3)
                await storage.delete_many(["a", "c"])
        except (PlatformError, TimeoutError):
            await runtime.sleep(random.random())  # noqa: S311 - dice

    for _ in range(3):
        await runtime.gather((one(step) for step in range(4)), limit=3)


def trace(seed: int) -> list[str]:
    """What happened."""
    with Simulation(seed, stall=0.02, traced=True) as simulation:
        store = SimulatedStore("s3", simulation.wall, limits=SMALL_LIMITS)
        rates = FaultRates.even(0.2, crash=0.005, slow=0.05)
        faults = RandomFaults(simulation.random, rates)
        tasks = []
        for number in range(4):
            process = simulation.process(f"app{number}", wall=number * 0.1)
            storage = SimulatedStorage(store, process, faults, max_request_lifetime=5)
            tasks.append(process.spawn(_work(storage, SimulatedRuntime(process), number)))
        simulation.run(until=tasks)
        simulation.run()
        lines = simulation.trace or []
        ends = sorted((key, one.body, one.info.etag) for key, one in store.objects.items())
        return [*lines, f"{simulation.steps} {simulation.now} {ends}"]


def digest(seed: int) -> str:
    """Of the trace."""
    return hashlib.sha256("\n".join(trace(seed)).encode()).hexdigest()


if __name__ == "__main__":
    sys.stdout.write(digest(int(sys.argv[1])))
