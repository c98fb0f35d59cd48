"""The async face: one connection for all tasks, one write a turn, and nobody harms another."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from cm_platform.cache.backend import Stored
from cm_platform.cache.redis import BACKEND, RedisCache
from cm_platform.cache.redis.wire import MAX_BYTES, MAX_CALLS, Wire
from cm_platform.errors import (
    DeadlineExceededError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.runtime import AsyncRuntime
from cm_platform.testing.servers.valkey import ValkeyServer
from cm_platform.testing.servers.valkey_proxy import ValkeyProxy

from .redis_faces import config, entry, on, one


@pytest.fixture
def url(server: ValkeyServer, proxy: ValkeyProxy) -> str:
    return server.url_at(proxy.port)


async def at_once(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """Begin calls in one turn of the loop; their results and errors."""
    return await asyncio.gather(*calls, return_exceptions=True)


def test_what_is_asked_in_one_turn_goes_out_in_one_write(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.ping()
        proxy.clear()
        found = await at_once(
            *(cache.set(partition, f"k{n}", b"%d" % n, ttl=60) for n in range(50)),
            *(cache.get_many(partition, [f"k{n}"]) for n in range(50)),
        )
        assert [list(values) for values in found[50:]] == [[b"%d" % n] for n in range(50)]
        assert proxy.commands == ["SET"] * 50 + ["MGET"] * 50
        assert proxy.reads == 1
        assert proxy.connections == 1

    on("async", config(url), scenario)


def test_the_first_turn_waits_for_one_connection_together(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await at_once(*(cache.get_many(partition, ["a"]) for _ in range(20)))

    on("async", config(url), scenario)
    assert proxy.connections == 1
    assert proxy.commands == ["PING"] + ["MGET"] * 20


def test_more_goes_out_while_replies_are_under_way(partition: str) -> None:
    async def whole() -> None:
        asked, second = bytearray(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"PING\r\n")
            writer.write(b"+PONG\r\n")
            while b"MGET" not in asked:
                asked.extend(await reader.read(1024))
                # Only now does the second caller come; the first still has no reply.
                second.set()
            writer.write(b"+OK\r\n*1\r\n$1\r\n1\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        cache = await BACKEND.open(config(f"redis://127.0.0.1:{port}"), AsyncRuntime())
        first = asyncio.create_task(cache.set(partition, "a", b"1", ttl=60))
        await second.wait()
        assert await one(cache, partition, "a") == b"1"
        assert (await first).stored
        assert asked.index(b"SET") < asked.index(b"MGET")
        await cache.close()
        server.close()
        await server.wait_closed()

    asyncio.run(whole())


@pytest.mark.parametrize("count", [MAX_CALLS + 1, 3 * MAX_CALLS])
def test_a_write_is_bounded_in_calls(server: ValkeyServer, partition: str, count: int) -> None:
    async def scenario(cache: RedisCache) -> None:
        found = await at_once(
            *(cache.increment(partition, "n", 1, initial=None, ttl=None) for _ in range(count))
        )
        assert [counted.value for counted in found] == list(range(1, count + 1))

    on("async", config(server.url), scenario)


def test_a_write_is_bounded_in_bytes(server: ValkeyServer, partition: str) -> None:
    value = bytes(MAX_BYTES // 2 - 200)

    async def scenario(cache: RedisCache) -> None:
        await at_once(*(cache.set(partition, f"k{n}", value, ttl=60) for n in range(9)))
        await at_once(cache.set(partition, "large", bytes(3 * MAX_BYTES), ttl=60))
        found = await at_once(*(one(cache, partition, f"k{n}") for n in range(9)))
        assert found == [value] * 9

    on("async", config(server.url), scenario)


def test_an_error_reply_is_that_callers_only(url: str, proxy: ValkeyProxy, partition: str) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "text", b"seven", ttl=60)
        proxy.clear()
        before, failed, after = await at_once(
            cache.set(partition, "a", b"1", ttl=60),
            cache.increment(partition, "text", 1, initial=None, ttl=None),
            one(cache, partition, "a"),
        )
        assert before.stored
        assert isinstance(failed, PreconditionFailedError)
        assert after == b"1"
        assert proxy.reads == 1
        assert proxy.connections == 1

    on("async", config(url), scenario)


def test_who_is_cancelled_harms_no_other(url: str, proxy: ValkeyProxy, partition: str) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.ping()
        stall = proxy.stall("SET")
        tasks = [
            asyncio.create_task(cache.set(partition, f"k{n}", b"%d" % n, ttl=60, along=[f"k{n}"]))
            for n in range(10)
        ]
        assert await asyncio.to_thread(stall.hit)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.sleep(0)
        stall.release()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in done[::2])
        seen = [list(outcome.along) for outcome in done if isinstance(outcome, Stored)]
        assert seen == [[b"%d" % n] for n in range(1, 10, 2)]
        # The replies of the cancelled were read, too: the next ones are the right ones.
        assert await one(cache, partition, "k7") == b"7"
        assert proxy.connections == 1

    on("async", config(url), scenario)


def test_who_is_cancelled_before_the_turn_ends_sends_nothing(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.ping()
        proxy.clear()
        lost = asyncio.create_task(cache.set(partition, "a", b"1", ttl=60))
        kept = asyncio.create_task(cache.set(partition, "b", b"1", ttl=60))
        asyncio.get_running_loop().call_soon(lost.cancel)
        await asyncio.wait((lost, kept))
        assert lost.cancelled()
        assert kept.result().stored
        assert await one(cache, partition, "a") is None
        assert proxy.commands == ["SET", "MGET"]

    on("async", config(url), scenario)


def test_everyone_cancelled_leaves_the_connection_usable(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        stall = proxy.stall("PING")
        tasks = [asyncio.create_task(one(cache, partition, "a")) for _ in range(3)]
        assert await asyncio.to_thread(stall.hit)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        stall.release()
        assert await one(cache, partition, "a") is None
        assert proxy.commands == ["PING", "MGET"]

    on("async", config(url), scenario)


def test_a_lost_connection_is_told_to_each_by_an_error_of_its_own(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.ping()
        proxy.lose_reply("MGET")
        answered, *failed = await at_once(
            cache.set(partition, "a", b"1", ttl=60),
            *(one(cache, partition, "a") for _ in range(5)),
        )
        assert answered.stored
        assert all(isinstance(error, UnavailableError) for error in failed)
        assert all(error.retryable and not error.not_sent for error in failed)
        assert len({id(error) for error in failed}) == 5
        assert await one(cache, partition, "a") == b"1"
        assert proxy.connections == 2

    on("async", config(url), scenario)


def test_a_silent_server_is_a_deadline_for_all_and_then_forgotten(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.ping()
        proxy.stall("MGET")
        failed = await at_once(*(one(cache, partition, "a") for _ in range(3)))
        assert all(isinstance(error, DeadlineExceededError) for error in failed)
        assert all(error.retryable and not error.not_sent for error in failed)
        assert await one(cache, partition, "a") is None

    on("async", config(url, read_timeout=0.2), scenario)


def test_a_server_that_does_not_greet_is_unavailable_and_nothing_was_sent(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        proxy.stall("PING")
        failed = await at_once(*(one(cache, partition, "a") for _ in range(3)))
        assert all(isinstance(error, UnavailableError) for error in failed)
        assert all(error.not_sent for error in failed)
        assert len({id(error) for error in failed}) == 3

    on("async", config(url, connect_timeout=0.1, read_timeout=0.1), scenario)


def test_a_connection_that_died_while_idle_costs_nobody_a_call(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        for _ in range(5):
            assert await one(cache, partition, "a") is None
            proxy.drop()
            # The server's goodbye is a moment on its way.
            link: Any = cache._link
            await asyncio.wait((link._wire._reader,), timeout=5)

    on("async", config(url), scenario)
    assert proxy.connections == 5


def test_the_connection_does_not_live_in_its_first_callers_context(
    server: ValkeyServer, partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: set[str] = set()
    batch = Wire._batch

    def noting(wire: Wire) -> list[bytes]:
        seen.add(tenant.get())
        return batch(wire)

    monkeypatch.setattr(Wire, "_batch", noting)

    async def scenario(cache: RedisCache) -> None:
        tenant.set("first")
        await one(cache, partition, "a")

    on("async", config(server.url), scenario)
    assert seen == {"nobody"}


def test_closing_tells_who_waits_and_refuses_who_comes(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def whole() -> None:
        cache = await BACKEND.open(config(url), AsyncRuntime())
        await cache.ping()
        stall = proxy.stall("MGET", reached=True)
        waiting = asyncio.create_task(one(cache, partition, "a"))
        assert await asyncio.to_thread(stall.hit)
        await cache.close()
        [told] = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(told, UnavailableError)
        assert not told.not_sent
        [refused] = await at_once(one(cache, partition, "a"))
        assert isinstance(refused, UnavailableError)
        assert refused.not_sent
        await cache.close()
        stall.release()

    asyncio.run(whole())


def test_closing_while_it_connects_leaves_nothing_behind(
    url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def whole() -> None:
        cache = await BACKEND.open(config(url), AsyncRuntime())
        stall = proxy.stall("PING")
        waiting = asyncio.create_task(one(cache, partition, "a"))
        assert await asyncio.to_thread(stall.hit)
        await cache.close()
        [told] = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(told, PlatformError)
        assert told.not_sent
        stall.release()

    asyncio.run(whole())


def test_a_loop_that_ends_without_close_complains_of_nothing(
    server: ValkeyServer, partition: str
) -> None:
    async def whole() -> None:
        cache = await BACKEND.open(config(server.url), AsyncRuntime())
        await cache.set(partition, "n", entry(1, b"1"), ttl=60)

    asyncio.run(whole())
