"""`cm-platform services`: generated from the descriptors, and nothing else."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from cm_platform.cli.services import BEGIN, END, markdown_block
from cm_platform.registry import REGISTRY


def test_json_says_what_the_descriptors_say(run: Any) -> None:
    storage, cache = run("services", "--json").document["services"]
    assert cache["service"] == "cache"
    assert storage["service"] == "storage"
    assert [found["driver"] for found in storage["backends"]] == REGISTRY.names("storage")
    for found in storage["backends"]:
        backend = REGISTRY.get("storage", found["driver"])
        can = {name for name, able in found["capabilities"].items() if able}
        assert can == {str(name) for name in backend.capabilities}
        assert found["extra"] == backend.extra
        assert found["missing"] == []
        assert found["limits"]["as_of"]


def test_json_marks_secrets_among_the_settings(run: Any) -> None:
    storage, cache = run("services", "--json").document["services"]
    (objects,) = [found for found in cache["backends"] if found["driver"] == "durable_objects"]
    assert objects["settings"]["secret"] == {"required": True, "secret": True}
    (r2,) = [found for found in storage["backends"] if found["driver"] == "r2"]
    assert r2["settings"]["access_key_id"] == {"required": True, "secret": True}
    assert r2["settings"]["bucket"] == {"required": True, "secret": False}
    assert r2["settings"]["proxy"] == {"required": False, "secret": True}


def test_it_needs_no_network(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it wanted the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert run("services").code == 0


def test_the_table_has_a_column_for_each_backend(run: Any) -> None:
    shown = run("services").stdout
    for word in ("storage", "local", "r2", "s3", "presign", "conditional_create"):
        assert word in shown


def test_markdown_is_what_check_accepts(run: Any, tmp_path: Path) -> None:
    table = run("services", "--markdown").stdout
    assert table == markdown_block()
    assert "| `presign` | no | yes | yes |" in table
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{table}\nMore.\n")
    assert run("services", "--check", page).code == 0
    assert run("services", "--check", page, "--json").document["current"] is True


def test_check_shows_what_has_changed(run: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(markdown_block().replace("| `presign` | no |", "| `presign` | yes |"))
    done = run("services", "--check", page)
    assert done.code == 6
    assert "-| `presign` | yes | yes | yes |" in done.stdout
    assert "+| `presign` | no | yes | yes |" in done.stdout


@pytest.mark.parametrize("text", ["no table", END + BEGIN, BEGIN])
def test_check_wants_a_marked_table(run: Any, tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert run("services", "--check", page).code == 2
    assert run("services", "--check", tmp_path / "nope.md").code == 2


def test_an_sdk_that_is_missing_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cm_platform.cli import services

    monkeypatch.setattr(services, "requires", lambda _: ["no-such-sdk>=1 ; extra == 's3'"])
    done = run("services")
    assert "s3: pip install 'cm-platform[s3]'" in done.stdout
    assert "missing" in done.stdout
