"""The demo does what it says, and would say if it did not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cm_platform
from cm_platform.migration.intents import Held
from cm_platform.migration.storage.reconcile import Reconciler
from cm_platform.storage.service import AsyncStorage
from cm_platform.tenant import Layout, Tenant

DATA = Path(__file__).parents[2] / "examples" / "data"
FILES = [path for path in DATA.rglob("*") if path.is_file()]
SIZE = sum(path.stat().st_size for path in FILES)


def test_every_step_is_told_with_place_objects_bytes_and_time(run: Any) -> None:
    done = run("demo", "--json")
    assert done.code == 0
    told = done.document
    assert told["data"] == str(DATA)
    steps = {step["title"]: step for step in told["steps"]}
    assert list(steps) == [
        "magazine: upload",
        "shop: upload",
        "magazine: list, read back",
        "shop: list, read back",
        "two tenants in two stores",
        "shop: async, all at once",
        "magazine: moves while it works",
        "magazine: served from there",
        "two tenants in one store",
        "shop: a value, computed once",
        "magazine: clear",
        "shop: sessions, in a file",
    ]
    uploads = steps["magazine: upload"], steps["shop: upload"]
    assert sum(step["objects"] for step in uploads) == len(FILES)
    assert sum(step["size"] for step in uploads) == SIZE
    assert [row["stage"] for row in told["stages"]] == [
        "off",
        "dualwrite",
        "shadow",
        "live",
        "shadow",
        "live",
        "rampdown",
        "complete",
    ]
    assert sum(row["writes"] for row in told["stages"]) > 0
    assert steps["magazine: served from there"]["where"] == "store-b"
    # By listing, on an event loop, after the move, and from the new store alone.
    assert told["verified"] > len(FILES) * 2
    assert all(step["seconds"] > 0 for step in told["steps"])


def test_nothing_is_left_behind_unless_it_is_asked_for(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    run("demo")
    assert list(temporary.iterdir()) == []
    kept = Path(run("demo", "--keep", "--json").document["kept"])
    assert list(temporary.iterdir()) == [kept]
    listed = run("storage", "ls", "--tenant", "magazine", "--config", kept / "cm_platform.toml")
    assert "press/Été à la plage.md" in listed.stdout


def test_it_fits_a_narrow_terminal(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = run("demo", "--data", DATA).stdout
        assert max(len(line) for line in shown.splitlines()) <= columns
        assert f"{len(FILES)} files" in shown.replace("\n", " ")


def test_it_works_on_any_files(run: Any, tmp_path: Path) -> None:
    data = tmp_path / "mine"
    (data / "deep" / "er").mkdir(parents=True)
    for number in range(5):
        (data / "deep" / "er" / f"{number} été.bin").write_bytes(bytes([number]) * number)
    told = run("demo", "--data", data, "--json").document
    assert [step["objects"] for step in told["steps"][:2]] == [3, 2]


def test_without_example_files_it_says_where_they_are(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cm_platform, "__file__", str(tmp_path / "a" / "b" / "c" / "__init__.py"))
    done = run("demo")
    assert done.code == 4
    assert "--data DIR" in done.stderr
    assert run("demo", "--data", "nowhere").code == 2
    (tmp_path / "one").write_text("only one")
    assert run("demo", "--data", tmp_path).code == 2


def test_wrong_bytes_end_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    verify = AsyncStorage.verify

    async def wrong(self: AsyncStorage, key: str) -> Any:
        info = await verify(self, key)
        return replace(info, sha256="0" * 64) if key.startswith("press/") else info

    monkeypatch.setattr(AsyncStorage, "verify", wrong)
    done = run("demo")
    assert done.code == 7
    assert done.stdout == ""


def test_a_tenant_that_sees_another_s_objects_ends_it(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shared(self: Layout, tenant: Tenant) -> str:
        return "everybody/"

    monkeypatch.setattr(Layout, "prefix", shared)
    done = run("demo")
    assert done.code == 7
    assert done.stdout == ""


def test_a_migration_that_brings_nothing_over_ends_it(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: Reconciler, held: Held, key: str, **_: Any) -> int:
        return 0

    monkeypatch.setattr(Reconciler, "reconcile", nothing)
    done = run("demo")
    assert done.code == 7
    assert "the two stores differ" in done.stderr
