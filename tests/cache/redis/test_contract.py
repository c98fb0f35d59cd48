"""What each method of the backend promises, against a real Valkey, on both faces."""

from __future__ import annotations

import time

import pytest

from cm_platform.cache.backend import CacheCapability, Condition, Stored
from cm_platform.cache.redis import RedisCache
from cm_platform.cache.redis.store import _expiry
from cm_platform.errors import InvalidArgumentError, NotFoundError, PreconditionFailedError
from cm_platform.testing.servers.valkey import ValkeyServer, ask

from .redis_faces import Face, config, failure, on, one


def test_what_was_set_is_read_in_order_and_absent_keys_are_none(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        assert await cache.set(partition, "a", b"1", ttl=None) == Stored(True)
        assert await cache.set(partition, "b", bytes(range(256)), ttl=60) == Stored(True)
        values = await cache.get_many(partition, ["b", "absent", "a", "a"])
        assert list(values) == [bytes(range(256)), None, b"1", b"1"]

    on(face, config(server.url), scenario)


@pytest.mark.parametrize(
    "key",
    ["plain", "with space", "*?[ab]", "{tag}", "}{", "a:b", "../x", "clé-🗝", "x" * 400, "%00"],
)
def test_a_key_is_kept_byte_for_byte(
    face: Face, server: ValkeyServer, partition: str, key: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, key, b"1", ttl=None)
        assert await one(cache, partition, key) == b"1"

    on(face, config(server.url), scenario)
    assert ask(server.port, "GET", f"{partition}{key}") == b"1"


def test_a_large_value_comes_back_whole(face: Face, server: ValkeyServer, partition: str) -> None:
    value = bytes(range(256)) * 65_536  # 16 MiB

    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "large", value, ttl=None)
        assert await one(cache, partition, "large") == value

    on(face, config(server.url), scenario)


@pytest.mark.parametrize(
    ("only_if", "there", "stored"),
    [
        ("absent", False, True),
        ("absent", True, False),
        ("present", False, False),
        ("present", True, True),
    ],
)
def test_a_condition_decides_whether_a_value_is_kept(
    face: Face, server: ValkeyServer, partition: str, only_if: Condition, there: bool, stored: bool
) -> None:
    async def scenario(cache: RedisCache) -> None:
        if there:
            await cache.set(partition, "a", b"old", ttl=None)
        reply = await cache.set(partition, "a", b"new", ttl=None, only_if=only_if)
        assert reply.stored is stored
        found = await one(cache, partition, "a")
        assert found == (b"new" if stored else b"old" if there else None)

    on(face, config(server.url), scenario)


def test_setting_replaces_value_and_time_together(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "a", b"1", ttl=60)
        await cache.set(partition, "a", b"2", ttl=None)
        assert await cache.ttl(partition, "a") is None

    on(face, config(server.url), scenario)


def test_along_is_read_after_the_write(face: Face, server: ValkeyServer, partition: str) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "g", b"7", ttl=None)
        reply = await cache.set(partition, "a", b"1", ttl=None, along=["a", "g", "absent"])
        assert (reply.stored, list(reply.along)) == (True, [b"1", b"7", None])
        many = await cache.set_many(partition, {"a": b"2", "b": b"3"}, ttl=5, along=["b", "a"])
        assert (dict(many.failures), list(many.along)) == ({}, [b"3", b"2"])
        counted = await cache.increment(partition, "n", 3, initial=None, ttl=None, along=["n", "g"])
        assert (counted.value, list(counted.along)) == (3, [b"3", b"7"])

    on(face, config(server.url), scenario)


def test_a_thousand_keys_in_one_request(face: Face, server: ValkeyServer, partition: str) -> None:
    values = {f"k{number}": str(number).encode() for number in range(1000)}

    async def scenario(cache: RedisCache) -> None:
        assert len(values) == cache.limits.max_batch
        assert not (await cache.set_many(partition, values, ttl=60)).failures
        assert list(await cache.get_many(partition, list(values))) == list(values.values())
        assert not await cache.delete_many(partition, [*values, "absent"])
        assert set(await cache.get_many(partition, list(values))) == {None}

    on(face, config(server.url), scenario)


@pytest.mark.parametrize(("ttl", "expected"), [(0.0004, 1), (0.001, 1), (1.0015, 1002), (5, 5000)])
def test_a_time_is_kept_in_whole_milliseconds_and_is_never_zero(ttl: float, expected: int) -> None:
    assert _expiry(ttl) == ("PX", expected)


@pytest.mark.parametrize("ttl", [0.05, 0.3])
def test_a_value_is_gone_when_its_time_is_over_and_not_before(
    face: Face, server: ValkeyServer, partition: str, ttl: float
) -> None:
    async def scenario(cache: RedisCache) -> None:
        before = time.monotonic()
        await cache.set(partition, "a", b"1", ttl=ttl)
        after = time.monotonic()
        while await one(cache, partition, "a") is not None:
            assert time.monotonic() < after + ttl + 0.1
        assert time.monotonic() > before + ttl - 0.002

    on(face, config(server.url), scenario)


def test_a_time_of_centuries_is_for_redis_no_error(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        assert (await cache.set(partition, "a", b"1", ttl=1e18)).stored
        assert await cache.expire(partition, "a", 1e18)
        left = await cache.ttl(partition, "a")
        assert left is not None
        assert left > 1e15

    on(face, config(server.url), scenario)


def test_ttl_tells_what_is_left_forever_and_nothing(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "a", b"1", ttl=100)
        left = await cache.ttl(partition, "a")
        assert left is not None
        assert 99 < left <= 100
        await cache.set(partition, "b", b"1", ttl=None)
        assert await cache.ttl(partition, "b") is None
        assert isinstance(await failure(cache, cache.ttl(partition, "absent")), NotFoundError)

    on(face, config(server.url), scenario)


def test_expire_gives_a_new_time_or_takes_it(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "a", b"1", ttl=None)
        assert await cache.expire(partition, "a", 50) is True
        left = await cache.ttl(partition, "a")
        assert left is not None
        assert 49 < left <= 50
        assert await cache.expire(partition, "a", None) is True
        assert await cache.ttl(partition, "a") is None
        assert await cache.expire(partition, "a", None) is True
        assert await cache.expire(partition, "absent", 5) is False
        assert await cache.expire(partition, "absent", None) is False

    on(face, config(server.url), scenario)


def test_compare_and_set_replaces_exactly_what_was_expected(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        async def act(expected: bytes | None, value: bytes | None) -> bool:
            return await cache.compare_and_set(partition, "a", expected, value, ttl=60)

        assert not await act(b"1", b"2"), "absent is not b'1'"
        assert await act(None, b"1")
        assert not await act(None, b"2"), "it is not absent"
        assert not await act(b"\x00", b"2")
        assert await act(b"1", b"\x00\xff")
        assert await one(cache, partition, "a") == b"\x00\xff"
        assert not await act(b"\x00\xfe", None)
        assert not await act(None, None), "it is not absent"
        assert await act(b"\x00\xff", None)
        assert await one(cache, partition, "a") is None
        assert await act(None, None)

    on(face, config(server.url), scenario)


@pytest.mark.parametrize("ttl", [None, 50.0])
def test_compare_and_set_gives_the_time_with_the_value(
    face: Face, server: ValkeyServer, partition: str, ttl: float | None
) -> None:
    async def scenario(cache: RedisCache) -> None:
        for expected, value in ((None, b"1"), (b"1", b"2")):
            assert await cache.compare_and_set(partition, "a", expected, value, ttl=ttl)
            left = await cache.ttl(partition, "a")
            assert (left is None) if ttl is None else (left is not None and 49 < left <= 50)

    on(face, config(server.url), scenario)


def test_an_empty_value_is_not_an_absent_one(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "a", b"", ttl=None)
        assert await one(cache, partition, "a") == b""
        assert not await cache.compare_and_set(partition, "a", None, b"1", ttl=None)
        assert await cache.compare_and_set(partition, "a", b"", b"", ttl=None)
        assert await cache.compare_and_set(partition, "a", b"", b"1", ttl=None)

    on(face, config(server.url), scenario)


def test_what_is_no_string_is_no_value_and_is_not_compared(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    ask(server.port, "RPUSH", f"{partition}list", "1")

    async def scenario(cache: RedisCache) -> None:
        assert await one(cache, partition, "list") is None
        compared = cache.compare_and_set(partition, "list", b"1", b"2", ttl=None)
        assert isinstance(await failure(cache, compared), PreconditionFailedError)

    on(face, config(server.url), scenario)


def test_an_amount_beyond_64_bit_is_refused_before_it_is_sent(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        for amount in (1 << 63, -(1 << 63) - 1):
            counting = cache.increment(partition, "n", amount, initial=None, ttl=None)
            assert isinstance(await failure(cache, counting), InvalidArgumentError)
        assert await one(cache, partition, "n") is None

    on(face, config(server.url), scenario)


def test_it_says_what_it_can(face: Face, server: ValkeyServer) -> None:
    async def scenario(cache: RedisCache) -> None:
        assert cache.capabilities == frozenset(CacheCapability)
        assert cache.evicts
        assert cache.max_request_lifetime > 0
        await cache.ping()

    on(face, config(server.url), scenario)

    async def lagging(cache: RedisCache) -> None:
        assert CacheCapability.READ_YOUR_WRITES not in cache.capabilities
        assert cache.limits.staleness == 2

    on(face, config(server.url, staleness=2), lagging)
