"""What the cache's tests stand in for: time, and a store that several processes share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import uuid4

from cm_platform.cache.backend import (
    CacheCapability,
    CacheLimits,
    Condition,
    Counted,
    Stored,
    StoredMany,
    Values,
)
from cm_platform.cache.local.counting import added
from cm_platform.cache.sync import Cache
from cm_platform.errors import NotFoundError, PlatformError
from cm_platform.registry import Backend
from cm_platform.runtime import Runtime, drive
from cm_platform.settings import Settings
from cm_platform.tenant import Tenant
from cm_platform.testing.faces import Face

ACME: Final = Tenant("acme")
LAYOUT: Final = "{tenant}/{key}"
START: Final = 1_800_000_000.0


class FakeClock:
    """Stands still until it is told to move, or slept on. The wall's may be put back."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ahead = START
        self._guard = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.ahead

    def move(self, seconds: float) -> None:
        with self._guard:
            self.now += seconds

    def sleep(self, seconds: float, /) -> None:
        self.move(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.move(seconds)
        await asyncio.sleep(0)


class Shared:
    """What is kept, and for how long; all who name it see the same."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.kept: dict[str, tuple[bytes, float | None]] = {}
        self.capabilities = frozenset(CacheCapability)
        self.limits = CacheLimits(max_key=256, max_value=100_000, max_batch=50)
        self.evicts = False

    def get(self, name: str) -> bytes | None:
        value, ends = self.kept.get(name, (None, None))
        return None if ends is not None and ends <= self.clock.now else value

    def put(self, name: str, value: bytes, ttl: float | None) -> None:
        self.kept[name] = (value, None if ttl is None else self.clock.now + ttl)

    def names(self, ending: str) -> list[str]:
        """The physical names that end so."""
        return [name for name in self.kept if name.endswith(ending)]


SHARED: Final[dict[str, Shared]] = {}


class PlainConfig(Settings):
    """shared: the name of what is kept."""

    shared: str


class PlainCache:
    """A `CacheBackend` over a dictionary; nothing in it waits."""

    max_request_lifetime = 0.0

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.capabilities = shared.capabilities
        self.limits = shared.limits
        self.evicts = shared.evicts

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        return [self.shared.get(partition + key) for key in keys]

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
        there = self.shared.get(partition + key) is not None
        stored = only_if is None or there == (only_if == "present")
        if stored:
            self.shared.put(partition + key, value, ttl)
        return Stored(stored, await self.get_many(partition, along))

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        *,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> StoredMany:
        for key, value in values.items():
            self.shared.put(partition + key, value, ttl)
        return StoredMany({}, await self.get_many(partition, along))

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        for key in keys:
            self.shared.kept.pop(partition + key, None)
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
        if self.shared.get(partition + key) != expected:
            return False
        if value is None:
            self.shared.kept.pop(partition + key, None)
        else:
            self.shared.put(partition + key, value, ttl)
        return True

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
        name = partition + key
        current = self.shared.get(name)
        count = added(current, amount, initial)
        _, ends = self.shared.kept.get(name, (b"", None))
        if count.anew or current is None:
            self.shared.put(name, count.data, ttl)
        else:
            self.shared.kept[name] = (count.data, ends)
        return Counted(count.value, count.stamp, await self.get_many(partition, along))

    async def ttl(self, partition: str, key: str) -> float | None:
        if self.shared.get(partition + key) is None:
            raise NotFoundError("there is no such value")
        ends = self.shared.kept[partition + key][1]
        return None if ends is None else ends - self.shared.clock.now

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        value = self.shared.get(partition + key)
        if value is not None:
            self.shared.put(partition + key, value, ttl)
        return value is not None

    def translate(self, error: Exception) -> PlatformError | None:
        return None

    async def ping(self) -> None:
        pass

    def native(self) -> Shared:
        return self.shared

    async def close(self) -> None:
        pass


async def _open(config: PlainConfig, runtime: Runtime) -> PlainCache:
    return PlainCache(SHARED[config.shared])


PLAIN: Final = Backend(
    name="cache.plain",
    config=PlainConfig,
    open=_open,
    capabilities=frozenset(CacheCapability),
)


class World:
    """A store, this process with a face of the test's, and other processes of the sync one.

    Change `shared` before the first use of a cache: capabilities, limits, evicts.
    """

    def __init__(self, face_name: str) -> None:
        self.face_name = face_name
        self.clock = FakeClock()
        self.shared = Shared(self.clock)
        self._name = str(uuid4())
        SHARED[self._name] = self.shared
        self._faces: list[Face] = []
        self._settings: dict[str, Any] = {
            "namespaces": {"shared": {"encoding": "raw"}, "other": {}},
            "retry": {"attempts": 3, "initial": 0.001, "max": 0.001},
        }
        self._here: Face | None = None

    @property
    def here(self) -> Face:
        """This process."""
        if self._here is None:
            self._here = self.process(self.face_name)
        return self._here

    def process(self, face_name: str = "sync", clock: FakeClock | None = None) -> Face:
        """Another process; it may have a clock of its own."""
        face = Face(
            face_name,
            "cache",
            {"driver": PLAIN, "shared": self._name},
            layout=LAYOUT,
            settings=self._settings,
            clock=clock or self.clock,
        )
        self._faces.append(face)
        return face

    def cache(self, tenant: Tenant = ACME) -> Cache:
        """A tenant's cache, here."""
        found: Cache = self.here.get_service(tenant)
        return found

    def elsewhere(self, tenant: Tenant = ACME, clock: FakeClock | None = None) -> Cache:
        """The same, in another process."""
        found: Cache = self.process(clock=clock).get_service(tenant)
        return found

    def once_before(self, method: str, act: Callable[[], object], *, skip: int = 0) -> None:
        """Act when this method of the backend is called the next time; it may raise."""
        left = [skip]

        def before(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            if name != method:
                return
            if left[0]:
                left[0] -= 1
                return
            self.here.backend.before = None
            act()

        self.here.backend.before = before

    def once_after(self, method: str, act: Callable[[], object], *, skip: int = 0) -> None:
        """Act when this method has done its work, and before anybody hears of it."""
        left = [skip]

        def lie(name: str, answer: Any) -> Any:
            if name != method:
                return answer
            if left[0]:
                left[0] -= 1
                return answer
            self.here.backend.lie = None
            act()
            return answer

        self.here.backend.lie = lie

    def reentered(self, cache: Cache, method: str, *args: Any, **kwargs: Any) -> Any:
        """A call within another one of this process, as from another thread or task."""
        if not self.here.is_async:
            return getattr(cache, method)(*args, **kwargs)
        # Nothing of this store waits, so it comes to its end in one go.
        target: Any = cache
        return drive(getattr(target.target, method)(*args, **kwargs))

    def close(self) -> None:
        for face in self._faces:
            face.close()
        del SHARED[self._name]


@contextmanager
def world_of(face_name: str) -> Generator[World, None, None]:
    """A world that is closed in the end."""
    world = World(face_name)
    try:
        yield world
    finally:
        world.close()


def failing(error: PlatformError) -> Callable[[], object]:
    """What raises this."""

    def fail() -> object:
        raise error

    return fail
