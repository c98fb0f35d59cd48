"""Whether what the clients of one key saw can be told as one story, one thing after another.

Wing and Gong's search ("Testing and verifying concurrent objects", 1993) with Lowe's memory of
the configurations that led nowhere: pick any operation that began before every other one not yet
told had ended, let it happen, go on; when nothing fits, go back and pick another.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal[
    "put",
    "put_if_absent",
    "put_if_match",
    "delete",
    "delete_if_match",
    "read",
    "listed",
    "unlisted",
]
Outcome = Literal["done", "conflict", "ambiguous", "refused"]

_NEVER: Final = float("inf")
_LOOKS: Final = frozenset({"read", "listed", "unlisted"})


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client did to the key, and what became of it.

    kind: what it did; listed, unlisted: it listed many keys, and this one was, or was not, among
        them: so it was there, or was not, at some moment from the first page to the last.
    start, end: when it was called, and when it was answered; None: never.
    value: what it wrote, or what it read; None stands for nothing being there.
    expected: the value whose version it demanded, for the kinds with `match`.
    outcome: done; conflict (the key was taken, or had another version or none: it certainly had
        no effect); ambiguous (it may take effect at any time after its start, or never);
        refused (no effect, and no reason that says anything about the key).
    client: for people who read a history.
    """

    kind: Kind
    start: float
    end: float | None
    value: Hashable = None
    expected: Hashable = None
    outcome: Outcome = "done"
    client: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """is_linearizable; order: the story, or the longest beginning of one that was found."""

    is_linearizable: bool
    order: Sequence[Operation]


def check(
    history: Sequence[Operation],
    initial: Hashable = None,
    *,
    version: Callable[[Any], Hashable] = lambda value: value,
) -> Verdict:
    """Look for a story of one key's history.

    initial: what was there before. version: of a value; values may share one, as objects share
    an etag.
    """
    told = [
        operation
        for operation in history
        if operation.outcome != "refused"
        # A read that was not answered says nothing and does nothing.
        and (operation.kind not in _LOOKS or operation.outcome == "done")
    ]
    told.sort(key=lambda operation: operation.start)
    return _Search(told, version).run(initial)


class _Search:
    """One history, its operations by number; a set of them is the bits of an integer."""

    def __init__(self, operations: Sequence[Operation], version: Callable[[Any], Hashable]) -> None:
        self.operations = operations
        self.version = version
        self.ends = [
            _NEVER if operation.outcome == "ambiguous" or operation.end is None else operation.end
            for operation in operations
        ]
        self.goal = sum(
            1 << number
            for number, operation in enumerate(operations)
            if operation.outcome != "ambiguous"
        )
        self.tried: set[tuple[int, Hashable]] = set()
        self.longest: list[int] = []
        self.path: list[int] = []

    def run(self, initial: Hashable) -> Verdict:
        found = self._from(0, initial)
        order = self.path if found else self.longest
        return Verdict(found, [self.operations[number] for number in order])

    def _from(self, done: int, state: Hashable) -> bool:
        """Whether the rest can be told from here; the path is left as it was, if not."""
        length = len(self.path)
        possible = self._possible(done)
        # What only looks, and sees what is there, may as well look now: nothing that comes later
        # depends on it. (A deletion of nothing may not: later it would be one of something.)
        found = True
        while found:
            found = False
            for number in possible:
                if self._observes(number, state):
                    self.path.append(number)
                    done |= 1 << number
                    possible = self._possible(done)
                    found = True
                    break
        if done & self.goal == self.goal:
            return True
        if (done, state) not in self.tried:
            self.tried.add((done, state))
            for number in possible:
                after = self._after(number, state)
                if after is not _UNFIT:
                    self.path.append(number)
                    if self._from(done | 1 << number, after):
                        return True
                    self.path.pop()
        if len(self.path) > len(self.longest):
            self.longest = list(self.path)
        del self.path[length:]
        return False

    def _possible(self, done: int) -> list[int]:
        """Those that began before every other one not yet told had ended."""
        found: list[int] = []
        limit = _NEVER
        for number, operation in enumerate(self.operations):
            if operation.start > limit:
                break
            if not done >> number & 1:
                found.append(number)
                limit = min(limit, self.ends[number])
        return found

    def _observes(self, number: int, state: Hashable) -> bool:
        """Whether it only looks, and sees this state."""
        operation = self.operations[number]
        if operation.kind == "read":
            return operation.value == state
        if operation.kind in _LOOKS:
            return (state is not None) == (operation.kind == "listed")
        if operation.outcome != "conflict":
            return False
        if operation.kind == "put_if_absent":
            return state is not None
        # Another object is reason enough: of the same bytes it may have another version all the
        # same, as what was put together from parts has.
        return state is None or state != operation.expected

    def _after(self, number: int, state: Hashable) -> Hashable:
        """The state that it leaves, if it can happen now and changes something."""
        operation = self.operations[number]
        kind = operation.kind
        if operation.outcome == "conflict" or kind in _LOOKS:
            return _UNFIT
        if kind == "put_if_absent" and state is not None:
            return _UNFIT
        if kind in ("put_if_match", "delete_if_match") and (
            state is None or self.version(state) != self.version(operation.expected)
        ):
            return _UNFIT
        after = None if kind in ("delete", "delete_if_match") else operation.value
        # An ambiguous one that changes nothing need not have happened.
        return _UNFIT if operation.outcome == "ambiguous" and after == state else after


_UNFIT: Final = object()

__all__ = ["Kind", "Operation", "Outcome", "Verdict", "check"]
