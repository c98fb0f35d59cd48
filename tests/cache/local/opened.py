"""A local cache, opened on either face, in memory or in a file, on a clock that is told to move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from cm_platform.cache.local import BACKEND, LocalCache, LocalConfig
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Clock, Runtime, drive

T = TypeVar("T")

ACME = "acme/"

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class MovingClock:
    """Stands still until `pass_` moves it; its two times have nothing in common."""

    def __init__(self) -> None:
        self._passed = 0.0

    def pass_(self, seconds: float) -> None:
        self._passed += seconds

    def monotonic(self) -> float:
        return 1000.0 + self._passed

    def wall(self) -> float:
        return 1_800_000_000.0 + self._passed

    def sleep(self, seconds: float) -> None:
        self._passed += seconds

    async def sleep_async(self, seconds: float) -> None:
        self._passed += seconds


class Opened:
    """A cache and how its coroutines are run, with short names for what most tests do."""

    def __init__(self, cache: LocalCache, runtime: Runtime, run: Run, clock: MovingClock) -> None:
        self.cache = cache
        self.runtime = runtime
        self.run = run
        self.clock = clock

    def get(self, key: str, partition: str = ACME) -> bytes | None:
        (value,) = self.run(self.cache.get_many(partition, [key]))
        assert value is None or isinstance(value, bytes)
        return value

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return list(self.run(self.cache.get_many(ACME, keys)))

    def set(
        self,
        key: str,
        value: bytes = b"x",
        *,
        ttl: float | None = None,
        partition: str = ACME,
        **how: Any,
    ) -> bool:
        stored = self.run(self.cache.set(partition, key, value, ttl=ttl, **how)).stored
        assert isinstance(stored, bool)
        return stored

    def set_many(self, values: Mapping[str, bytes], *, ttl: float | None = None) -> Any:
        return self.run(self.cache.set_many(ACME, values, ttl=ttl))

    def delete(self, *keys: str) -> None:
        assert self.run(self.cache.delete_many(ACME, keys)) == {}

    def swap(
        self, key: str, expected: bytes | None, value: bytes | None, *, ttl: float | None = None
    ) -> bool:
        swapped = self.run(self.cache.compare_and_set(ACME, key, expected, value, ttl=ttl))
        assert isinstance(swapped, bool)
        return swapped

    def count(
        self,
        key: str,
        amount: int = 1,
        *,
        initial: bytes | None = None,
        ttl: float | None = None,
        along: Sequence[str] = (),
    ) -> Any:
        return self.run(
            self.cache.increment(ACME, key, amount, initial=initial, ttl=ttl, along=along)
        )

    def ttl(self, key: str) -> float | None:
        left = self.run(self.cache.ttl(ACME, key))
        assert left is None or isinstance(left, float)
        return left

    def expire(self, key: str, ttl: float | None) -> bool:
        there = self.run(self.cache.expire(ACME, key, ttl))
        assert isinstance(there, bool)
        return there


async def open_cache(config: LocalConfig, runtime: Runtime) -> LocalCache:
    cache = await BACKEND.open(config, runtime)
    assert isinstance(cache, LocalCache)
    return cache


@contextmanager
def opened(
    face: str, path: Path | None = None, *, clock: Clock | None = None, **settings: Any
) -> Iterator[Opened]:
    """face: "sync" or "async". path: of the file; None for memory."""
    moving = MovingClock()
    config = LocalConfig(path=path, **settings)
    with asyncio.Runner() as runner:
        runtime: Runtime
        run: Run
        if face == "async":
            runtime, run = AsyncRuntime(clock=clock or moving), runner.run
        else:
            runtime, run = BlockingRuntime(clock=clock or moving), drive
        cache = run(open_cache(config, runtime))
        try:
            yield Opened(cache, runtime, run, moving)
        finally:
            run(cache.close())
            run(cache.close())
            run(runtime.close())
