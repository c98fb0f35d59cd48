"""What happens at its time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

_NEVER: Final = float("inf")


class Timer:
    """Something that happens at its time, unless it is cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Let it not happen."""
        self.action = None


class Timers:
    """All of one simulation.

    next: when to look again. Nothing is due before; at that time, what was cancelled may be all.
    """

    __slots__ = ("_heap", "_made", "next")

    def __init__(self) -> None:
        self.next = _NEVER
        # Numbered, so that what is due at the same time comes in the order in which it was added.
        self._heap: list[tuple[float, int, Timer]] = []
        self._made = 0

    def add(self, when: float, action: Callable[[], None]) -> Timer:
        """Do something at a time."""
        timer = Timer(action)
        self._made += 1
        heappush(self._heap, (when, self._made, timer))
        self.next = self._heap[0][0]
        return timer

    def fire(self, now: float) -> None:
        """Do what is due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            action = heappop(heap)[2].action
            if action is not None:
                action()
        self.next = heap[0][0] if heap else _NEVER

    def due(self) -> float | None:
        """When something will happen; None when nothing will."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heappop(heap)
        self.next = heap[0][0] if heap else _NEVER
        return heap[0][0] if heap else None

    def clear(self) -> None:
        """Let nothing happen."""
        self._heap.clear()
        self.next = _NEVER


__all__ = ["Timer", "Timers"]
