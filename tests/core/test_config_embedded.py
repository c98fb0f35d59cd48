"""The embedded configuration: a directory, and a signing key that is made once."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cm_platform.config import embedded
from cm_platform.config.models import Config
from cm_platform.errors import ConfigInvalidError


def key(config: Config) -> str:
    assert config.signing.current is not None
    return config.signing.keys[config.signing.current].get_secret_value()


def test_embedded_is_a_local_backend_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = embedded(environ={})
    monkeypatch.chdir("/")
    storage = config.kinds["storage"]
    assert storage.default == "local"
    backend = storage.backends["local"]
    assert backend.driver == "local"
    assert backend.settings.model_dump()["path"] == tmp_path / ".cm_platform" / "storage"
    assert all(setting.source in ("embedded", "default") for setting in config.explain())


def test_the_signing_key_is_kept_for_oneself(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    first = embedded(root, environ={})
    assert key(embedded(root, environ={})) == key(first)
    assert len(key(first)) >= 32
    file = root / "signing.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert key(first) not in repr(first.explain())
    assert sorted(path.name for path in root.iterdir()) == [".gitignore", "signing.key"]
    assert key(embedded(tmp_path / "other", environ={})) != key(first)


def test_a_key_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embedded(tmp_path, environ={})
    assert not caplog.records
    (tmp_path / "signing.key").chmod(0o644)
    embedded(tmp_path, environ={})
    assert "chmod 600" in caplog.text


def test_those_who_come_together_have_one_key(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def come(_: int) -> str:
        together.wait(10)
        return key(embedded(tmp_path, environ={}))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(come, range(8)))) == 1


def test_the_loser_of_a_race_takes_the_winners_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = "w" * 43
    link = os.link

    def late(source: Path, target: Path) -> None:
        if target.name == "signing.key":
            target.write_text(winner, encoding="ascii")
            target.chmod(0o600)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert key(embedded(tmp_path, environ={})) == winner


def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", link)
    assert key(embedded(tmp_path, environ={})) == key(embedded(tmp_path, environ={}))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitignore", "signing.key"]


def test_the_environment_lies_over_it(tmp_path: Path) -> None:
    config = embedded(tmp_path, environ={"CM_PLATFORM__STORAGE__TIMEOUT": "5"})
    assert config.kinds["storage"].timeout == 5.0


def test_a_path_is_not_searched_for_references(tmp_path: Path) -> None:
    config = embedded(tmp_path / "${HOME}", environ={})
    settings = config.kinds["storage"].backends["local"].settings
    assert settings.model_dump()["path"] == tmp_path / "${HOME}" / "storage"


def test_a_directory_that_cannot_be_made_is_config_invalid(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(ConfigInvalidError, match="cannot be kept in"):
        embedded(tmp_path / "file" / "x", environ={})
