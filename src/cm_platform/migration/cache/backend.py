"""A cache backend over two cache backends: what a route to a migration opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cm_platform.cache.backend import (
    CacheCapability,
    CacheLimits,
    Condition,
    Counted,
    Stored,
    StoredMany,
    Values,
)
from cm_platform.errors import PlatformError

from .atomics import Atomics
from .mix import CONDITION, COUNTER, TIME, Mix
from .pair import Pair
from .reads import Reader
from .shadow import Shadow
from .stand import Stand
from .standing import capabilities_in, limits_in
from .writes import Writer


class MigratingCache:
    """A cache that moves. See this package's docstring for how.

    What it can do, and its bounds, are those of the stage: call `prepare` before they are asked.
    """

    def __init__(
        self,
        pair: Pair,
        stand: Stand,
        reader: Reader,
        writer: Writer,
        atomics: Atomics,
        shadow: Shadow,
        mix: Mix,
    ) -> None:
        self._pair = pair
        self._stand = stand
        self._reader = reader
        self._writer = writer
        self._atomics = atomics
        self._shadow = shadow
        self._mix = mix
        self.max_request_lifetime = pair.max_request_lifetime

    async def prepare(self) -> None:
        """Ask the ledger where it stands. Raises `unavailable`."""
        await self._stand.current()

    @property
    def capabilities(self) -> frozenset[CacheCapability]:
        """What it can do just now."""
        return capabilities_in(self._stand.last(), self._pair)

    @property
    def limits(self) -> CacheLimits:
        """The bounds that hold just now."""
        return limits_in(self._stand.last(), self._pair)

    @property
    def evicts(self) -> bool:
        """Whether the authority may drop values early."""
        return self._pair.backend(self._stand.last().authority).evicts

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """See `CacheBackend.get_many`."""
        self._mix.read(partition, keys)
        values, standing = await self._reader.get_many(partition, keys)
        if standing.copies and keys:
            self._shadow.offer(standing, partition, keys[-1], values[-1])
        return values

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
        """See `CacheBackend.set`."""
        self._mix.wrote(partition, key, len(value), ttl)
        if only_if is None:
            return await self._writer.set(partition, key, value, ttl, along)
        await self._mix.exact(CONDITION, partition, key, ttl)
        return await self._atomics.set_if(partition, key, value, ttl, only_if, along)

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        *,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> StoredMany:
        """See `CacheBackend.set_many`."""
        for key, value in values.items():
            self._mix.wrote(partition, key, len(value), ttl)
        return await self._writer.set_many(partition, values, ttl, along)

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `CacheBackend.delete_many`."""
        self._mix.deleted(partition, keys)
        return await self._writer.delete_many(partition, keys)

    async def compare_and_set(
        self,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        *,
        ttl: float | None,
    ) -> bool:
        """See `CacheBackend.compare_and_set`."""
        await self._mix.exact(CONDITION, partition, key, ttl)
        return await self._atomics.compare_and_set(partition, key, expected, value, ttl)

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
        """See `CacheBackend.increment`."""
        await self._mix.exact(COUNTER, partition, key, ttl)
        return await self._atomics.increment(partition, key, amount, initial, ttl, along)

    async def ttl(self, partition: str, key: str) -> float | None:
        """See `CacheBackend.ttl`."""
        return await self._atomics.ttl(partition, key)

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        """See `CacheBackend.expire`."""
        await self._mix.exact(TIME, partition, key, ttl)
        return await self._atomics.expire(partition, key, ttl)

    def translate(self, error: Exception) -> PlatformError | None:
        """What a side raised was classified on its way; either may know what is left."""
        return self._pair.source.translate(error) or self._pair.target.translate(error)

    async def ping(self) -> None:
        """Reach both stores and the ledger."""
        await self._stand.current()
        await self._pair.on("source", lambda backend: backend.ping())
        await self._pair.on("target", lambda backend: backend.ping())

    def native(self) -> dict[str, Any]:
        """Both clients, by side."""
        return {"source": self._pair.source.native(), "target": self._pair.target.native()}

    async def close(self) -> None:
        """Write down what was counted. The two backends belong to whoever opened them."""
        await self._mix.flush()
        await self._shadow.flush()


__all__ = ["MigratingCache"]
