"""What the tests of `cache.redis` share: both faces, a backend, its errors, an executor."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal, TypeAlias, TypeVar

from pydantic import SecretStr

from cm_platform.cache.redis import BACKEND, RedisCache, RedisConfig
from cm_platform.errors import PlatformError
from cm_platform.executor import Endpoint, Executor
from cm_platform.resilience import CircuitBreaker, RetryPolicy
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Runtime, drive

T = TypeVar("T")
Face: TypeAlias = Literal["blocking", "async"]

FACES: Final[tuple[Face, ...]] = ("blocking", "async")
COUNTER: Final = 3
JSON: Final = 2
SCOPE: Final = 0x0102_0304_0506_0708
"""Whose the entries are: the scripts keep it, and ask no more of it."""
PATIENCE: Final = 20.0
"""Seconds after which a test gives up."""


def config(url: str, **more: Any) -> RedisConfig:
    """The configuration for a test server."""
    return RedisConfig(url=SecretStr(url), **more)


def runtime_of(face: Face) -> Runtime:
    """A new runtime of a face."""
    return BlockingRuntime() if face == "blocking" else AsyncRuntime()


def run(face: Face, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end as a face does."""
    return drive(coroutine) if face == "blocking" else asyncio.run(coroutine)


def opened(settings: RedisConfig) -> RedisCache:
    """A backend on the blocking face; whoever asks closes it."""

    async def opening() -> RedisCache:
        cache: RedisCache = await BACKEND.open(settings, BlockingRuntime())
        return cache

    return drive(opening())


def on(
    face: Face, settings: RedisConfig, scenario: Callable[[RedisCache], Coroutine[Any, Any, T]]
) -> T:
    """Run a scenario on a backend, opened and closed around it, on one of the faces."""
    runtime = runtime_of(face)

    async def whole() -> T:
        cache: RedisCache = await BACKEND.open(settings, runtime)
        try:
            return await scenario(cache)
        finally:
            await cache.close()
            await cache.close()
            await runtime.close()

    return run(face, whole())


async def failure(cache: RedisCache, call: Awaitable[Any]) -> PlatformError:
    """The error that a call must end with, as the executor will see it."""
    try:
        await call
    except PlatformError as error:
        return error
    except Exception as error:  # noqa: BLE001 - as the executor does
        translated = cache.translate(error)
        assert translated is not None, f"not translated: {error!r}"
        return translated
    raise AssertionError("the call was to fail")


async def one(cache: RedisCache, partition: str, key: str) -> bytes | None:
    """The value of one key."""
    [value] = await cache.get_many(partition, [key])
    return value


def entry(stamp: int, payload: bytes, *, encoding: int = COUNTER, flags: int = 0) -> bytes:
    """An entry, written by hand: byte for byte what `cache/entry.py` describes."""
    return struct.pack(">BBQQQQ", 0xC5, encoding | flags, stamp, SCOPE, 0, 0) + payload


class _Here:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def current(self) -> Endpoint:
        return self._endpoint

    async def refresh(self) -> Endpoint:
        return self._endpoint


def executor(cache: RedisCache, runtime: Runtime, *, attempts: int = 4) -> Executor:
    """The path of a call over one backend, with the default policy of retries."""
    endpoint = Endpoint(
        "tested",
        cache,
        runtime,
        policy=RetryPolicy(attempts, maximum=1.0),
        timeout=20.0,
        breaker=CircuitBreaker(runtime.clock, failures=1000),
    )
    return Executor("cache", _Here(endpoint))


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.001)
