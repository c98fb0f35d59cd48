"""`override` puts other services behind `get_service` for a while, and restores what was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import cm_platform
from cm_platform import ConfigInvalidError, Tenant, UnavailableError, get_async_service, get_service
from cm_platform.testing import override

TENANT = Tenant("acme")


@pytest.fixture(autouse=True)
def configured(tmp_path: Path) -> Iterator[None]:
    """An application's own configuration, which no test may touch."""
    path = str(tmp_path / "own")
    backends = {"local": {"driver": "local", "path": path}}
    cm_platform.configure({"storage": {"default": "local", "backends": backends}})
    get_service("storage", TENANT).put("own", b"own")
    yield
    assert [listed.key for listed in get_service("storage", TENANT).list()] == ["own"]
    cm_platform.close()


def test_inside_there_is_an_empty_store_and_outside_the_own_one() -> None:
    before = get_service("storage", TENANT)
    with override():
        storage = get_service("storage", TENANT)
        assert list(storage.list()) == []
        storage.put("test", b"test")
        assert not before.exists("test")
    assert get_service("storage", TENANT) is before


def test_a_service_from_inside_is_closed_outside() -> None:
    with override():
        storage = get_service("storage", TENANT)
        storage.put("test", b"test")
    with pytest.raises(UnavailableError):
        storage.get("test")


def test_the_temporary_directory_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with override():
        get_service("storage", TENANT).put("test", b"test")
        assert list(tmp_path.glob("cm_platform-*"))
    assert not list(tmp_path.glob("cm_platform-*"))


def test_a_table_says_what_to_serve_from(tmp_path: Path) -> None:
    table = {"driver": "local", "path": str(tmp_path / "given"), "lacks": ["conditional_create"]}
    with override(storage=table):
        storage = get_service("storage", TENANT)
        storage.put("test", b"test")
        assert "conditional_create" not in storage.capabilities()
    with override(storage=table):
        assert get_service("storage", TENANT).get("test").read() == b"test"


def test_overrides_may_be_nested() -> None:
    with override():
        get_service("storage", TENANT).put("outer", b"")
        with override():
            assert not get_service("storage", TENANT).exists("outer")
        assert get_service("storage", TENANT).exists("outer")


def test_a_failing_test_restores_too() -> None:
    with pytest.raises(ZeroDivisionError), override():
        get_service("storage", TENANT).put("test", b"test")
        raise ZeroDivisionError


def test_a_wrong_table_changes_nothing() -> None:
    for wrong in ({"driver": "nothing"}, {}, {"driver": "local"}):
        with pytest.raises(ConfigInvalidError), override(storage=wrong):
            pass


def test_the_environment_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CM_PLATFORM_STORAGE__DEFAULT", "nowhere")
    with override():
        get_service("storage", TENANT).ping()


def test_async_with_closes_the_async_face_too() -> None:
    async def test() -> None:
        async with override() as outer:
            storage = get_async_service("storage", TENANT)
            await storage.put("test", b"test")
            assert get_service("storage", TENANT).exists("test")
            async with override():
                assert not await get_async_service("storage", TENANT).exists("test")
            assert get_async_service("storage", TENANT) is storage
            with pytest.raises(RuntimeError):
                outer.__enter__()
        with pytest.raises(UnavailableError):
            await storage.get("test")

    asyncio.run(test())


def test_an_async_face_under_a_plain_with_is_closed_by_aclose() -> None:
    async def test() -> None:
        with override():
            assert not await get_async_service("storage", TENANT).exists("own")
            await cm_platform.aclose()

    asyncio.run(test())
