"""Measuring contenders in turns, so that the machine's mood hits them alike.

Absolute times on a shared machine move by a factor of eight between runs; ratios within a run
hold. Quoted are medians over rounds, of wall time and of this process's CPU time.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contender:
    """name: for the table. run: makes so many operations."""

    name: str
    run: Callable[[int], object]


@dataclass
class Sample:
    """Seconds per operation, one figure a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def wall_us(self) -> float:
        """Median microseconds per operation."""
        return statistics.median(self.wall) * 1e6

    @property
    def cpu_us(self) -> float:
        """Median microseconds of our CPU per operation."""
        return statistics.median(self.cpu) * 1e6


def interleave(
    contenders: Sequence[Contender], *, operations: int, rounds: int
) -> dict[str, Sample]:
    """Let each contender make `operations` calls, in turns, `rounds` times; one to warm up."""
    samples = {contender.name: Sample() for contender in contenders}
    for contender in contenders:
        contender.run(max(1, operations // 10))
    for turn in range(rounds):
        # Who goes first changes, so that nobody always follows the same neighbour.
        start = turn % len(contenders)
        for contender in [*contenders[start:], *contenders[:start]]:
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            contender.run(operations)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            samples[contender.name].wall.append(wall / operations)
            samples[contender.name].cpu.append(cpu / operations)
    return samples
