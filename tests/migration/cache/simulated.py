"""A cache server on virtual time, as one process reaches it: over a wire on which requests and
answers get lost, and, where it is told to, through a memory of what was there a moment ago."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from cm_platform.cache.backend import (
    CacheCapability,
    CacheLimits,
    Condition,
    Counted,
    Stored,
    StoredMany,
    Values,
)
from cm_platform.cache.local import operations
from cm_platform.cache.local.memory import MemoryTable
from cm_platform.errors import PlatformError
from cm_platform.testing.simulation import FaultSource, Process, Request, Simulation
from cm_platform.testing.simulation.wire import Wire

T = TypeVar("T")

ALL: Final = frozenset(CacheCapability)
ROOM: Final = 64 * 1024**2

_READ: Final = Request("get_many")
_WRITE: Final = Request("write", writes=True)
_IF: Final = Request("write_if", writes=True, conditional=True)


class Server:
    """What all processes share. evicts: whether it says that it may drop values; it does not."""

    def __init__(self, simulation: Simulation, name: str, *, evicts: bool = True) -> None:
        self.simulation = simulation
        self.name = name
        self.evicts = evicts
        self.table = MemoryTable(_Clock(simulation), ROOM)


class _Clock:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def monotonic(self) -> float:
        return self._simulation.now

    def wall(self) -> float:
        return self._simulation.wall()

    def sleep(self, seconds: float, /) -> None:
        raise RuntimeError("a simulated server does not sleep")

    async def sleep_async(self, seconds: float) -> None:
        raise RuntimeError("a simulated server does not sleep")


class SimulatedCache:
    """A `CacheBackend` of one process.

    late: seconds for which this process may go on to see what it has seen, or missed; then it
    has no atomics, like Workers KV. lifetime: of a request that nobody waits for any more.
    """

    def __init__(
        self,
        server: Server,
        process: Process,
        faults: FaultSource,
        *,
        late: float = 0.0,
        lifetime: float = 1.0,
    ) -> None:
        self.capabilities: frozenset[CacheCapability] = frozenset() if late else ALL
        self.limits = CacheLimits(
            max_key=512, max_value=1_000_000, max_batch=100, staleness=late, min_ttl=late and 60.0
        )
        self.evicts = server.evicts
        self.max_request_lifetime = lifetime
        self._server = server
        self._late = late
        self._seen: dict[bytes, tuple[bytes | None, float]] = {}
        self._wire = Wire(process, server.name, faults, lifetime, longest_way=lifetime / 4)

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        names = _physical(partition, keys)
        if self._late:
            return await self._wire.send(_READ, lambda: [self._remembered(n) for n in names], keys)
        return await self._ask(_READ, lambda table: operations.get_many(table, names), keys)

    def _remembered(self, name: bytes) -> bytes | None:
        now = self._server.simulation.now
        value, until = self._seen.get(name, (None, 0.0))
        if until <= now:
            kept = self._server.table.get(name)
            value = None if kept is None else kept.value
            # Some reads are of now, others of a while ago.
            until = now + self._late * self._server.simulation.random.random()
            self._seen[name] = (value, until)
        return value

    async def set(
        self,
        partition: str,
        key: str,
        value: bytes,
        *,
        ttl: float | None,
        only_if: Condition | None = None,
        along: Sequence[str] = (),
    ) -> Stored:
        name, *others = _physical(partition, (key, *along))
        request = _WRITE if only_if is None else _IF
        seconds = self._seconds(ttl)
        if not self._late:
            return await self._ask(
                request,
                lambda table: operations.set_one(table, name, value, seconds, only_if, others),
                f"set {key} {value!r}",
            )
        assert only_if is None
        await self._ask(
            request, lambda table: operations.set_one(table, name, value, seconds, None, ()), key
        )
        return Stored(True, await self.get_many(partition, along) if along else ())

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        *,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> StoredMany:
        names = _physical(partition, list(values))
        seconds = self._seconds(ttl)
        stored = await self._ask(
            _WRITE,
            lambda table: operations.set_many(table, values, names, seconds, ()),
            f"set {list(values)}",
        )
        return StoredMany(stored.failures, await self.get_many(partition, along) if along else ())

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        names = _physical(partition, keys)
        await self._ask(
            _WRITE, lambda table: operations.delete_many(table, names), f"delete {list(keys)}"
        )
        return {}

    async def compare_and_set(
        self,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        *,
        ttl: float | None,
    ) -> bool:
        assert CacheCapability.COMPARE_AND_SET in self.capabilities
        (name,) = _physical(partition, (key,))
        return await self._ask(
            _IF,
            lambda table: operations.compare_and_set(table, name, expected, value, ttl),
            f"swap {key} {expected!r} {value!r}",
        )

    async def increment(
        self,
        partition: str,
        key: str,
        amount: int,
        *,
        initial: bytes | None,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> Counted:
        assert CacheCapability.ATOMIC_INCREMENT in self.capabilities
        name, *others = _physical(partition, (key, *along))
        return await self._ask(
            _WRITE,
            lambda table: operations.increment(table, name, amount, initial, ttl, others),
            f"increment {key}",
        )

    async def ttl(self, partition: str, key: str) -> float | None:
        (name,) = _physical(partition, (key,))
        return await self._ask(_READ, lambda table: operations.ttl_of(table, name), key)

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        (name,) = _physical(partition, (key,))
        return await self._ask(_WRITE, lambda table: operations.expire(table, name, ttl), key)

    def translate(self, error: Exception) -> PlatformError | None:
        return None

    async def ping(self) -> None:
        pass

    def native(self) -> Any:
        return self._server

    async def close(self) -> None:
        pass

    def _seconds(self, ttl: float | None) -> float | None:
        return None if ttl is None else max(ttl, self.limits.min_ttl)

    async def _ask(self, request: Request, act: Callable[[MemoryTable], T], about: object) -> T:
        return await self._wire.send(request, lambda: act(self._server.table), about)


def _physical(partition: str, keys: Sequence[str]) -> list[bytes]:
    return [(partition + key).encode() for key in keys]
