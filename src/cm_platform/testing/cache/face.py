"""A cache backend behind one face of a platform: what the suites drive, and look at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from cm_platform.cache.backend import CacheCapability, CacheLimits
from cm_platform.errors import UnavailableError
from cm_platform.tenant import Layout, Tenant
from cm_platform.testing.clocks import MovableClock
from cm_platform.testing.faces import Face

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache

RAW: Final = "shared"
"""The namespace whose keys are shared with other programs."""
OTHER: Final = "sessions"
"""A namespace beside the default one."""
NAMESPACES: Final = {RAW: {"encoding": "raw"}, OTHER: {}}

PATIENCE: Final = 10.0
"""Seconds after which what should have happened has not."""
_MOMENT: Final = 0.005

_WRITES: Final = frozenset(
    {"set", "set_many", "delete_many", "compare_and_set", "increment", "expire"}
)
_READS: Final = frozenset({"get_many", "ttl"})

Settle = Callable[[], None]


class CacheFace(Face):
    """A cache backend behind one face of a platform.

    clock: the library's; a backend that keeps time itself should keep it by this one.
    written: what was ever written, by partition: the suite removes it in the end.
    named: every physical name that the backend was told, as (partition, key); tests clear it.
    settle: makes what was written visible everywhere; called before a read that follows a write.
    """

    def __init__(
        self,
        name: str,
        backend_table: Mapping[str, Any],
        *,
        layout: str,
        clock: MovableClock | None = None,
        settle: Settle | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock or MovableClock()
        options.setdefault("settings", {"namespaces": NAMESPACES})
        super().__init__(name, "cache", backend_table, layout=layout, clock=self.clock, **options)
        self.layout = Layout(layout)
        self.written: dict[str, set[str]] = {}
        self.named: set[tuple[str, str]] = set()
        self.settle = settle
        self._table = backend_table
        self._options = options
        self._unsettled = False
        self.backend.before = self._before

    def cache(self, tenant: Tenant | None = None) -> Cache:
        """The tenant's cache; a new tenant's, which is empty, by default."""
        found: Cache = self.get_service(tenant or Tenant(str(uuid4()), site_id="site"))
        return found

    def partition(self, cache: Cache) -> str:
        """What every physical key of the cache's tenant begins with."""
        return self.layout.prefix(cache.tenant)

    @property
    def limits(self) -> CacheLimits:
        """The backend's."""
        found: CacheLimits = self.backend.limits
        return found

    @property
    def capabilities(self) -> frozenset[CacheCapability]:
        """The backend's, as it is configured."""
        found: frozenset[CacheCapability] = self.backend.capabilities
        return found

    @contextmanager
    def another(self) -> Generator[CacheFace, None, None]:
        """The same store behind another platform, as in another process; the clock is the same."""
        with CacheFace(
            self.name,
            self._table,
            layout=self.layout.template,
            clock=self.clock,
            settle=self.settle,
            **self._options,
        ) as other:
            yield other
            self.merge(other)

    def merge(self, other: CacheFace) -> None:
        """Remember what the other has written."""
        for partition, keys in other.written.items():
            self.written.setdefault(partition, set()).update(keys)

    @contextmanager
    def unreachable(self) -> Generator[None, None, None]:
        """Nothing that the backend is asked reaches the store, for a while."""

        def refuse(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            raise UnavailableError("nobody is there", not_sent=True)

        self.backend.before = refuse
        try:
            yield
        finally:
            self.backend.before = self._before
            # By then a circuit breaker lets somebody try again.
            self.clock.advance(60)

    def callback(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """A function as callers of this face write it: the async one's is `async def`."""
        if not self.is_async:
            return function

        async def called() -> Any:
            return function()

        return called

    def waiting(
        self, is_over: Callable[[], bool], then: Callable[[], Any], patience: float = PATIENCE
    ) -> Callable[[], Any]:
        """A callback that goes on when something has come about, or patience has ended."""

        def wait() -> Any:
            deadline = time.monotonic() + patience
            while not is_over() and time.monotonic() < deadline:
                time.sleep(_MOMENT)
            return then()

        async def wait_async() -> Any:
            deadline = time.monotonic() + patience
            # What it waits for is in another thread as often as in this loop.
            while not is_over() and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(_MOMENT)
            return then()

        return wait_async if self.is_async else wait

    def rest(self) -> None:
        """Let background work go on for a moment."""
        if self.is_async:
            self.run(asyncio.sleep(_MOMENT))
        else:
            time.sleep(_MOMENT)

    def eventually(self, holds: Callable[[], bool]) -> None:
        """Wait until it does; it must, before patience ends."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "it did not come about"
            self.rest()

    def raw(self, cache: Cache, *keys: str) -> list[bytes | None]:
        """What the store has under names within the cache's partition, past the service."""
        found: list[bytes | None] = []
        partition = self.partition(cache)
        for start in range(0, len(keys), self.limits.max_batch):
            some = keys[start : start + self.limits.max_batch]
            found += self.run(self.backend.get_many(partition, some))
        return found

    def plant(self, cache: Cache, key: str, value: bytes) -> None:
        """Put bytes under a name within the cache's partition, past the service."""
        self.run(self.backend.set(self.partition(cache), key, value, ttl=None))

    def lose(self, cache: Cache, key: str) -> None:
        """Drop what is under a name within the cache's partition, as a store that is full does."""
        self.run(self.backend.delete_many(self.partition(cache), [key]))

    def clear(self) -> None:
        """Remove what was written."""
        self.backend.lie = None
        while self.written:
            partition, keys = self.written.popitem()
            in_order = sorted(keys)
            for start in range(0, len(in_order), self.limits.max_batch):
                some = in_order[start : start + self.limits.max_batch]
                self.run(self.backend.backend.delete_many(partition, some))

    def _before(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not args:
            return
        partition, keys = args[0], args[1]
        keys = [keys] if isinstance(keys, str) else keys
        along = kwargs.get("along", ())
        self.named.update((partition, key) for some in (keys, along) for key in some)
        if name in _WRITES:
            self.written.setdefault(partition, set()).update(keys)
            self._unsettled = True
        elif name in _READS and self._unsettled and self.settle is not None:
            self._unsettled = False
            self.settle()


__all__ = ["NAMESPACES", "OTHER", "PATIENCE", "RAW", "CacheFace"]
