"""One logical call stays with one backend, whatever the route says in the middle of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cm_platform import AsyncPlatform, IntegrityError, Platform, Tenant
from cm_platform.storage.local import LocalStorage

ACME = Tenant("acme")
KEYS = [f"k{number:04}" for number in range(1005)]


def table(directory: Path, default: str) -> dict[str, Any]:
    backends = {name: {"driver": "local", "path": str(directory / name)} for name in ("one", "two")}
    return {"storage": {"default": default, "backends": backends}}


def test_a_listing_goes_on_where_it_began(tmp_path: Path) -> None:
    with Platform.from_config(table(tmp_path, "one")) as platform:
        storage = platform.get_service("storage", ACME)
        for key in KEYS:
            storage.put(key, b"")
        listed: list[str] = []
        for item in storage.list():
            if not listed:
                platform.reload(table(tmp_path, "two"))
            listed.append(item.key)
        assert listed == KEYS
        assert list(storage.list()) == []


def test_a_listing_of_the_async_face_goes_on_where_it_began(tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncPlatform.from_config(table(tmp_path, "one")) as platform:
            storage = platform.get_service("storage", ACME)
            await asyncio.gather(*(storage.put(key, b"") for key in KEYS))
            listed: list[str] = []
            async for item in storage.list():
                if not listed:
                    platform.reload(table(tmp_path, "two"))
                listed.append(item.key)
            assert listed == KEYS

    asyncio.run(run())


def test_ranges_come_from_one_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Platform.from_config(table(tmp_path, "one")) as platform:
        storage = platform.get_service("storage", ACME)
        storage.put("k", bytes(range(256)))
        get = LocalStorage.get

        async def and_move(self: LocalStorage, *args: Any, **kwargs: Any) -> Any:
            platform.reload(table(tmp_path, "two"))
            return await get(self, *args, **kwargs)

        monkeypatch.setattr(LocalStorage, "get", and_move)
        assert storage.get_ranges("k", [(0, 2), (100, 2)], gap=0) == [b"\x00\x01", b"de"]


def test_a_put_that_cannot_be_read_back_any_more_is_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Platform.from_config(table(tmp_path, "one")) as platform:
        storage = platform.get_service("storage", ACME)
        other = platform.get_service("storage", Tenant("acme", user_id="other"))
        first = storage.put("k", b"old")
        get = LocalStorage.get

        async def replaced(self: LocalStorage, *args: Any, **kwargs: Any) -> Any:
            monkeypatch.undo()
            other.put("k", b"theirs")
            return await get(self, *args, **kwargs)

        monkeypatch.setattr(LocalStorage, "get", replaced)
        with pytest.raises(IntegrityError, match="was stored, and replaced or removed"):
            storage.put("k", b"mine", if_match=first.etag, verify=True)
