"""The cache over Redis: redis-py, redis.asyncio, cashews, dogpile.cache, and us.

All read values of 200 bytes that are there, from one Valkey on this machine. Ours are entries with
a generation that is read along: what `clear()` costs on every read is in the figures.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from cashews import Cache as Cashews
from dogpile.cache import make_region
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks.harness import Contender, interleave
from benchmarks.report import Finding
from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.testing.servers.valkey import ValkeyServer

VALUE = os.urandom(200)
KEYS = [f"user:{number}:profile" for number in range(100)]
IN_FLIGHT = 32


class Clients:
    """Everybody who can get, on one server."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))
        self.dogpile = make_region().configure("dogpile.cache.redis", arguments={"url": url})
        configuration = {
            "cache": {"default": "redis", "backends": {"redis": {"driver": "redis", "url": url}}}
        }
        tenant = Tenant("acme")
        self.platform = Platform.from_config(configuration)
        self.ours = self.platform.get_service("cache", tenant)
        self.async_platform = AsyncPlatform.from_config(configuration)
        self.ours_async = self.async_platform.get_service("cache", tenant)
        self.runner = asyncio.Runner()
        self.redis_async = redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 0))
        self.cashews = Cashews()
        self.cashews.setup(url)
        self._fill()

    def _fill(self) -> None:
        for key in KEYS:
            self.redis.set(key, VALUE)
            self.dogpile.set(key, VALUE)
            self.ours.set(key, VALUE)

        async def fill() -> None:
            for key in KEYS:
                await self.cashews.set(f"cashews:{key}", VALUE)

        self.runner.run(fill())

    def close(self) -> None:
        """Everything, in order."""

        async def close() -> None:
            await self.async_platform.close()
            await self.redis_async.aclose()
            await self.cashews.close()

        self.runner.run(close())
        self.runner.close()
        self.platform.close()
        self.redis.close()


@contextmanager
def clients() -> Iterator[Clients]:
    """All clients on a fresh server, the values in place."""
    with ValkeyServer() as server:
        made = Clients(server.url)
        try:
            yield made
        finally:
            made.close()


def _repeated(call: Callable[[], object]) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            call()

    return run


def blocking(made: Clients, rounds: int) -> Finding:
    """One get at a time."""
    key = KEYS[0]
    contenders = [
        Contender("redis-py + hiredis", _repeated(lambda: made.redis.get(key))),
        Contender("cm_platform", _repeated(lambda: made.ours.get(key))),
        Contender("dogpile.cache", _repeated(lambda: made.dogpile.get(key))),
    ]
    samples = interleave(contenders, operations=1000, rounds=rounds)
    finding = Finding.of("Cache: get, blocking, 200 bytes", samples)
    ratio = samples["cm_platform"].wall_us / samples["redis-py + hiredis"].wall_us
    finding.at_most("cache get, blocking, of redis-py + hiredis", ratio, 1.2)
    return finding


def many(made: Clients, rounds: int) -> Finding:
    """A hundred keys with one call."""
    contenders = [
        Contender("redis-py + hiredis", _repeated(lambda: made.redis.mget(KEYS))),
        Contender("cm_platform", _repeated(lambda: made.ours.get_many(KEYS))),
        Contender("dogpile.cache", _repeated(lambda: made.dogpile.get_multi(KEYS))),  # type: ignore[no-untyped-call]
    ]
    samples = interleave(contenders, operations=300, rounds=rounds)
    finding = Finding.of("Cache: 100 keys at once, blocking", samples)
    ratio = samples["cm_platform"].wall_us / samples["redis-py + hiredis"].wall_us
    finding.at_most("cache mget 100, blocking, of redis-py + hiredis", ratio, 1.1)
    return finding


def concurrent(made: Clients, rounds: int) -> Finding:
    """Gets by 32 tasks at once, on one event loop."""

    def in_flight(get: Callable[[str], Awaitable[Any]]) -> Callable[[int], None]:
        async def worker(count: int) -> None:
            for number in range(count):
                await get(KEYS[number % len(KEYS)])

        async def run(count: int) -> None:
            each = max(1, count // IN_FLIGHT)
            await asyncio.gather(*(worker(each) for _ in range(IN_FLIGHT)))

        return lambda count: made.runner.run(run(count))

    contenders = [
        Contender("redis.asyncio", in_flight(made.redis_async.get)),
        Contender("cm_platform", in_flight(made.ours_async.get)),
        Contender("cashews", in_flight(lambda key: made.cashews.get(f"cashews:{key}"))),
    ]
    samples = interleave(contenders, operations=3200, rounds=rounds)
    finding = Finding.of(f"Cache: get, async, {IN_FLIGHT} in flight", samples)
    ratio = samples["redis.asyncio"].wall_us / samples["cm_platform"].wall_us
    finding.at_least("cache get, async, 32 in flight, of redis.asyncio", ratio, 2)
    return finding


__all__ = ["blocking", "clients", "concurrent", "many"]
