"""What type checkers see of the public face. Run by mypy and pyright; pytest imports it only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, assert_type

import cm_platform
from cm_platform import AsyncPlatform, AsyncStorage, Platform, Storage, Tenant
from cm_platform.platform import Health
from cm_platform.storage.backend import ListedObject, ObjectInfo
from cm_platform.storage.reading import AsyncStoredObject
from cm_platform.storage.sync import StoredObject

if TYPE_CHECKING:
    tenant = Tenant("acme")

    assert_type(cm_platform.get_service("storage", tenant), Storage)
    assert_type(cm_platform.get_async_service("storage", tenant), AsyncStorage)

    def any_kind(kind: str) -> None:
        assert_type(cm_platform.get_service(kind, tenant), Any)
        assert_type(cm_platform.get_async_service(kind, tenant), Any)

    def sync_face(platform: Platform, storage: Storage) -> None:
        assert_type(platform.get_service("storage", tenant), Storage)
        assert_type(platform.health(), list[Health])
        assert_type(storage.put("k", b"x"), ObjectInfo)
        assert_type(storage.get("k"), StoredObject)
        assert_type(storage.get("k").read(), bytes)
        assert_type(storage.get("k").chunks(), Iterator[bytes])
        assert_type(storage.list(), Iterator[ListedObject])
        assert_type(storage.with_timeout(1.0), Storage)
        with platform as entered:
            assert_type(entered, Platform)

    async def async_face(platform: AsyncPlatform, storage: AsyncStorage) -> None:
        assert_type(platform.get_service("storage", tenant), AsyncStorage)
        assert_type(await platform.health(), list[Health])
        assert_type(await storage.put("k", b"x"), ObjectInfo)
        assert_type(await storage.get("k"), AsyncStoredObject)
        assert_type(await (await storage.get("k")).read(), bytes)
        assert_type(storage.with_timeout(1.0), AsyncStorage)
        async for listed in storage.list():
            assert_type(listed, ListedObject)
        async with platform as entered:
            assert_type(entered, AsyncPlatform)

    # What must not pass: unused, each of these comments is an error itself.
    cm_platform.get_service("storage", "acme")  # type: ignore[call-overload]
    Tenant("acme", "site")  # type: ignore[call-arg]


def test_the_names_checked_here_exist_at_run_time() -> None:
    assert {Platform, AsyncPlatform, Storage, AsyncStorage} <= {
        getattr(cm_platform, name) for name in cm_platform.__all__ if name[0].isupper()
    }
