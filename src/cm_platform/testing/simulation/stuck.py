"""Simulations that come to no end, and who was doing what then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from .tasks import Task, where

_SHOWN: Final = 20


class SimulationError(RuntimeError):
    """A simulation that came to no end. The message says who was doing what."""


class DeadlockError(SimulationError):
    """Everybody waits for somebody."""


class LivelockError(SimulationError):
    """The bound on steps was reached."""


def shown(tasks: Iterable[Task[Any]]) -> str:
    """Tasks, and where they are."""
    lines = [f"{task.process.name}/{task.name} {where(task.coroutine)}" for task in tasks]
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return ", ".join(lines[:_SHOWN]) + more


__all__ = ["DeadlockError", "LivelockError", "SimulationError", "shown"]
