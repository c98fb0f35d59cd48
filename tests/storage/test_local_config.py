"""`storage.local` as a whole: settings, files' modes, sweeping, what errors become."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from cm_platform.errors import (
    ConfigInvalidError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    QuotaExceededError,
)
from cm_platform.limits import limits
from cm_platform.registry import Registry
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.storage.backend import Attributes, StorageCapability, StorageLimits
from cm_platform.storage.local import BACKEND, LocalConfig, LocalStorage

PLAIN = Attributes()


def opened(config: LocalConfig) -> LocalStorage:
    async def open_store() -> LocalStorage:
        store = await BACKEND.open(config, BlockingRuntime())
        assert isinstance(store, LocalStorage)
        return store

    return drive(open_store())


def test_it_is_found_by_name() -> None:
    assert Registry().get("storage", "local") is BACKEND


def test_it_declares_all_but_presign() -> None:
    assert BACKEND.capabilities == frozenset(StorageCapability) - {StorageCapability.PRESIGN}


def test_the_configuration_narrows_capabilities(tmp_path: Path) -> None:
    config = LocalConfig.model_validate({"path": str(tmp_path), "lacks": ["conditional_create"]})
    store = opened(config)
    assert store.capabilities == BACKEND.capabilities - {StorageCapability.CONDITIONAL_CREATE}
    assert store.limits == StorageLimits(**limits("storage", "local"))
    assert store.max_request_lifetime > 0


@pytest.mark.parametrize("extra", [{"pth": "x"}, {"lacks": ["fly"]}, {"fsync": "maybe"}])
def test_an_unknown_setting_is_refused_without_its_value(extra: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as failure:
        LocalConfig.model_validate({"path": "secret-place", **extra})
    assert "secret-place" not in str(failure.value)


def test_open_makes_the_directory_and_nothing_but_the_owner_enters(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "store"
    store = opened(LocalConfig(path=root))
    drive(store.put("a/b", b"x", PLAIN))
    upload_id = drive(store.create_multipart("c", PLAIN))
    drive(store.put_part("c", upload_id, 1, b"x"))
    assert store.native() == root
    for path in (root, *root.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_open_says_why_a_directory_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigInvalidError, match="directory"):
            opened(LocalConfig(path=path))


def test_open_says_when_the_platform_has_no_file_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigInvalidError, match="fcntl"):
        opened(LocalConfig(path=tmp_path))


def test_importing_it_imports_no_client_and_no_event_loop() -> None:
    script = (
        "import sys, cm_platform.storage.local; "
        "print(*{'asyncio', 'boto3', 'obstore', 'httpx', 'redis'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    assert done.stdout.strip() == ""


def test_fsync_reaches_data_sidecar_and_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    store = opened(LocalConfig(path=tmp_path, fsync=True))
    monkeypatch.setattr(os, "fsync", watched)
    drive(store.put("a/b", b"x", PLAIN))
    kinds = [Path(path).suffix for path in synced[:2]]
    assert kinds == [".data", ".draft"]
    assert synced[2:] == [str(tmp_path / "objects" / "a"), str(tmp_path / "objects")]
    synced.clear()
    drive(store.put("a/b", b"y", PLAIN))
    drive(store.copy("a/b", "c", PLAIN, etag=drive(store.head("a/b")).etag))
    upload_id = drive(store.create_multipart("d", PLAIN))
    part = drive(store.put_part("d", upload_id, 1, b"x"))
    drive(store.complete_multipart("d", upload_id, [part]))
    drive(store.delete_many(["a/b", "c", "d"]))
    assert list((tmp_path / "objects").iterdir()) == []


def test_a_sweep_removes_what_is_left_over_and_old(tmp_path: Path) -> None:
    store = opened(LocalConfig(path=tmp_path))
    drive(store.put("a/b", b"kept", PLAIN))
    drive(store.put("x" * 250 + "/y", b"kept", PLAIN))
    objects = tmp_path / "objects"
    version = "0" * 24
    for left in (f"a/b~{version}.data", f"a/b~{version}.draft", f"a/c~{version}.data"):
        (objects / left).write_bytes(b"left")
    (objects / "a" / "notes.txt").write_bytes(b"not ours")
    (objects / "empty" / "deep").mkdir(parents=True)
    drive(store.create_multipart("up", PLAIN))

    assert drive(store.sweep(older_than=3600)) == 0
    assert len(list((objects / "a").iterdir())) == 6

    with pytest.MonkeyPatch.context() as patch:
        later = time.time() + 2
        patch.setattr(time, "time", lambda: later)
        assert drive(store.sweep(older_than=1)) == 4
    assert {path.suffix for path in (objects / "a").iterdir()} == {".json", ".data", ".txt"}
    assert not (objects / "empty").exists()
    assert list((tmp_path / "uploads").iterdir()) == []
    keys = [i.key for i in drive(store.list("", delimiter=None, cursor=None, limit=9)).objects]
    assert keys == ["a/b", "x" * 250 + "/y"]
    with pytest.raises(InvalidArgumentError):
        drive(store.sweep(older_than=-1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_ping_says_when_the_directory_is_not_writable(tmp_path: Path) -> None:
    store = opened(LocalConfig(path=tmp_path))
    (tmp_path / "objects").chmod(0o500)
    try:
        with pytest.raises(PermissionDeniedError):
            drive(store.ping())
    finally:
        (tmp_path / "objects").chmod(0o700)


def test_ping_asks_whether_the_directory_is_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(LocalConfig(path=tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(PermissionDeniedError):
        drive(store.ping())


@pytest.mark.parametrize(
    ("number", "code", "retryable"),
    [
        (errno.ENOSPC, "quota_exceeded", False),
        (errno.EDQUOT, "quota_exceeded", False),
        (errno.EACCES, "permission_denied", False),
        (errno.EPERM, "permission_denied", False),
        (errno.EROFS, "permission_denied", False),
        (errno.EMFILE, "unavailable", True),
        (errno.ENFILE, "unavailable", True),
        (errno.ENOLCK, "unavailable", True),
        (errno.ETIMEDOUT, "deadline_exceeded", True),
        (errno.ENAMETOOLONG, "invalid_argument", False),
        (errno.EIO, "internal", False),
        (errno.EISDIR, "internal", False),
    ],
)
def test_errors_of_the_system_are_classified_without_the_path(
    tmp_path: Path, number: int, code: str, retryable: bool
) -> None:
    store = opened(LocalConfig(path=tmp_path))
    translated = store.translate(OSError(number, "x", "/store/objects/a-tenant/a-key"))
    assert isinstance(translated, PlatformError)
    assert (translated.code, translated.retryable) == (code, retryable)
    assert "tenant" not in str(translated)
    assert not translated.not_sent


def test_what_is_not_the_systems_is_not_classified(tmp_path: Path) -> None:
    assert opened(LocalConfig(path=tmp_path)).translate(KeyError("x")) is None
    assert isinstance(opened(LocalConfig(path=tmp_path)).translate(OSError("odd")), InternalError)


def test_a_full_volume_leaves_the_old_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(LocalConfig(path=tmp_path))
    drive(store.put("a", b"old", PLAIN))

    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(QuotaExceededError) as failure:
            drive(store.put("a", b"new", PLAIN))
    assert failure.value.not_sent
    reply = drive(store.get("a"))
    assert drive(reply.read()) == b"old"
    assert len(list((tmp_path / "objects").iterdir())) == 2
