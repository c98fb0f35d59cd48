"""A store that is late, as Workers KV is: what a reader has once seen, or missed, it goes on to
see for a while; there are no atomics, and no life below a minimum.

It shows that the suites work where `settle` and `pass_time` are needed, and what the service does
there, in microseconds and without a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cm_platform.cache.backend import CacheCapability, CacheLimits, Counted, Stored, StoredMany
from cm_platform.cache.backend import Values as Values
from cm_platform.errors import PlatformError, UnsupportedError
from cm_platform.registry import Backend
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings

STALENESS: Final = 1.0
GENERATION_AGE: Final = 5.0
SHORTEST: Final = 60.0


class Store:
    """What everybody shares, and the time that passes there."""

    def __init__(self) -> None:
        self.now = 0.0
        self.values: dict[str, tuple[bytes, float | None]] = {}

    def read(self, name: str) -> bytes | None:
        """What was written last."""
        value, ends = self.values.get(name, (None, None))
        return None if ends is not None and ends <= self.now else value


STORES: Final[dict[str, Store]] = {}


class LaggingConfig(Settings):
    """store: its name; backends of one name see the same values, sooner or later."""

    store: str


class LaggingCache:
    """A `CacheBackend` that sees `store` through a memory of its own."""

    capabilities: frozenset[CacheCapability] = frozenset()
    limits = CacheLimits(
        max_key=512,
        max_value=1_000_000,
        max_batch=100,
        staleness=STALENESS,
        generation_age=GENERATION_AGE,
    )
    evicts = False
    max_request_lifetime = 0.0

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, tuple[bytes | None, float]] = {}

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """What was seen a moment ago, though something else was written since."""
        return [self._read(partition + key) for key in keys]

    def _read(self, name: str) -> bytes | None:
        now = self._store.now
        value, until = self._seen.get(name, (None, 0.0))
        if until <= now:
            value = self._store.read(name)
            self._seen[name] = (value, now + STALENESS)
        return value

    async def set(
        self,
        partition: str,
        key: str,
        value: bytes,
        *,
        ttl: float | None,
        only_if: object = None,
        along: Sequence[str] = (),
    ) -> Stored:
        """Seen later."""
        if only_if is not None:
            raise UnsupportedError("no conditions", not_sent=True)
        self._write(partition + key, value, ttl)
        return Stored(True, await self.get_many(partition, along))

    def _write(self, name: str, value: bytes, ttl: float | None) -> None:
        ends = None if ttl is None else self._store.now + max(ttl, SHORTEST)
        self._store.values[name] = (value, ends)

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        *,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> StoredMany:
        """Seen later."""
        for key, value in values.items():
            self._write(partition + key, value, ttl)
        return StoredMany({}, await self.get_many(partition, along))

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """Seen later."""
        for key in keys:
            self._store.values.pop(partition + key, None)
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
        """Not declared, so nobody may come here."""
        raise AssertionError("compare_and_set is not declared")

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
        """Not declared, so nobody may come here."""
        raise AssertionError("increment is not declared")

    async def ttl(self, partition: str, key: str) -> float | None:
        """Not declared, so nobody may come here."""
        raise AssertionError("ttl is not declared")

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        """Not declared, so nobody may come here."""
        raise AssertionError("expire is not declared")

    def translate(self, error: Exception) -> PlatformError | None:
        """There is no SDK."""
        return None

    async def ping(self) -> None:
        """It is there."""

    def native(self) -> Store:
        """The store."""
        return self._store

    async def close(self) -> None:
        """Forget what was seen."""
        self._seen.clear()


async def _open(config: LaggingConfig, runtime: Runtime) -> LaggingCache:
    return LaggingCache(STORES.setdefault(config.store, Store()))


BACKEND: Final = Backend(
    name="cache.lagging", config=LaggingConfig, open=_open, capabilities=frozenset()
)
