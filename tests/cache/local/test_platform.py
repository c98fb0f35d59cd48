"""Who shares a `cache.local`: the services of one platform, and whoever opens the same file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.cache.local import BACKEND
from cm_platform.config import Config, load
from cm_platform.registry import Registry

ACME = Tenant("acme")
GLOBEX = Tenant("globex")


def registry() -> Registry:
    found = Registry()
    found.register(BACKEND)
    return found


def config(**settings: Any) -> Config:
    table = {"default": "here", "backends": {"here": {"driver": "local", **settings}}}
    return load({"cache": table}, environ={}, registry=registry())


def test_services_of_one_platform_share_memory_and_two_platforms_do_not() -> None:
    # Even of one and the same configuration.
    shared = config()
    with (
        Platform(shared, registry=registry()) as one,
        Platform(shared, registry=registry()) as other,
    ):
        cache = one.get_service("cache", ACME)
        cache.set("a", 1)
        one.get_service("cache", GLOBEX).set("a", 2)
        assert one.get_service("cache", ACME).get("a") == 1
        assert cache.get("a") == 1
        keys = one.native("cache.here").keys()
        assert {key for key in keys if key.endswith(b"a")} == {
            b"acme/~default:a",
            b"globex/~default:a",
        }
        assert other.get_service("cache", ACME).get("a") is None
        assert other.native("cache.here") is not one.native("cache.here")


def test_two_platforms_share_a_file_across_faces(tmp_path: Path) -> None:
    path = str(tmp_path / "kept" / "cache")
    with Platform(config(path=path), registry=registry()) as platform:
        cache = platform.get_service("cache", ACME)
        cache.set("a", "from here")

        async def act() -> None:
            async with AsyncPlatform(config(path=path), registry=registry()) as there:
                other = there.get_service("cache", ACME)
                assert await other.get("a") == "from here"
                await other.increment("n")

        asyncio.run(act())
        assert cache.increment("n") == 2
        assert platform.native("cache.here") == Path(path)
