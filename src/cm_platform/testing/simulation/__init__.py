"""A deterministic simulator: real code on virtual time, over servers that fail as told.

    with Simulation(seed=7) as simulation:
        store = SimulatedStore("s3", simulation.wall, limits=SMALL_LIMITS)
        process = simulation.process("app")
        faults = RandomFaults(simulation.random, FaultRates.even(0.06, crash=0.01))
        storage = SimulatedStorage(store, process, faults)
        task = process.spawn(work(storage, SimulatedRuntime(process)))
        simulation.run(until=task)

Every await of such a backend is a point where another task may go on, where the request may be
lost, doubled or late, and where the process may die. One seed, one course of events.
"""

from __future__ import annotations

from .faults import NO_FAULTS, Fault, FaultRates, FaultSource, PlannedFaults, RandomFaults, Request
from .ledger import FaultyLedger
from .linearizability import Operation, Verdict, check
from .points import CrashPoints
from .presigning import follow
from .runtime import SimulatedClock, SimulatedRuntime
from .scheduler import Simulation
from .storage import SMALL_LIMITS, SimulatedStorage
from .store import SimulatedStore, differences
from .stuck import DeadlockError, LivelockError, SimulationError
from .tasks import Cancelled, Process, Task, point

__all__ = [
    "NO_FAULTS",
    "SMALL_LIMITS",
    "Cancelled",
    "CrashPoints",
    "DeadlockError",
    "Fault",
    "FaultRates",
    "FaultSource",
    "FaultyLedger",
    "LivelockError",
    "Operation",
    "PlannedFaults",
    "Process",
    "RandomFaults",
    "Request",
    "SimulatedClock",
    "SimulatedRuntime",
    "SimulatedStorage",
    "SimulatedStore",
    "Simulation",
    "SimulationError",
    "Task",
    "Verdict",
    "check",
    "differences",
    "follow",
    "point",
]
