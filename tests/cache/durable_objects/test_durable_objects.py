"""`cache.durable_objects` against the local Cloudflare: strongly consistent, wherever one is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.durable_objects import DurableObjectsCache, DurableObjectsConfig
from cm_platform.cache.entry import HEADER, Encoding, Entry, encode
from cm_platform.cloudflare.outcome import Operation, Outcome
from cm_platform.errors import (
    AmbiguousError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
)
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.tenant import Tenant
from cm_platform.testing.cache.harness import call
from cm_platform.testing.faces import Face


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"


def test_every_write_is_seen_at_once_everywhere(face: Face, far: Face, tenant: Tenant) -> None:
    here, there = face.get_service(tenant), far.get_service(tenant)
    assert here.capabilities() == frozenset(CacheCapability)
    assert there.get("key") is None
    here.set("key", {"a": 1})
    assert there.get("key") == {"a": 1}
    there.set_many({"key": 2, "other": b"\xff"})
    assert here.get_many(["key", "other", "absent"]) == {"key": 2, "other": b"\xff"}
    here.clear()
    assert there.get_many(["key", "other"]) == {}
    assert there.staleness() == 0
    there.set("key", 3, tags=("tag",))
    here.invalidate_tag("tag")
    assert there.get("key") is None
    assert here.delete_many(["key", "absent"]) == {"key": None, "absent": None}


def test_conditions_have_one_winner(face: Face, tenant: Tenant) -> None:
    cache = face.get_service(tenant)
    outcomes = face.at_once(cache, [call("set", "key", n, only_if="absent") for n in range(8)])
    assert outcomes.count(True) == 1
    assert cache.get("key") == outcomes.index(True)
    raw = cache.namespace("shared")
    outcomes = face.at_once(
        raw, [lambda service: service.set("key", b"v", only_if="absent") for _ in range(8)]
    )
    assert outcomes.count(True) == 1


def test_counters_count_everybody(face: Face, far: Face, tenant: Tenant) -> None:
    cache, there = face.get_service(tenant), far.get_service(tenant)
    numbers = face.at_once(cache, [lambda service: service.increment("count") for _ in range(10)])
    assert sorted(numbers) == list(range(1, 11))
    assert there.increment("count", -20) == -10
    assert cache.get("count") == -10
    cache.clear()
    assert there.increment("count", 2**63 - 1) == 2**63 - 1
    with pytest.raises(PlatformError) as caught:
        cache.increment("count")
    assert caught.value.code == "invalid_argument"
    cache.set("text", "a")
    with pytest.raises(PreconditionFailedError):
        cache.increment("text")
    raw = cache.namespace("shared")
    assert raw.increment("count", 5) == 5
    assert raw.get("count") == b"5"


def test_time_is_exact(face: Face, tenant: Tenant) -> None:
    cache, raw = face.get_service(tenant), face.get_service(tenant).namespace("shared")
    cache.set("key", "value", ttl=0.3)
    raw.set("key", b"value", ttl=0.3)
    cache.increment("count", ttl=0.3)
    left = raw.ttl("key")
    assert left is None or 0 <= left <= 0.3
    for space, key in ((cache, "key"), (raw, "key"), (cache, "count")):
        eventually(lambda space=space, key=key: space.get(key) is None)  # type: ignore[misc]
        with pytest.raises(NotFoundError):
            space.ttl(key)
    cache.set("ever", 1, ttl=None)
    assert cache.ttl("ever") is None
    assert cache.touch("ever", 100) is True
    assert 99 < cache.ttl("ever") <= 100
    raw.set("ever", b"1", ttl=None)
    assert raw.touch("ever", 100) is True
    assert 99 < raw.ttl("ever") <= 100
    assert raw.touch("absent", 100) is False


@pytest.mark.parametrize("key", ["a b", "*?[]", "{x}", "a:b", "..", "é🏖", "k" * 500])
def test_keys_of_all_kinds(face: Face, tenant: Tenant, key: str) -> None:
    cache, raw = face.get_service(tenant), face.get_service(tenant).namespace("shared")
    cache.set(key, "ours")
    raw.set(key, b"shared")
    assert cache.get_many([key]) == {key: "ours"}
    assert raw.get(key) == b"shared"
    assert face.get_service(Tenant("nobody")).get(key) is None


def test_a_batch_of_many(face: Face, tenant: Tenant) -> None:
    cache = face.get_service(tenant)
    values = {f"key-{n}": n for n in range(120)}
    assert cache.set_many(values) == dict.fromkeys(values)
    assert cache.get_many(values) == values
    assert cache.delete_many(values) == dict.fromkeys(values)
    assert cache.get_many(values) == {}


def test_one_process_of_many_computes(face: Face, far: Face, tenant: Tenant) -> None:
    cache, there = face.get_service(tenant), far.get_service(tenant)
    asked: list[str] = []

    def computed(where: str) -> Any:
        def factory() -> str:
            asked.append(where)
            return where

        return factory

    assert cache.get_or_set("key", computed("here")) == "here"
    assert there.get_or_set("key", computed("there")) == "here"
    assert asked == ["here"]


def test_a_value_may_be_as_large_as_a_row(face: Face, tenant: Tenant) -> None:
    cache = face.get_service(tenant)
    most = face.backend.limits.max_value
    cache.set("large", b"x" * (most - HEADER.size))
    assert len(cache.get("large")) == most - HEADER.size
    with pytest.raises(PlatformError, match=str(most)):
        cache.set("large", b"x" * (most - HEADER.size + 1))


def test_ping_and_close_twice(face: Face) -> None:
    face.run(face.backend.ping())
    face.run(face.backend.close())
    face.run(face.backend.close())


# What was written, and what was to be read along ------------------------------------------------


class Answering:
    """A gateway that answers each operation with what it is told to."""

    def __init__(self, answer: Callable[[Operation], Outcome]) -> None:
        self.answer = answer
        self.asked: list[Operation] = []

    async def batch(self, partition: str, operations: Sequence[Operation]) -> list[Outcome]:
        self.asked += operations
        return [self.answer(operation) for operation in operations]

    async def close(self) -> None:
        pass


def backend(answer: Callable[[Operation], Outcome]) -> tuple[DurableObjectsCache, Answering]:
    config = DurableObjectsConfig(url="http://localhost:1", key_id="k", secret="s" * 32)
    made = DurableObjectsCache(config, BlockingRuntime())
    gateway = Answering(answer)
    made._gateway = gateway  # type: ignore[assignment]  # in the place of a Worker
    return made, gateway


@pytest.mark.parametrize(
    "error",
    [
        RateLimitedError("overloaded", retryable=True, not_sent=True, retry_after=1),
        UnavailableError("no room in the reply", retryable=True, not_sent=True),
        UnavailableError("lost", retryable=True),
    ],
)
def test_a_read_along_that_fails_says_nothing_of_the_write_before_it(error: PlatformError) -> None:
    """`not_sent` would have the counter counted twice."""

    def answer(operation: Operation) -> Outcome:
        if operation["op"] == "do.increment":
            return Outcome({"value": "1", "stamp": "7"})
        return Outcome(error=error)

    made, _ = backend(answer)
    initial = encode(Entry(Encoding.COUNTER, 7, 0, 0, b"1"))
    with pytest.raises(UnavailableError) as caught:
        drive(made.increment("acme/", "k", 1, initial=initial, ttl=None, along=["~default!g"]))
    assert not caught.value.not_sent
    assert caught.value.__cause__ is error


def test_an_increment_whose_read_along_fails_is_in_doubt_and_not_counted_twice(
    face: Face, tenant: Tenant
) -> None:
    cache = face.get_service(tenant)
    assert cache.increment("count") == 1
    gateway = face.backend.backend._gateway  # to fail in the middle of a batch
    batch = gateway.batch
    failed: list[int] = []

    async def crowded(partition: str, operations: Sequence[Operation]) -> list[Outcome]:
        outcomes: list[Outcome] = await batch(partition, operations)
        if operations[0]["op"] != "do.increment" or failed:
            return outcomes
        failed.append(1)
        error = RateLimitedError("overloaded", retryable=True, not_sent=True)
        return [outcomes[0], *(Outcome(error=error) for _ in outcomes[1:])]

    gateway.batch = crowded
    with pytest.raises(AmbiguousError):
        cache.increment("count")
    assert cache.get("count") == 2


def test_what_is_read_along_is_asked_for_after_the_write() -> None:
    made, gateway = backend(
        lambda operation: Outcome(
            {"stored": True} if operation["op"] == "do.set" else {"value": b"5"}
        )
    )
    stored = drive(made.set("acme/", "k", b"v", ttl=None, along=["~default!g"]))
    assert (stored.stored, list(stored.along)) == (True, [b"5"])
    assert [operation.get("after") for operation in gateway.asked] == [None, True]
    many = drive(made.set_many("acme/", {"k": b"v"}, ttl=5, along=["~default!g"]))
    assert (dict(many.failures), list(many.along)) == ({}, [b"5"])


def test_failures_of_many_are_told_by_key() -> None:
    error = RateLimitedError("overloaded", retryable=True, not_sent=True)
    made, _ = backend(
        lambda operation: Outcome(error=error) if operation["key"] == "b" else Outcome({})
    )
    assert drive(made.set_many("acme/", {"a": b"", "b": b""}, ttl=None)).failures == {"b": error}
    assert drive(made.delete_many("acme/", ["a", "b"])) == {"b": error}
