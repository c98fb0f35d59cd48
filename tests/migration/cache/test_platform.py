"""Moving a tenant's cache, or one namespace of it, through a platform: files, two processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.cache.backend import CacheCapability
from cm_platform.config import load
from cm_platform.errors import ConfigInvalidError, InvalidArgumentError, UnsupportedError
from cm_platform.routing import Stage
from cm_platform.testing.clocks import LeapingClock

ACME, OTHER = Tenant("acme"), Tenant("other")
# Whoever may lose a generation must be able to set a new one.
LACKS = [str(one) for one in CacheCapability if one is not CacheCapability.CONDITIONAL_SET]
DAY = 86_400.0
WAY = (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN, Stage.COMPLETE)


def table(tmp_path: Path, *, files: bool = False, **cache: Any) -> dict[str, Any]:
    """Two caches, a ledger, and a namespace that may move alone.

    files: that processes share; what lands late there, everybody waits for.
    """

    def store(name: str) -> dict[str, Any]:
        return {"driver": "local"} | ({"path": str(tmp_path / f"{name}.db")} if files else {})

    return {
        "cache": {
            "default": "old",
            "timeout": 1,
            "route_ttl": 0.05,
            "backends": {"old": store("old"), "new": store("new")},
            "migrations": {
                "to-new": {
                    "source": "old",
                    "target": "new",
                    "lease": 0.1,
                    "soak": 3600,
                    "shadow_sample": 1.0,
                    "staleness": 1,
                }
            },
            "namespaces": {"sessions": {"default": "old"}, "menus": {}},
        }
        | cache,
        "ledger": {"driver": "sqlite", "path": str(tmp_path / "ledger.db")},
    }


@pytest.fixture
def clock() -> LeapingClock:
    """By which a migration's hours take no time; two processes share it."""
    return LeapingClock(lambda seconds: None, calendar=True)


@pytest.fixture
def platform(tmp_path: Path, clock: LeapingClock) -> Iterator[Platform]:
    with Platform(load(table(tmp_path, files=True)), clock=clock) as platform:
        yield platform


def walk(migration: Any, *stages: Stage) -> None:
    """Go there, whatever the evidence says."""
    for stage in stages:
        migration.advance(stage, override="there is no time in a test")


def test_a_tenants_cache_moves_while_it_works(
    platform: Platform, clock: LeapingClock, tmp_path: Path
) -> None:
    cache = platform.get_service("cache", ACME)
    other = platform.get_service("cache", OTHER)
    keys = [f"key-{number}" for number in range(20)]
    numbers = {key: number for number, key in enumerate(keys)}
    for number, key in enumerate(keys):
        cache.set(key, number, ttl=DAY)
        other.set(key, -number, ttl=DAY)
    visits = 1
    assert cache.increment("visits", ttl=3600) == visits
    migration = platform.migration("cache", ACME)
    migration.start(accept_losses=True, no_other_writers=True)
    with Platform(load(table(tmp_path, files=True)), clock=clock) as second:
        far = second.get_service("cache", ACME)
        for stage in WAY:
            if stage in (Stage.SHADOW, Stage.LIVE):
                migration.backfill()
                migration.verify()
            if stage is Stage.COMPLETE:
                clock.sleep(3600)
                migration.verify()
                # So the counter's time is over, too.
                visits = 0
            # Nothing is overridden: what is asked for was done.
            migration.advance(stage)
            for one in (far, cache):
                visits += 1
                assert one.increment("visits", ttl=3600) == visits, stage
            assert (
                cache.get_many(keys)
                == far.get_many(keys)
                == {key: number for number, key in enumerate(keys)}
            )
            far.delete("key-0")
            assert cache.get("key-0") is None, stage
            cache.set("key-0", 0, ttl=DAY)
            far.set("tagged", 1, tags=("red",), ttl=DAY)
            cache.invalidate_tag("red")
            assert far.get("tagged") is None, stage
            if stage is Stage.RAMPDOWN:
                # What was left behind and nobody uses is gone in the end.
                assert cache.get_many(keys) == numbers
                cache.set_many(numbers, ttl=DAY)
    assert other.get_many(keys) == {key: -number for number, key in enumerate(keys)}
    assert [line.to for line in migration.log()] == [Stage.OFF, *WAY]
    assert all(line.reason is None for line in migration.log())


def test_a_rollback_in_one_go_is_warm_and_counts_on(
    platform: Platform, clock: LeapingClock, tmp_path: Path
) -> None:
    migration = platform.migration("cache", ACME)
    migration.start(accept_losses=True, no_other_writers=True)
    walk(migration, *WAY[:4])
    cache = platform.get_service("cache", ACME)
    cache.set_many({"kept": 1, "deleted": 2}, ttl=3600)
    assert cache.increment("visits", ttl=3600) == 1
    assert migration.rollback(Stage.OFF).state.stage is Stage.OFF
    cache.delete("deleted")
    assert cache.increment("visits", ttl=3600) == 2
    assert cache.get_many(["kept", "deleted", "visits"]) == {"kept": 1, "visits": 2}
    with Platform(load(table(tmp_path, files=True)), clock=clock) as second:
        far = second.get_service("cache", ACME)
        assert far.get_many(["kept", "deleted", "visits"]) == {"kept": 1, "visits": 2}
    # And it may begin anew.
    clock.sleep(2 * 3600)
    walk(migration, *WAY[:3])
    assert cache.get("deleted") is None


def test_a_namespace_moves_alone(tmp_path: Path, clock: LeapingClock) -> None:
    with Platform(load(table(tmp_path)), clock=clock) as platform:
        cache = platform.get_service("cache", ACME)
        sessions, menus = cache.namespace("sessions"), cache.namespace("menus")
        for one in (cache, sessions, menus):
            one.set("key", "before", ttl=600)
        migration = platform.migration("cache.sessions", ACME)
        assert migration.subject.kind == "cache.sessions"
        migration.start(accept_losses=True, no_other_writers=True)
        walk(migration, *WAY[:3])
        clock.sleep(0.2)
        sessions.set("key", "after", ttl=600)
        menus.set("key", "after", ttl=600)
        assert (sessions.get("key"), menus.get("key"), cache.get("key")) == (
            "after",
            "after",
            "before",
        )
        assert platform.native("cache.new").keys() == [
            b"acme/~sessions!g",
            b"acme/~sessions:key",
        ]
        assert platform.get_service("cache", OTHER).namespace("sessions").get("key") is None
        # And the rest can move, too, at its own time.
        rest = platform.migration("cache", ACME)
        rest.start(accept_losses=True, no_other_writers=True)
        walk(rest, *WAY[:3])
        clock.sleep(0.2)
        assert (sessions.get("key"), menus.get("key")) == ("after", "after")


def test_a_namespace_without_a_route_does_not_move_alone(platform: Platform) -> None:
    with pytest.raises(InvalidArgumentError, match="no route of its own"):
        platform.migration("cache.menus", ACME)
    with pytest.raises(InvalidArgumentError, match="no route of its own"):
        platform.migration("cache.unknown", ACME)


def test_a_namespaces_route_to_a_migration_needs_a_ledger(tmp_path: Path) -> None:
    config = table(tmp_path)
    config["cache"]["namespaces"]["sessions"]["rules"] = [
        {"tenants": ["acme"], "route": "to-new:shadow"}
    ]
    Platform.from_config(config).close()
    del config["ledger"]
    with pytest.raises(ConfigInvalidError, match=r"namespaces\.sessions"):
        Platform.from_config(config)


def test_capabilities_are_those_of_the_stage(tmp_path: Path, clock: LeapingClock) -> None:
    config = table(tmp_path)
    config["cache"]["backends"]["new"]["lacks"] = LACKS
    with Platform(load(config), clock=clock) as platform:
        cache = platform.get_service("cache", ACME)
        assert cache.increment("n", ttl=60) == 1
        migration = platform.migration("cache", ACME)
        assert migration.plan().obstacles == 1
    # Whoever begins when it is live sees it at once.
    (tmp_path / "again").mkdir()
    fresh = table(tmp_path / "again")
    fresh["cache"]["backends"]["new"]["lacks"] = LACKS
    with Platform(load(fresh), clock=clock) as platform:
        migration = platform.migration("cache", ACME)
        migration.start(accept_losses=True, no_other_writers=True)
        walk(migration, *WAY[:3])
    with Platform(load(fresh), clock=clock) as platform:
        cache = platform.get_service("cache", ACME)
        assert CacheCapability.ATOMIC_INCREMENT not in cache.capabilities()
        with pytest.raises(UnsupportedError):
            cache.increment("n")
        assert cache.get_or_set("key", lambda: "computed") == "computed"
        assert cache.get("key") == "computed"
        platform.migration("cache", ACME).rollback(Stage.SHADOW)
        clock.sleep(1)
        assert CacheCapability.ATOMIC_INCREMENT in cache.capabilities()
        assert cache.increment("n", ttl=60) == 1


def test_the_async_face_moves_too(tmp_path: Path, clock: LeapingClock) -> None:
    async def main() -> None:
        async with AsyncPlatform(load(table(tmp_path)), clock=clock) as platform:
            cache = platform.get_service("cache", ACME)
            await cache.set("key", "value", ttl=600)
            migration = await platform.migration("cache", ACME)
            await migration.start(accept_losses=True, no_other_writers=True)
            for stage in WAY[:3]:
                await migration.advance(stage, override="a test")
            clock.sleep(0.2)
            assert await cache.get("key") == "value"
            counted = await asyncio.gather(*(cache.increment("n", ttl=60) for _ in range(20)))
            assert sorted(counted) == list(range(1, 21))
            await migration.rollback(Stage.SHADOW)
            assert await cache.increment("n", ttl=60) == 21
            assert await cache.get("key") == "value"

    asyncio.run(main())
