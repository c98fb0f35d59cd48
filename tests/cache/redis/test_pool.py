"""The blocking face: threads share a bounded pool, and a dead connection costs little."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cm_platform.cache.redis import RedisCache
from cm_platform.errors import UnavailableError
from cm_platform.runtime import drive
from cm_platform.testing.servers.valkey import ValkeyServer
from cm_platform.testing.servers.valkey_proxy import ValkeyProxy

from .redis_faces import config, one, opened, until


def test_one_lost_connection_empties_the_whole_pool(
    server: ValkeyServer, proxy: ValkeyProxy, partition: str
) -> None:
    """After a restart all idle connections are dead. At most the call that found out fails."""
    cache = opened(config(server.url_at(proxy.port), pool_size=8))
    together = threading.Barrier(8)

    def begin(_: int) -> None:
        together.wait()
        stored = drive(cache.set(partition, "a", b"1", ttl=60))
        assert stored.stored

    try:
        stall = proxy.stall("SET", times=8)
        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(begin, number) for number in range(8)]
            until(lambda: proxy.commands.count("SET") == 8)
            stall.release()
            for one_of in running:
                one_of.result()
        assert proxy.connections == 8
        proxy.drop()
        for _ in range(16):
            assert drive(one(cache, partition, "a")) == b"1"
        assert proxy.connections == 9
    finally:
        drive(cache.close())


def test_a_pool_that_is_used_up_says_so(
    server: ValkeyServer, proxy: ValkeyProxy, partition: str
) -> None:
    settings = config(server.url_at(proxy.port), pool_size=1, connect_timeout=0.1)
    cache = opened(settings)
    try:
        stall = proxy.stall("MGET")
        with ThreadPoolExecutor(1) as pool:
            busy = pool.submit(lambda: drive(one(cache, partition, "a")))
            assert stall.hit()
            with pytest.raises(UnavailableError, match="all 1 connections are in use") as refused:
                drive(one(cache, partition, "a"))
            assert (refused.value.retryable, refused.value.not_sent) == (True, True)
            stall.release()
            assert busy.result() is None
        assert drive(one(cache, partition, "a")) is None
        assert proxy.connections == 1
    finally:
        drive(cache.close())


def test_more_threads_than_connections_wait_for_their_turn(
    server: ValkeyServer, partition: str
) -> None:
    cache = opened(config(server.url, pool_size=2))

    def work(number: int) -> bytes | None:
        drive(cache.set(partition, f"k{number}", b"%d" % number, ttl=60))
        return drive(one(cache, partition, f"k{number}"))

    try:
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(work, range(300))) == [b"%d" % n for n in range(300)]
    finally:
        drive(cache.close())


def test_an_interrupted_call_leaves_no_reply_for_the_next(
    server: ValkeyServer, proxy: ValkeyProxy, partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened(config(server.url_at(proxy.port)))
    try:
        drive(cache.set(partition, "a", b"1", ttl=60))
        drive(cache.set(partition, "b", b"2", ttl=60))
        [connection] = idle(cache)
        read = connection.read_response

        def interrupted(**_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            drive(one(cache, partition, "a"))
        monkeypatch.setattr(connection, "read_response", read)
        assert drive(one(cache, partition, "b")) == b"2"
        assert proxy.connections == 2
    finally:
        drive(cache.close())


def test_close_lets_go_of_what_is_idle_and_refuses_what_comes(
    server: ValkeyServer, partition: str
) -> None:
    cache = opened(config(server.url))
    drive(cache.ping())
    assert cache.native().ping()
    drive(cache.close())
    drive(cache.close())
    with pytest.raises(UnavailableError, match="closed") as refused:
        drive(one(cache, partition, "a"))
    assert refused.value.not_sent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_opens_its_own_and_leaves_the_parents_alone(
    server: ValkeyServer, partition: str
) -> None:
    """The opener drops what a child inherits, unclosed. Its end must not end the parent's."""
    cache = opened(config(server.url))
    drive(cache.set(partition, "a", b"1", ttl=60))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = opened(config(server.url))
            drive(own.set(partition, "a", b"2", ttl=60))
            del cache
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    [connection] = idle(cache)
    assert drive(one(cache, partition, "a")) == b"2"
    assert idle(cache) == [connection]
    drive(cache.close())


def idle(cache: RedisCache) -> list[Any]:
    """The connections of the pool that nobody uses."""
    link: Any = cache._link
    return list(link._idle)
