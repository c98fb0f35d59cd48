"""What is open in one process, on one event loop (or, blocking, on none)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from .executor import Endpoint
from .migration.guarding import Guarded
from .migration.ledger import Ledger
from .migration.mover import Moving
from .resilience import RetryBudget
from .runtime import Runtime

if TYPE_CHECKING:
    import asyncio

MOVING_KEPT: Final = 10_000
"""Tenants under a migration that a session remembers: enough for those of a busy half-minute. Each
takes 3 KB for storage and 5 KB for a cache (CPython 3.11, 2026-11), so 30 to 50 MB at most; one
that comes back costs two questions to the ledger, its route and its lease."""

Key = tuple[str, str, str | None]
"""Kind, backend, and the tenant if its configuration is its own."""

TenantKey = tuple[str, str, str]
"""Kind, migration, tenant."""


class Moved(NamedTuple):
    """What serves a tenant under a migration."""

    endpoint: Endpoint
    moving: Moving


class MovingTable:
    """Tenants under a migration, the one whose route was found out last at the end.

    Beyond `capacity` the first is let go: no call begins there any more, those under way go on
    to their end with the lease that they have, and a tenant that comes back takes a new one.
    """

    __slots__ = ("_capacity", "_found", "_turn")

    def __init__(self, capacity: int = MOVING_KEPT) -> None:
        self._capacity = capacity
        self._found: OrderedDict[TenantKey, Moved] = OrderedDict()
        self._turn = threading.Lock()

    def get(self, key: TenantKey) -> Moved | None:
        """What serves the tenant, unless its route is outdated; it is the last to go now."""
        with self._turn:
            found = self._found.get(key)
            if found is None or found.endpoint.outdated:
                return None
            self._found.move_to_end(key)
            return found

    def keep(self, key: TenantKey, made: Moved) -> tuple[Moved, list[Moved]]:
        """The one that serves from now on: of two made at once, the first. And who had to go."""
        with self._turn:
            found = self._found.get(key)
            if found is not None and not found.endpoint.outdated:
                return found, []
            gone = [] if found is None else [found]
            self._found[key] = made
            self._found.move_to_end(key)
            while len(self._found) > self._capacity:
                gone.append(self._found.popitem(last=False)[1])
        for one in gone:
            one.endpoint.closed = True
        return made, gone

    def shut(self) -> None:
        """No call begins there any more. Takes no turn: in a forked child nobody may have it."""
        for one in list(self._found.values()):
            one.endpoint.closed = True

    def clear(self) -> list[Moved]:
        """Let all go, the last one first."""
        self.shut()
        found = list(self._found.values())[::-1]
        self._found = OrderedDict()
        return found

    def __len__(self) -> int:
        return len(self._found)


class Session:
    """What is open. moving_kept: see `MovingTable`.

    sides, guarded: backends and the ledger as the migrations of all tenants ask them; budgets:
    of retries, by kind and migration.
    """

    def __init__(
        self,
        runtime: Runtime,
        loop: asyncio.AbstractEventLoop | None,
        *,
        moving_kept: int = MOVING_KEPT,
    ) -> None:
        self.runtime = runtime
        self.loop = loop
        self.endpoints: dict[Key, Endpoint] = {}
        self.moving = MovingTable(moving_kept)
        self.sides: dict[Endpoint, Guarded] = {}
        self.budgets: dict[tuple[str, str], RetryBudget] = {}
        self.ledger: Ledger | None = None
        self.guarded: Guarded | None = None
        self.guard = runtime.lock()
        self.closed = False

    async def keep(self, key: TenantKey, made: Moved) -> Moved:
        """Remember what serves a tenant; what has to go for it is written down meanwhile."""
        kept, gone = self.moving.keep(key, made)
        for one in gone:
            if not self.runtime.spawn(one.moving.backend.close()):
                await one.moving.backend.close()
        return kept

    def forget(self) -> None:
        """Let nobody begin here any more. Nothing is closed."""
        for endpoint in self.endpoints.values():
            endpoint.closed = True
        # It stays in the table: what it has counted is written down when it is closed.
        self.moving.shut()

    async def close(self) -> None:
        """Wait for background work, then close what is open, the last opened first.

        Raises the first failure when everything has been tried.
        """
        failure: Exception | None = None
        # Before the backends: what runs needs them, to finish and to leave no lock behind.
        await self.runtime.close()
        # Who is opening a backend just now is waited for, and what it opened is closed, too.
        async with self.guard:
            self.closed = True
            moved = [one.moving.backend for one in self.moving.clear()]
            opened = list(reversed(self.endpoints.values()))
            for endpoint in opened:
                endpoint.closed = True
            # What moves first: it writes down what it counted, and stands on the rest.
            for backend in (*moved, *(endpoint.backend for endpoint in opened)):
                try:
                    await backend.close()
                except Exception as error:  # noqa: BLE001 - the others must be closed as well
                    failure = failure or error
            self.endpoints.clear()
            if self.ledger is not None:
                try:
                    await self.ledger.close()
                except Exception as error:  # noqa: BLE001 - as above
                    failure = failure or error
        await self.runtime.close()
        if failure is not None:
            raise failure


__all__ = ["MOVING_KEPT", "Key", "Moved", "MovingTable", "Session", "TenantKey"]
