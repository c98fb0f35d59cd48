"""The handle: timeouts, namespaces, times, and what raw namespaces refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.sync import Cache
from cm_platform.errors import InvalidArgumentError, NotFoundError, UnsupportedError

from .doubles import World


def test_a_timeout_holds_for_the_namespaces_of_its_handle(world: World, cache: Cache) -> None:
    # Another process computes, and never ends.
    world.shared.put("acme/~other!l:key", b"another", None)
    begun = world.clock.now
    assert cache.with_timeout(3).namespace("other").get_or_set("key", lambda: 1) == 1
    assert world.clock.now - begun < 4


@pytest.mark.parametrize("name", ["", "A", "a b", "a:b", "~", None, 5, b"a", [], {}])
def test_what_is_no_namespace_is_refused(cache: Cache, name: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="namespace"):
        cache.namespace(name)


def test_namespaces_of_a_tenant_are_bounded(cache: Cache) -> None:
    with pytest.raises(InvalidArgumentError, match="1000"):
        for n in range(1001):
            cache.namespace(f"n{n}")


@pytest.mark.parametrize("ttl", [0.0001, 0.001, 10 * 366 * 86_400])
def test_a_tiny_and_a_huge_ttl(world: World, cache: Cache, ttl: float) -> None:
    cache.set("key", 1, ttl=ttl)
    assert cache.get("key") == 1
    left = cache.ttl("key")
    assert left is not None
    assert left <= max(ttl, 0.001) + 0.001
    world.clock.move(ttl + 0.001)
    assert cache.get("key") is None
    with pytest.raises(NotFoundError):
        cache.ttl("key")


@pytest.mark.parametrize(
    "ttl", [0, -1, float("nan"), float("inf"), True, "5", 10 * 366 * 86_400 + 1, 10**400]
)
def test_what_is_no_ttl_is_refused(world: World, cache: Cache, ttl: Any) -> None:
    world.here.calls.clear()
    for act in (
        lambda: cache.set("key", 1, ttl=ttl),
        lambda: cache.set_many({"key": 1}, ttl=ttl),
        lambda: cache.touch("key", ttl),
        lambda: cache.increment("key", ttl=ttl),
        lambda: cache.get_or_set("key", int, ttl=ttl),
        lambda: cache.get_or_set("key", int, negative_ttl=ttl),
        lambda: cache.namespace("shared").set("key", b"", ttl=ttl),
    ):
        with pytest.raises(InvalidArgumentError):
            act()
    assert world.here.calls == []


def test_touch_keeps_for_how_long_a_value_may_be_stale(world: World, cache: Cache) -> None:
    cache.set("key", "old", ttl=10, stale=20)
    assert cache.touch("key", 100) is True
    world.clock.move(110)
    assert cache.get("key") is None
    assert cache.touch("key", 100) is False

    def fail() -> Any:
        raise LookupError

    assert cache.get_or_set("key", fail, ttl=10, stale_if_error=15) == "old"
    world.clock.move(11)
    with pytest.raises(LookupError):
        cache.get_or_set("key", fail, ttl=10, stale_if_error=1000)


def test_a_raw_value_cannot_end_sooner_than_its_store_can(world: World) -> None:
    world.shared.limits = replace(world.shared.limits, min_ttl=60.0)
    cache = world.cache()
    raw = cache.namespace("shared")
    for act in (
        lambda: raw.set("key", b"", ttl=59),
        lambda: raw.set_many({"key": b""}, ttl=59),
    ):
        with pytest.raises(InvalidArgumentError, match="60"):
            act()
    raw.set("key", b"value", ttl=60)
    cache.set("key", "value", ttl=5)
    assert raw.get("key") == b"value"


@pytest.mark.parametrize("capability", list(CacheCapability))
def test_what_a_backend_lacks_is_unsupported_before_any_io(
    world: World, capability: CacheCapability
) -> None:
    world.shared.capabilities = frozenset(CacheCapability) - {capability}
    cache = world.cache()
    raw = cache.namespace("shared")
    needs: dict[CacheCapability, list[Any]] = {
        CacheCapability.COMPARE_AND_SET: [
            lambda: cache.set("key", 1, only_if="absent"),
            lambda: cache.touch("key", 5),
        ],
        CacheCapability.CONDITIONAL_SET: [lambda: raw.set("key", b"", only_if="absent")],
        CacheCapability.ATOMIC_INCREMENT: [
            lambda: cache.increment("key"),
            lambda: raw.increment("key"),
        ],
        CacheCapability.EXPIRE: [lambda: raw.touch("key", 5), lambda: raw.ttl("key")],
    }
    cache.capabilities()
    world.here.calls.clear()
    for act in needs.get(capability, []):
        with pytest.raises(UnsupportedError, match=str(capability)) as caught:
            act()
        assert caught.value.not_sent
    assert world.here.calls == []


def test_a_stored_value_outlives_its_handle_and_not_its_tenant(world: World, cache: Cache) -> None:
    cache.set("key", 1)
    assert world.cache().get("key") == 1
    assert {name.partition("~")[0] for name in world.shared.kept} == {"acme/"}
