"""What type checkers see of the cache. Run by mypy and pyright; pytest imports it only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import cm_platform
from cm_platform import Tenant
from cm_platform.cache import AsyncCache, Cache, CacheCapability, cached
from cm_platform.errors import PlatformError

if TYPE_CHECKING:
    tenant = Tenant("acme")

    assert_type(cm_platform.get_service("cache", tenant), Cache)
    assert_type(cm_platform.get_async_service("cache", tenant), AsyncCache)

    def sync_face(cache: Cache) -> None:
        assert_type(cache.set("key", 1, ttl=None), bool)
        assert_type(cache.get("key"), Any)
        assert_type(cache.get_many(["key"]), dict[str, Any])
        assert_type(cache.set_many({"key": 1}), dict[str, PlatformError | None])
        assert_type(cache.delete_many(["key"]), dict[str, PlatformError | None])
        assert_type(cache.ttl("key"), float | None)
        assert_type(cache.touch("key"), bool)
        assert_type(cache.increment("key"), int)
        assert_type(cache.namespace("other"), Cache)
        assert_type(cache.with_timeout(1.0), Cache)
        assert_type(cache.capabilities(), frozenset[CacheCapability])
        assert_type(cache.staleness(), float)
        assert_type(cache.tenant, Tenant)
        cache.set("key", 1, only_if="absent")
        cache.set("key", 1, only_if="never")  # type: ignore[arg-type]  # pyright: ignore
        with cache as entered:
            assert_type(entered, Cache)

    async def async_face(cache: AsyncCache) -> None:
        assert_type(await cache.set("key", 1), bool)
        assert_type(await cache.get_many(["key"]), dict[str, Any])
        assert_type(await cache.delete_many(["key"]), dict[str, PlatformError | None])
        assert_type(await cache.increment("key"), int)
        assert_type(cache.namespace("other"), AsyncCache)
        async with cache as entered:
            assert_type(entered, AsyncCache)

    @cached(ttl=300, key="menu:{place}")
    def menu(cache: Cache, place: str) -> list[str]: ...

    def menu_key(cache: AsyncCache, place: str) -> str: ...

    @cached(key=menu_key)
    async def menu_async(cache: AsyncCache, place: str) -> list[str]: ...

    def decorated(cache: Cache) -> None:
        assert_type(menu(cache, "lobby"), list[str])
        menu(cache, 5)  # type: ignore[arg-type]  # pyright: ignore

    async def decorated_async(cache: AsyncCache) -> None:
        assert_type(await menu_async(cache, "lobby"), list[str])


def test_the_names_are_there() -> None:
    assert {Cache.__name__, AsyncCache.__name__} == {"Cache", "AsyncCache"}
    assert callable(cached)
