"""Counters inside entries: exact in 64 bit, bound to their generation, never someone else's."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from cm_platform.cache.redis import BACKEND, RedisCache
from cm_platform.errors import InvalidArgumentError, PreconditionFailedError
from cm_platform.runtime import AsyncRuntime, drive
from cm_platform.testing.servers.valkey import ValkeyServer, ask

from .redis_faces import JSON, Face, config, entry, failure, on, one, opened

MAX = (1 << 63) - 1
MIN = -(1 << 63)


def test_an_absent_counter_begins_with_the_initial_entry(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        counted = await cache.increment(partition, "n", 7, initial=entry(5, b"7"), ttl=60)
        assert (counted.value, counted.stamp, counted.along) == (7, 5, ())
        assert await one(cache, partition, "n") == entry(5, b"7")
        left = await cache.ttl(partition, "n")
        assert left is not None
        assert 59 < left <= 60

    on(face, config(server.url), scenario)


def test_a_counter_keeps_its_header_and_its_time(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "n", entry(9, b"41"), ttl=100)
        counted = await cache.increment(partition, "n", 1, initial=entry(5, b"1"), ttl=7)
        assert (counted.value, counted.stamp) == (42, 9)
        assert await one(cache, partition, "n") == entry(9, b"42")
        left = await cache.ttl(partition, "n")
        assert left is not None
        assert 99 < left <= 100
        await cache.set(partition, "n", entry(9, b"41"), ttl=None)
        await cache.increment(partition, "n", 1, initial=entry(5, b"1"), ttl=7)
        assert await cache.ttl(partition, "n") is None

    on(face, config(server.url), scenario)


# Stamps that differ in one byte each, around bytes that a locale or a double would get wrong.
STAMPS = [
    (0, 1),
    (1, 256),
    (0x7F, 0x80),
    (0x00_FF, 0x01_00),
    (0x41, 0x61),
    (0x61, 0xC3_A9),
    (2**53, 2**53 + 1),
    (2**63 - 1, 2**63),
    (2**64 - 2, 2**64 - 1),
    (0x0000_0001_0000_0000, 0x0000_0002_0000_0000),
]


@pytest.mark.parametrize(("low", "high"), STAMPS)
def test_a_lower_stamp_is_replaced_and_a_higher_one_stays(
    face: Face, server: ValkeyServer, partition: str, low: int, high: int
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "old", entry(low, b"100"), ttl=None)
        replaced = await cache.increment(partition, "old", 1, initial=entry(high, b"1"), ttl=60)
        assert (replaced.value, replaced.stamp) == (1, high)
        assert await one(cache, partition, "old") == entry(high, b"1")
        assert await cache.ttl(partition, "old") is not None

        await cache.set(partition, "new", entry(high, b"100"), ttl=None)
        kept = await cache.increment(partition, "new", 1, initial=entry(low, b"1"), ttl=60)
        assert (kept.value, kept.stamp) == (101, high)

    on(face, config(server.url), scenario)


def test_an_outdated_value_of_another_kind_is_replaced(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "n", entry(1, b'{"a":1}', encoding=JSON), ttl=None)
        counted = await cache.increment(partition, "n", 1, initial=entry(2, b"1"), ttl=None)
        assert counted.value == 1

    on(face, config(server.url), scenario)


@pytest.mark.parametrize(
    "kept",
    [
        entry(5, b"7", encoding=JSON),
        entry(5, b"7", flags=0x10),
        entry(5, b"7", flags=0x20),
        entry(5, b"seven"),
        entry(5, b""),
        entry(5, b"0x10"),
        entry(5, b" 7"),
        entry(5, b"1e3"),
        entry(5, b"1\n"),
        entry(5, b"9" * 30),
        b"7",
        b"",
        b"\xc5\x03",
    ],
)
@pytest.mark.parametrize("amount", [1, MAX])
def test_what_is_no_counter_is_refused_and_stays(
    face: Face, server: ValkeyServer, partition: str, kept: bytes, amount: int
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "n", kept, ttl=100)
        counting = cache.increment(
            partition, "n", amount, initial=entry(5, str(amount).encode()), ttl=None
        )
        assert isinstance(await failure(cache, counting), PreconditionFailedError)
        assert await one(cache, partition, "n") == kept
        left = await cache.ttl(partition, "n")
        assert left is not None
        assert left > 99

    on(face, config(server.url), scenario)


@pytest.mark.parametrize(
    ("kept", "amount"),
    [
        (0, 0),
        (-5, 5),
        (5, -5),
        (-1, -1),
        (999_999_999_999_999, 1),
        (-999_999_999_999_999, -999_999_999_999_999),
        (999_999_999_999_999, 999_999_999_999_999),
        (2**53, 1),
        (-(2**53), -1),
        (2**53 + 1, -1),
        (MAX - 1, 1),
        (MAX, 0),
        (MAX, MIN),
        (MIN + 1, -1),
        (MIN, 0),
        (MIN, MAX),
        (0, MAX),
        (0, MIN),
        (123_456_789_012_345_678, 987_654_321_098_765_432),
    ],
)
@pytest.mark.parametrize("kind", ["entry", "text", "text with a time"])
def test_sums_are_exact_to_the_last_bit(
    face: Face, server: ValkeyServer, partition: str, kept: int, amount: int, kind: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        text = str(kept).encode()
        if kind == "entry":
            await cache.set(partition, "n", entry(5, text), ttl=100)
            counted = await cache.increment(
                partition, "n", amount, initial=entry(5, b"0"), ttl=None
            )
            wanted = entry(5, str(kept + amount).encode())
        else:
            await cache.set(partition, "n", text, ttl=100)
            ttl = 5.0 if kind == "text with a time" else None
            counted = await cache.increment(partition, "n", amount, initial=None, ttl=ttl)
            wanted = str(kept + amount).encode()
        assert counted.value == kept + amount
        assert await one(cache, partition, "n") == wanted
        left = await cache.ttl(partition, "n")
        assert left is not None
        assert left > 99

    on(face, config(server.url), scenario)


@pytest.mark.parametrize(("kept", "amount"), [(MAX, 1), (1, MAX), (MIN, -1), (-1, MIN), (MIN, MIN)])
@pytest.mark.parametrize("kind", ["entry", "text", "text with a time"])
def test_a_sum_beyond_64_bit_is_refused_and_nothing_changes(
    face: Face, server: ValkeyServer, partition: str, kept: int, amount: int, kind: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        text = str(kept).encode()
        before = entry(5, text) if kind == "entry" else text
        await cache.set(partition, "n", before, ttl=100)
        initial = entry(5, b"0") if kind == "entry" else None
        ttl = 5.0 if kind == "text with a time" else None
        counting = cache.increment(partition, "n", amount, initial=initial, ttl=ttl)
        assert isinstance(await failure(cache, counting), InvalidArgumentError)
        assert await one(cache, partition, "n") == before
        left = await cache.ttl(partition, "n")
        assert left is not None
        assert left > 99

    on(face, config(server.url), scenario)


def test_plain_text_counts_from_zero_and_a_time_is_for_new_counters(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        first = await cache.increment(partition, "n", 5, initial=None, ttl=100)
        assert (first.value, first.stamp) == (5, 0)
        assert await one(cache, partition, "n") == b"5"
        left = await cache.ttl(partition, "n")
        assert left is not None
        assert 99 < left <= 100
        assert (await cache.increment(partition, "n", -7, initial=None, ttl=3)).value == -2
        left = await cache.ttl(partition, "n")
        assert left is not None
        assert left > 98
        assert (await cache.increment(partition, "m", 1, initial=None, ttl=None)).value == 1
        assert await cache.ttl(partition, "m") is None

    on(face, config(server.url), scenario)


@pytest.mark.parametrize("ttl", [None, 5.0])
@pytest.mark.parametrize("kept", [b"seven", b"", b"\xc5", b"1.5", entry(5, b"7")])
def test_plain_text_that_is_no_number_is_refused(
    face: Face, server: ValkeyServer, partition: str, kept: bytes, ttl: float | None
) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set(partition, "n", kept, ttl=None)
        counting = cache.increment(partition, "n", 1, initial=None, ttl=ttl)
        assert isinstance(await failure(cache, counting), PreconditionFailedError)
        assert await one(cache, partition, "n") == kept
        assert await cache.ttl(partition, "n") is None

    on(face, config(server.url), scenario)


@pytest.mark.parametrize("initial", [None, entry(5, b"1")])
@pytest.mark.parametrize("ttl", [None, 5.0])
def test_a_list_is_no_counter(
    face: Face, server: ValkeyServer, partition: str, initial: bytes | None, ttl: float | None
) -> None:
    ask(server.port, "RPUSH", f"{partition}n", "1")

    async def scenario(cache: RedisCache) -> None:
        counting = cache.increment(partition, "n", 1, initial=initial, ttl=ttl)
        assert isinstance(await failure(cache, counting), PreconditionFailedError)

    on(face, config(server.url), scenario)


def test_a_server_that_forgot_the_scripts_is_told_them_again(
    face: Face, server: ValkeyServer, partition: str
) -> None:
    async def scenario(cache: RedisCache) -> None:
        for value in (1, 2):
            ask(server.port, "SCRIPT", "FLUSH")
            counted = await cache.increment(
                partition, "n", 1, initial=entry(5, b"1"), ttl=None, along=["n"]
            )
            assert counted.value == value
            assert list(counted.along) == [entry(5, str(value).encode())]
        ask(server.port, "SCRIPT", "FLUSH")
        kept = entry(5, b"2")
        assert await cache.compare_and_set(partition, "n", kept, b"x", ttl=None)

    on(face, config(server.url), scenario)


def test_every_thread_gets_a_number_of_its_own(server: ValkeyServer, partition: str) -> None:
    cache = opened(config(server.url, pool_size=4))

    def count(_: int) -> int:
        value: int = drive(
            cache.increment(partition, "n", 1, initial=entry(5, b"1"), ttl=None)
        ).value
        return value

    try:
        with ThreadPoolExecutor(16) as pool:
            assert sorted(pool.map(count, range(400))) == list(range(1, 401))
    finally:
        drive(cache.close())


def test_every_task_gets_a_number_of_its_own(server: ValkeyServer, partition: str) -> None:
    async def whole() -> None:
        cache = await BACKEND.open(config(server.url), AsyncRuntime())
        counted = await asyncio.gather(
            *(
                cache.increment(partition, "n", 1, initial=entry(5, b"1"), ttl=None)
                for _ in range(400)
            )
        )
        await cache.close()
        assert [one.value for one in counted] == list(range(1, 401))

    asyncio.run(whole())
