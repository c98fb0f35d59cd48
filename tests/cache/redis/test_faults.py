"""What the network and a crash may do to a request, and what each caller is told."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cm_platform.cache.backend import Counted
from cm_platform.cache.entry import decode
from cm_platform.cache.redis import BACKEND, RedisCache
from cm_platform.errors import (
    AmbiguousError,
    DeadlineExceededError,
    PlatformError,
    UnavailableError,
)
from cm_platform.operation import Operation
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, drive
from cm_platform.testing.servers.valkey import ValkeyServer, ask
from cm_platform.testing.servers.valkey_proxy import ValkeyProxy

from .redis_faces import (
    PATIENCE,
    Face,
    config,
    entry,
    executor,
    failure,
    on,
    one,
    opened,
    run,
    runtime_of,
    until,
)

GET = Operation("cache", "get", "read")
SET = Operation("cache", "set", "write")
INCREMENT = Operation("cache", "increment", "write", idempotent=False)
OUTLASTING = 10
"""Attempts that go on for longer than a restart takes."""


@pytest.fixture
def url(server: ValkeyServer, proxy: ValkeyProxy) -> str:
    return server.url_at(proxy.port)


def test_a_lost_reply_is_unavailable_and_may_have_had_an_effect(
    face: Face, url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        proxy.lose_reply("SET")
        error = await failure(cache, cache.set(partition, "a", b"1", ttl=60))
        assert isinstance(error, UnavailableError)
        assert (error.retryable, error.not_sent) == (True, False)
        assert await one(cache, partition, "a") == b"1"

    on(face, config(url), scenario)


def test_a_silent_server_is_a_deadline_and_its_late_reply_is_nobodys(
    face: Face, url: str, proxy: ValkeyProxy, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        stall = proxy.stall("SET", reached=True)
        error = await failure(cache, cache.set(partition, "a", b"1", ttl=60, along=["b"]))
        assert isinstance(error, DeadlineExceededError)
        assert (error.retryable, error.not_sent) == (True, False)
        stall.release()
        assert await one(cache, partition, "a") == b"1"

    on(face, config(url, read_timeout=0.2), scenario)


@pytest.mark.parametrize("kind", ["entry", "text", "text with a time"])
def test_200_increments_with_20_lost_replies_each_caller_knows(
    face: Face, server: ValkeyServer, url: str, proxy: ValkeyProxy, partition: str, kind: str
) -> None:
    """A client that sends again would leave the counter at 220, and tell nobody."""
    initial = entry(1, b"1") if kind == "entry" else None
    ttl = 60.0 if kind == "text with a time" else None
    runtime = runtime_of(face)

    async def whole() -> list[Any]:
        cache = await BACKEND.open(config(url), runtime)
        path = executor(cache, runtime)

        async def increment() -> Any:
            try:
                return await path.run(
                    INCREMENT,
                    lambda backend: backend.increment(partition, "n", 1, initial=initial, ttl=ttl),
                )
            except PlatformError as error:
                return error

        # The script is known before, so that each increment is one command.
        await cache.increment(partition, "warm", 1, initial=initial, ttl=ttl)
        command = "INCRBY" if kind == "text" else "EVALSHA"
        proxy.clear()
        proxy.lose_reply(command, times=20, every=10)
        outcomes = [await increment() for _ in range(200)]
        assert proxy.forwarded(command) == 200
        await cache.close()
        return outcomes

    outcomes = run(face, whole())
    told = [outcome.value for outcome in outcomes if isinstance(outcome, Counted)]
    doubts = [outcome for outcome in outcomes if isinstance(outcome, AmbiguousError)]
    assert (len(told), len(doubts)) == (180, 20)
    assert told == [value for value in range(1, 201) if value % 10]
    kept = ask(server.port, "GET", f"{partition}n")
    assert kept == (entry(1, b"200") if kind == "entry" else b"200")


def test_200_increments_at_once_with_lost_replies_each_caller_knows(
    server: ValkeyServer, url: str, proxy: ValkeyProxy, partition: str
) -> None:
    """On a shared connection a lost reply takes those behind it along. None is sent twice.

    Where the budget of retries is used up by then, who was not sent is told so.
    """

    async def whole() -> list[Any]:
        runtime = AsyncRuntime()
        cache = await BACKEND.open(config(url), runtime)
        path = executor(cache, runtime)
        proxy.lose_reply("INCRBY", times=20, every=7)
        outcomes: list[Any] = []

        async def worker() -> None:
            for _ in range(10):
                try:
                    counted = await path.run(
                        INCREMENT,
                        lambda backend: backend.increment(
                            partition, "n", 1, initial=None, ttl=None
                        ),
                    )
                    outcomes.append(counted.value)
                except AmbiguousError:
                    outcomes.append(None)
                except UnavailableError as error:
                    assert error.not_sent, "whether it has counted is not told"
                    outcomes.append("not sent")

        await asyncio.gather(*(worker() for _ in range(20)))
        await cache.close()
        return outcomes

    outcomes = asyncio.run(whole())
    unsent = outcomes.count("not sent")
    told = [value for value in outcomes if isinstance(value, int)]
    kept = int(ask(server.port, "GET", f"{partition}n"))
    assert len(outcomes) == 200
    assert len(set(told)) == len(told), "two callers were given one number"
    assert outcomes.count(None) >= 20
    assert len(told) <= kept <= 200 - unsent
    assert kept == proxy.forwarded("INCRBY")


def test_reads_and_idempotent_writes_are_tried_again(
    face: Face, url: str, proxy: ValkeyProxy, partition: str
) -> None:
    runtime = runtime_of(face)

    async def whole() -> None:
        cache = await BACKEND.open(config(url), runtime)
        path = executor(cache, runtime)
        proxy.lose_reply("SET")
        proxy.cut("MGET")
        await path.run(SET, lambda backend: backend.set(partition, "a", b"1", ttl=60))
        found = await path.run(GET, lambda backend: backend.get_many(partition, ["a"]))
        assert list(found) == [b"1"]
        await cache.close()
        await runtime.close()

    run(face, whole())


def test_an_increment_that_was_not_sent_is_tried_again(
    face: Face, url: str, proxy: ValkeyProxy, partition: str
) -> None:
    runtime = runtime_of(face)

    async def whole() -> None:
        cache = await BACKEND.open(config(url, connect_timeout=1), runtime)
        path = executor(cache, runtime)
        down = proxy.down()
        down.__enter__()
        threading.Timer(0.05, down.__exit__, (None, None, None)).start()
        counted = await path.run(
            INCREMENT,
            lambda backend: backend.increment(partition, "n", 1, initial=None, ttl=None),
        )
        assert counted.value == 1
        await cache.close()
        await runtime.close()

    run(face, whole())


def test_a_server_that_still_loads_is_tried_again_even_for_an_increment(
    face: Face, partition: str
) -> None:
    runtime = runtime_of(face)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def serve() -> None:
            for greeting in (b"-LOADING Valkey is loading the dataset in memory", b"+PONG"):
                connection, _ = listener.accept()
                with connection:
                    assert b"PING" in connection.recv(1024)
                    connection.sendall(greeting + b"\r\n")
                    if greeting == b"+PONG":
                        assert b"INCRBY" in connection.recv(1024)
                        connection.sendall(b":7\r\n")

        async def whole() -> Counted:
            cache = await BACKEND.open(config(address), runtime)
            counted: Counted = await executor(cache, runtime).run(
                INCREMENT,
                lambda backend: backend.increment(partition, "n", 1, initial=None, ttl=None),
            )
            await cache.close()
            return counted

        address = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with ThreadPoolExecutor(1) as pool:
            serving = pool.submit(serve)
            assert run(face, whole()).value == 7
            serving.result(PATIENCE)


def test_a_master_that_became_a_replica_is_left_for_whoever_its_name_leads_to(
    face: Face, partition: str
) -> None:
    """A failover moves a name. Connections that stay would be refused for ever."""
    with ValkeyServer() as demoted, ValkeyProxy(demoted.port) as name:

        async def scenario(cache: RedisCache) -> None:
            await cache.set(partition, "a", b"1", ttl=60)
            ask(demoted.port, "REPLICAOF", "127.0.0.1", "1")
            refused = await failure(cache, cache.set(partition, "a", b"2", ttl=60))
            assert isinstance(refused, UnavailableError)
            assert (refused.retryable, refused.not_sent) == (True, True)
            ask(demoted.port, "REPLICAOF", "NO", "ONE")
            assert (await cache.set(partition, "a", b"3", ttl=60)).stored
            assert name.connections == 2

        on(face, config(demoted.url_at(name.port)), scenario)


def test_a_replica_that_was_a_master_answers_those_who_still_wait(partition: str) -> None:
    with ValkeyServer() as demoted:

        async def scenario(cache: RedisCache) -> None:
            await cache.set(partition, "a", b"1", ttl=60)
            ask(demoted.port, "REPLICAOF", "127.0.0.1", "1")
            refused, *found = await asyncio.gather(
                cache.set(partition, "a", b"2", ttl=60),
                *(one(cache, partition, "a") for _ in range(3)),
                return_exceptions=True,
            )
            assert isinstance(refused, UnavailableError)
            assert found == [b"1"] * 3

        on("async", config(demoted.url), scenario)


@pytest.fixture
def durable() -> Iterator[ValkeyServer]:
    with ValkeyServer(durable=True) as server:
        yield server


class Load:
    """Workers that count under a name of their own, and what they were told."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.told: Counter[str] = Counter()
        self.doubts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.stop = False

    async def work(self, path: Any, partition: str, name: str) -> None:
        value = 0
        while not self.stop:
            try:
                counted = await path.run(
                    INCREMENT,
                    lambda backend: backend.increment(
                        partition, name, 1, initial=entry(1, b"1"), ttl=None
                    ),
                )
                value = self.told[name] = counted.value
                expected = b"%d" % value
                [kept] = await path.run(GET, lambda backend: backend.get_many(partition, [name]))
                assert kept == entry(1, expected)
            except AmbiguousError:
                self.doubts[name] += 1
            except PlatformError:
                self.failed[name] += 1

    def check(self, server: ValkeyServer, partition: str) -> None:
        """Nothing acknowledged is lost; one failed call a connection, at most."""
        assert not self.failed
        for number in range(self.workers):
            name = f"w{number}"
            kept = int(decode(ask(server.port, "GET", f"{partition}{name}")).payload)
            assert self.told[name] <= kept <= self.told[name] + self.doubts[name]
            assert self.doubts[name] <= 1


def test_killed_and_restarted_under_load_threads(durable: ValkeyServer, partition: str) -> None:
    load = Load(4)
    runtime = BlockingRuntime()
    cache = opened(config(durable.url, pool_size=4))
    path = executor(cache, runtime, attempts=OUTLASTING)
    try:
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(drive, load.work(path, partition, f"w{n}")) for n in range(4)]
            crash(durable, load)
            for worker in running:
                worker.result(PATIENCE)
    finally:
        load.stop = True
        drive(cache.close())
    load.check(durable, partition)


def test_killed_and_restarted_under_load_tasks(durable: ValkeyServer, partition: str) -> None:
    load = Load(4)

    async def whole() -> None:
        runtime = AsyncRuntime()
        cache = await BACKEND.open(config(durable.url), runtime)
        path = executor(cache, runtime, attempts=OUTLASTING)
        crashing = asyncio.create_task(asyncio.to_thread(crash, durable, load))
        await asyncio.gather(*(load.work(path, partition, f"w{n}") for n in range(4)))
        await crashing
        await cache.close()

    asyncio.run(whole())
    load.check(durable, partition)


def crash(server: ValkeyServer, load: Load) -> None:
    """SIGKILL in the middle of the work, and back again."""
    try:
        until(lambda: sum(load.told.values()) > 200)
        server.kill()
        server.start()
        after = sum(load.told.values())
        until(lambda: sum(load.told.values()) > after + 200)
    finally:
        load.stop = True
