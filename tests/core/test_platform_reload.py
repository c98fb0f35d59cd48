"""Configuration that changes while handles are held, and what may not be started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cm_platform
from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.config import load
from cm_platform.errors import ConfigInvalidError, UnavailableError

ACME = Tenant("acme")


def table(directory: Path, *, route: str | None = None, **more: Any) -> dict[str, Any]:
    """Two local stores; where acme goes, if it is said."""
    backends = {name: {"driver": "local", "path": str(directory / name)} for name in ("one", "two")}
    rules = [{"tenants": ["acme"], "route": route}] if route else []
    return {"storage": {"default": "one", "backends": backends, "rules": rules, **more}}


def test_a_handle_that_is_held_follows_a_reload(tmp_path: Path) -> None:
    with Platform.from_config(table(tmp_path)) as platform:
        held = platform.get_service("storage", ACME)
        other = platform.get_service("storage", Tenant("other"))
        held.put("k", b"one")
        other.put("k", b"other's")
        platform.reload(table(tmp_path, route="two"))
        assert not held.exists("k")  # a route moves no data
        held.put("k", b"two")
        assert other.get("k").read() == b"other's"
        platform.reload(table(tmp_path))
        assert held.get("k").read() == b"one"


def test_a_handle_of_the_async_face_follows_too(tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncPlatform.from_config(table(tmp_path)) as platform:
            held = platform.get_service("storage", ACME)
            await held.put("k", b"one")
            platform.reload(table(tmp_path, route="two"))
            assert not await held.exists("k")
            platform.reload(table(tmp_path))
            assert await held.exists("k")

    asyncio.run(run())


def test_the_default_platform_reloads_too(tmp_path: Path) -> None:
    cm_platform.configure(table(tmp_path))
    try:
        held = cm_platform.get_service("storage", ACME)
        held.put("k", b"one")
        cm_platform.reload(table(tmp_path, route="two"))
        assert not held.exists("k")
        cm_platform.reload(table(tmp_path))
        assert held.get("k").read() == b"one"
    finally:
        cm_platform.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t["storage"].update(layout="x/{tenant}/{key}"), "storage.layout"),
        (lambda t: t["storage"].update(timeout=5), "storage.timeout"),
        (lambda t: t["storage"]["backends"]["one"].update(fsync=True), "storage.backends.one"),
        (lambda t: t["storage"]["backends"].pop("two"), "storage.backends.two"),
    ],
)
def test_a_reload_that_changes_more_is_refused_and_changes_nothing(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    with Platform.from_config(table(tmp_path)) as platform:
        held = platform.get_service("storage", ACME)
        held.put("k", b"one")
        other = table(tmp_path)
        change(other)
        with pytest.raises(ConfigInvalidError, match=named):
            platform.reload(other)
        assert held.get("k").read() == b"one"


def test_percentages_need_a_ledger_whatever_the_loader_was_told(tmp_path: Path) -> None:
    raw = table(tmp_path)
    raw["storage"]["rules"] = [{"percent": 50, "route": "two"}]
    raw["ledger"] = {"driver": "sqlite", "path": str(tmp_path / "ledger.db")}
    config = load(raw, environ={})
    with pytest.raises(ConfigInvalidError, match=r"storage\.rules\[0\]\.percent: refused"):
        Platform(config.model_copy(update={"ledger": None}))
    events: list[str] = []
    with Platform(config, on_route_event=lambda event: events.append(event.reason)) as platform:
        for number in range(40):
            platform.get_service("storage", Tenant(f"t{number}")).put("k", b"")
    # The ledger decides; those whom the percentage would have sent away are told of.
    assert set(events) == {"not_proven"}
    assert not (tmp_path / "two").exists()


def test_configure_says_at_once_that_a_migration_needs_a_ledger(tmp_path: Path) -> None:
    raw = table(
        tmp_path, route="move:shadow", migrations={"move": {"source": "one", "target": "two"}}
    )
    with pytest.raises(ConfigInvalidError, match="needs a ledger"):
        cm_platform.configure(raw)


def test_a_platform_that_was_closed_is_not_reloaded_to_life(tmp_path: Path) -> None:
    platform = Platform.from_config(table(tmp_path))
    held = platform.get_service("storage", ACME)
    platform.close()
    with pytest.raises(UnavailableError):
        held.exists("k")
