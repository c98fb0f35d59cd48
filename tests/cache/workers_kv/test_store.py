"""`cache.workers_kv` against the local Cloudflare, by the gateway and by REST."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.entry import HEADER
from cm_platform.errors import (
    InvalidArgumentError,
    PlatformError,
    RateLimitedError,
    UnsupportedError,
)
from cm_platform.tenant import Tenant
from cm_platform.testing.cache.harness import call

from .conftest import Kv, Opener


def test_values_come_back(kv: Kv, tenant: Tenant) -> None:
    cache = kv.cache(tenant)
    values: dict[str, Any] = {"bytes": b"\x00\xff", "text": "é🏖", "number": 5, "json": [None, 1.5]}
    assert cache.set_many(values) == dict.fromkeys(values)
    assert cache.get_many([*values, "absent"]) == values
    for key, value in values.items():
        assert cache.get(key) == value


@pytest.mark.parametrize("key", ["a b", "*?[]", "{x}", "a:b", "a/../b", "%2F%", "..", "é🏖", "?#&="])
def test_keys_of_all_kinds(kv: Kv, tenant: Tenant, key: str) -> None:
    cache, raw = kv.cache(tenant), kv.cache(tenant).namespace("shared")
    cache.set(key, "ours")
    raw.set(key, b"shared")
    assert cache.get(key) == "ours"
    assert raw.get(key) == b"shared"
    assert cache.delete_many([key, "absent"]) == {key: None, "absent": None}


def test_a_key_has_512_bytes_with_its_prefixes(kv: Kv, tenant: Tenant) -> None:
    cache = kv.cache(tenant)
    room = 512 - len(f"{tenant.id}/~default!l:")
    cache.set("k" * room, 1)
    assert cache.get("k" * room) == 1
    kv.calls.clear()
    with pytest.raises(InvalidArgumentError, match="512"):
        cache.set("k" * (room + 1), 1)
    assert kv.calls == []


def test_both_transports_keep_the_same_bytes(opened: Opener, tenant: Tenant) -> None:
    near, rest = opened("near"), opened("rest")
    partition = f"{tenant.id}/"
    for writer, reader, ns in ((near, rest, "default"), (rest, near, "shared")):
        cache = writer.cache(tenant).namespace(ns)
        cache.set_many({f"{ns} one": b"\x00\xff", f"{ns} ü": b""})
        cache.set(f"{ns} alone", b"\xff\x00")
        keys = [f"{ns} one", f"{ns} ü", f"{ns} alone"]
        # A location that has not looked before may have heard of nothing for a minute.
        writer.clock.advance(61)
        expected = cache.get_many(keys)
        assert len(expected) == 3
        assert reader.cache(tenant).namespace(ns).get_many(keys) == expected
        names = [key if ns == "shared" else f"~default:{key}" for key in keys]
        found = [kv.face.run(kv.face.backend.get_many(partition, names)) for kv in (near, rest)]
        assert list(found[0]) == list(found[1])


# KV ends values on whole seconds: of its 60 it may take away almost one.
@pytest.mark.parametrize("ttl", [0.5, 5.0, 58.0])
def test_a_value_ends_in_time_though_kv_keeps_it_for_a_minute(
    kv: Kv, tenant: Tenant, ttl: float
) -> None:
    cache = kv.cache(tenant)
    cache.set("key", "value", ttl=ttl)
    assert cache.get("key") == "value"
    left = cache.ttl("key")
    assert left is not None
    assert 0 < left <= ttl
    kv.clock.advance(ttl + 0.001)
    assert cache.get("key") is None
    assert cache.get_many(["key"]) == {}
    assert kv.face.run(kv.face.backend.get_many(f"{tenant.id}/", ["~default:key"])) != [None]
    kv.clock.advance(121)
    assert kv.face.run(kv.face.backend.get_many(f"{tenant.id}/", ["~default:key"])) == [None]


def test_a_value_for_ever_stays(kv: Kv, tenant: Tenant) -> None:
    cache = kv.cache(tenant)
    cache.set("key", "value", ttl=None)
    kv.clock.advance(40_000)
    assert cache.get("key") == "value"
    assert cache.ttl("key") is None


def test_a_raw_value_cannot_end_within_a_minute(kv: Kv, tenant: Tenant) -> None:
    raw = kv.cache(tenant).namespace("shared")
    with pytest.raises(InvalidArgumentError, match="60"):
        raw.set("key", b"value", ttl=59)
    raw.set("key", b"value", ttl=60.5)
    assert raw.get("key") == b"value"
    kv.clock.advance(125)
    assert raw.get("key") is None


def test_writes_to_one_key_wait_for_their_second(kv: Kv, tenant: Tenant) -> None:
    cache = kv.cache(tenant)
    for n in range(3):
        cache.set("key", n)
    cache.delete("key")
    cache.set_many({"key": 4, "other": 5})
    kv.clock.advance(61)
    assert cache.get_many(["key", "other"]) == {"key": 4, "other": 5}


def test_writes_at_once_are_one_and_the_rest_is_counted(kv: Kv, tenant: Tenant) -> None:
    cache = kv.cache(tenant)
    cache.set("key", "first")
    outcomes = kv.face.at_once(cache, [call("set", "key", n) for n in range(6)])
    assert outcomes == [True] * 6
    kv.clock.advance(61)
    assert cache.get("key") in range(6)
    guard = kv.face.backend.backend.guard
    if kv.face.is_async:
        assert guard.dropped >= 4


def test_another_process_that_writes_the_key_is_rate_limited(
    opened: Opener, tenant: Tenant
) -> None:
    """What a guard cannot see: 429 is `rate_limited`, tells when to come again, and is retried."""
    here, there = opened("near"), opened("near")
    partition, name = f"{tenant.id}/", "~default:key"
    here.face.run(here.face.backend.set(partition, name, b"1", ttl=None))
    with pytest.raises(RateLimitedError) as caught:
        there.face.run(there.face.backend.set(partition, name, b"2", ttl=None))
    assert caught.value.retryable
    assert caught.value.not_sent
    assert caught.value.retry_after == 1
    failures = opened("near").face
    outcomes = failures.run(failures.backend.delete_many(partition, [name, "absent"]))
    assert {key: error.code for key, error in outcomes.items()} == {name: "rate_limited"}
    # The service comes again, a set as well as a delete.
    there.cache(tenant).set("key", "theirs")
    here.cache(tenant).delete("key")
    here.clock.advance(61)
    assert here.cache(tenant).get("key") is None


def test_a_bulk_write_by_rest_tells_which_key_came_too_soon(opened: Opener, tenant: Tenant) -> None:
    near, rest = opened("near"), opened("rest")
    partition = f"{tenant.id}/"
    near.face.run(near.face.backend.set(partition, "soon", b"1", ttl=None))
    stored = rest.face.run(
        rest.face.backend.set_many(partition, {"soon": b"2", "fine": b"3"}, ttl=None)
    )
    assert set(stored.failures) <= {"soon"}
    for error in stored.failures.values():
        assert error.code == "rate_limited"
        assert tenant.id not in str(error)


def test_what_is_written_is_seen_elsewhere_within_a_minute(opened: Opener, tenant: Tenant) -> None:
    near, far = opened("near"), opened("far")
    here, there = near.cache(tenant), far.cache(tenant)
    here.set("key", "old", ttl=None)
    near.clock.advance(61)
    assert there.get("key") == "old"
    here.set("key", "new", ttl=None)
    assert here.get("key") == "new"
    assert there.get("key") == "old"
    near.clock.advance(61)
    assert there.get("key") == "new"


def test_what_is_not_there_is_remembered_too(opened: Opener, tenant: Tenant) -> None:
    near, far = opened("near"), opened("far")
    there = far.cache(tenant)
    assert there.get("key") is None
    near.cache(tenant).set("key", "new")
    assert there.get("key") is None
    near.clock.advance(61)
    assert there.get("key") == "new"


@pytest.mark.parametrize("act", ["clear", "invalidate_tag"])
def test_a_clear_is_seen_elsewhere_as_soon_as_is_declared(
    opened: Opener, tenant: Tenant, act: str
) -> None:
    near, far = opened("near"), opened("far")
    here, there = near.cache(tenant), far.cache(tenant)
    here.set("key", "old", ttl=None, tags=("tag",))
    near.clock.advance(61)
    assert there.get("key") == "old"
    getattr(here, act)(*(["tag"] if act == "invalidate_tag" else []))
    assert here.get("key") is None
    assert there.staleness() == 60
    near.clock.advance(there.staleness() + 1)
    assert there.get("key") is None
    there.set("key", "new", ttl=None, tags=("tag",))
    near.clock.advance(61)
    assert here.get("key") == "new"


def test_a_clear_by_rest_is_seen_when_the_generation_has_aged(
    opened: Opener, tenant: Tenant
) -> None:
    near, rest = opened("near"), opened("rest")
    here, there = near.cache(tenant), rest.cache(tenant)
    here.set("key", "old", ttl=None)
    near.clock.advance(61)
    assert there.get("key") == "old"
    here.clear()
    assert there.staleness() == 120
    near.clock.advance(121)
    assert there.get("key") is None


def test_get_or_set_computes_and_keeps(kv: Kv, tenant: Tenant) -> None:
    cache = kv.cache(tenant)
    asked: list[int] = []

    def factory() -> int:
        asked.append(1)
        return len(asked)

    assert [cache.get_or_set("key", factory, ttl=30) for _ in range(2)] == [1, 1]
    # What was not there a moment ago may not be there for a while, even near; and then it is.
    kv.clock.advance(31)
    assert cache.get_or_set("key", factory, ttl=30) == 2


def test_there_are_no_atomics(kv: Kv, tenant: Tenant) -> None:
    cache, raw = kv.cache(tenant), kv.cache(tenant).namespace("shared")
    assert cache.capabilities() == frozenset()
    kv.calls.clear()
    acts: list[Callable[[], Any]] = [
        lambda: cache.set("key", 1, only_if="absent"),
        lambda: raw.set("key", b"", only_if="absent"),
        lambda: cache.increment("key"),
        lambda: raw.increment("key"),
        lambda: cache.touch("key", 60),
        lambda: raw.touch("key", 60),
        lambda: raw.ttl("key"),
    ]
    for act in acts:
        with pytest.raises(UnsupportedError):
            act()
    assert kv.calls == []
    backend = kv.face.backend
    for coroutine in (
        backend.set("p/", "k", b"", ttl=None, only_if="absent"),
        backend.compare_and_set("p/", "k", None, b"", ttl=None),
        backend.increment("p/", "k", 1, initial=None, ttl=None),
        backend.ttl("p/", "k"),
        backend.expire("p/", "k", None),
    ):
        with pytest.raises(UnsupportedError):
            kv.face.run(coroutine)
    assert CacheCapability.READ_YOUR_WRITES not in backend.capabilities


def test_many_values_go_in_many_requests(opened: Opener, tenant: Tenant) -> None:
    # By REST a read is a request for each key.
    cache = opened("near").cache(tenant)
    values = {f"key-{n}": n for n in range(130)}
    assert cache.set_many(values) == dict.fromkeys(values)
    assert cache.get_many(values) == values
    assert cache.delete_many(values) == dict.fromkeys(values)


def test_a_value_may_be_as_large_as_kv_takes(opened: Opener, tenant: Tenant) -> None:
    cache = opened("near").cache(tenant)
    cache.set("large", b"x" * (26_214_400 - HEADER.size))
    assert len(cache.get("large")) == 26_214_400 - HEADER.size
    with pytest.raises(InvalidArgumentError, match="26214400"):
        cache.set("large", b"x" * (26_214_400 - HEADER.size + 1))


def test_large_values_are_read_in_as_many_replies_as_they_need(
    opened: Opener, tenant: Tenant
) -> None:
    cache = opened("near").cache(tenant)
    values = {f"large-{n}": bytes([n]) * 10_000_000 for n in range(4)}
    assert cache.set_many(values) == dict.fromkeys(values)
    assert cache.get_many(values) == values


def test_ping_and_native(kv: Kv) -> None:
    kv.face.run(kv.face.backend.ping())
    transport: Any = kv.face.backend.native()
    client = kv.face.run(transport.native())
    assert client is not None
    close = getattr(client, "aclose", None) or client.close
    closing = close()
    if closing is not None:
        kv.face.run(_awaited(closing))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def test_tenants_are_apart(kv: Kv, tenant: Tenant) -> None:
    other = kv.cache(Tenant(f"{tenant.id[:8]}"))
    cache = kv.cache(tenant)
    cache.set("key", "mine")
    assert other.get("key") is None
    assert other.namespace("shared").get("key") is None
    other.clear()
    assert cache.get("key") == "mine"


def test_a_wrong_namespace_is_no_miss(
    opened: Opener, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is absent and a namespace that is absent are both 404."""
    kv = opened("rest")
    cache = kv.cache(tenant)
    assert cache.get("key") is None
    place = kv.face.backend.native()._place  # as if it had been removed meanwhile
    monkeypatch.setitem(place, "namespace_id", "0" * 32)
    with pytest.raises(PlatformError) as caught:
        cache.get("another")
    assert caught.value.code == "config_invalid"
