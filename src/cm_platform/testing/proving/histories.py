"""What clients did and saw, key by key, and whether it can be told as one story."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from cm_platform.errors import (
    AlreadyExistsError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    UnsupportedError,
)
from cm_platform.testing.simulation import Operation, check
from cm_platform.testing.simulation.linearizability import Kind, Outcome

# Of one key. The check looks at all orders that are possible; more would take long.
PER_KEY: Final = 24


class Histories:
    """Hands out keys, records what is done to them, judges.

    keys: in use at a time. A key that was used often enough is retired for a new one.
    """

    def __init__(self, dice: random.Random, keys: int = 8) -> None:
        self._dice = dice
        self._made = 0
        self._uses: dict[str, int] = {}
        self.operations: dict[str, list[Operation]] = {}
        self.counts: Counter[str] = Counter()
        self._active = [self._new() for _ in range(keys)]

    def key(self) -> str:
        """A key to do something with; counts as a use."""
        index = self._dice.randrange(len(self._active))
        key = self._active[index]
        self._uses[key] += 1
        if self._uses[key] >= PER_KEY:
            self._active[index] = self._new()
        return key

    def _new(self) -> str:
        self._made += 1
        # Folders, so that reports by class of keys have something to show.
        key = f"{'abc'[self._made % 3]}/{self._made:06d}"
        self._uses[key] = 0
        self.operations[key] = []
        return key

    async def record(
        self,
        client: str,
        key: str,
        kind: Kind,
        call: Callable[[], Awaitable[Hashable]],
        *,
        value: Hashable = None,
        expected: Hashable = None,
    ) -> Hashable:
        """Do something and write down what came of it; what was read, if it was a reading."""
        started = time.monotonic()
        outcome: Outcome = "ambiguous"
        end: float | None = None
        seen = value
        try:
            found = await call()
            outcome, end = "done", time.monotonic()
            if kind == "read":
                seen = found
        except NotFoundError:
            # A read found nothing; a write to nothing is a conflict.
            end = time.monotonic()
            outcome, seen = ("done", None) if kind == "read" else ("conflict", value)
        except (AlreadyExistsError, PreconditionFailedError):
            # A read that broke off goes on only in the same object; another is there by now.
            outcome, end = "refused" if kind == "read" else "conflict", time.monotonic()
        except UnsupportedError:
            raise
        except PlatformError as error:
            outcome = "refused" if error.not_sent or kind == "read" else "ambiguous"
        finally:
            # Also of a client that was killed: then it is not known.
            operation = Operation(kind, started, end, seen, expected, outcome, client)
            self.operations[key].append(operation)
            self.counts[f"{kind} {outcome}"] += 1
        return seen if outcome == "done" else None

    def judge(self) -> dict[str, list[Operation]]:
        """The keys whose history is no story, with it."""
        return {
            key: operations
            for key, operations in self.operations.items()
            if not check(operations).is_linearizable
        }


__all__ = ["PER_KEY", "Histories"]
