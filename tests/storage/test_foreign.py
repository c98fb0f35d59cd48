"""What other hands leave in a tenant's part of a store: other keys, other words, damage, links."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cm_platform import Platform, Storage, Tenant
from cm_platform.errors import IntegrityError
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.storage.backend import Attributes
from cm_platform.storage.local import LocalConfig, LocalStorage
from cm_platform.testing.faces import FACES, Face

ACME = Tenant("acme")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(params=FACES)
def storage(request: pytest.FixtureRequest, root: Path) -> Iterator[Storage]:
    table = {"driver": "local", "path": str(root)}
    with Face(request.param, "storage", table, layout="{tenant}/{key}") as face:
        assert face.backend.limits  # Opened, which makes the directory.
        yield face.get_service(ACME)


def foreign(root: Path, key: str, **metadata: str) -> None:
    """Write as a program does that knows nothing of tenants and our rules."""
    store = LocalStorage(LocalConfig(path=root), BlockingRuntime())
    drive(store.put(key, b"x", Attributes(metadata=metadata)))


def test_keys_that_no_method_takes_are_not_listed(
    storage: Storage, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage.put("a/b", b"")
    for key in ("acme/", "acme//x", "acme/../up", "acme/tab\tstop"):
        foreign(root, key)
    with caplog.at_level(logging.DEBUG, "cm_platform.storage"):
        assert [found.key for found in storage.list()] == ["a/b"]
    (record,) = (record for record in caplog.records if record.name == "cm_platform.storage")
    assert "4" in record.getMessage()
    assert "tab" not in record.getMessage()
    page = storage.list_page(delimiter="/")
    assert (page.objects, page.prefixes) == ([], ["a/"])


def test_pages_of_keys_that_are_not_legal_lead_on_to_those_that_are(
    storage: Storage, root: Path
) -> None:
    for number in range(4):
        foreign(root, f"acme//{number}")
    storage.put("a", b"")
    keys: list[str] = []
    page = storage.list_page(limit=2)
    while page.cursor is not None:
        keys += [found.key for found in page.objects]
        page = storage.list_page(limit=2, cursor=page.cursor)
    assert [*keys, *(found.key for found in page.objects)] == ["a"]


@pytest.mark.parametrize(
    "word",
    [
        "=?UTF-8?B?DQpYLUV2aWw6IDE=?=",  # CR LF, and a header line
        "=?UTF-8?B?AA==?=",  # NUL
        "=?UTF-8?B?wo0=?=",  # U+008D
        "=?UTF-8?B?/w==?=",
        "=?ISO-8859-1?Q?a?=",
    ],
)
def test_a_word_that_we_would_not_have_written_stays_as_it_is(
    storage: Storage, root: Path, word: str
) -> None:
    foreign(root, "acme/key", title=word)
    assert storage.head("key").metadata == {"title": word}


def test_a_word_of_ours_is_read(storage: Storage, root: Path) -> None:
    foreign(root, "acme/key", title="=?UTF-8?B?w6l0w6k=?=")
    assert storage.head("key").metadata == {"title": "été"}


# Damage on the local disk -----------------------------------------------------------------


def sidecar(root: Path, key: str) -> Path:
    return root / "objects" / "acme" / f"{key}~object.json"


def damaged(root: Path, key: str, how: Any) -> None:
    path = sidecar(root, key)
    if isinstance(how, str):
        path.write_text(how)
        return
    fields = json.loads(path.read_text())
    changes: dict[str, Any] = how
    for name, value in changes.items():
        (fields if name in fields else fields["attributes"])[name] = value
    path.write_text(json.dumps(fields))


DAMAGE = [
    pytest.param("", id="empty"),
    pytest.param("{", id="cut"),
    pytest.param("[]", id="list"),
    pytest.param("null", id="null"),
    pytest.param("[" * 100_000, id="deep"),
    pytest.param({"metadata": [1]}, id="metadata-list"),
    pytest.param({"metadata": {"a": 1}}, id="metadata-number"),
    pytest.param({"metadata": None}, id="metadata-null"),
    pytest.param({"content_type": 5}, id="type-number"),
    pytest.param({"unheard": "of"}, id="unknown"),
    pytest.param({"attributes": "x"}, id="attributes"),
    pytest.param({"size": "5"}, id="size-text"),
    pytest.param({"size": -1}, id="size-negative"),
    pytest.param({"size": True}, id="size-true"),
    pytest.param({"last_modified": 5}, id="time-number"),
    pytest.param({"last_modified": "2026-01-01"}, id="time-without-zone"),
    pytest.param({"version": "../../x"}, id="version"),
    pytest.param({"format": 2}, id="format"),
    pytest.param({"key": "acme/other"}, id="key"),
]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_object_is_told_listed_and_deleted(
    storage: Storage, root: Path, how: Any
) -> None:
    for key in ("a", "b", "c"):
        storage.put(key, b"12345")
    damaged(root, "b", how)
    for read in (storage.head, storage.get):
        with pytest.raises(IntegrityError):
            read("b")
    listed = list(storage.list())
    assert [found.key for found in listed] == ["a", "b", "c"]
    assert [found.size for found in listed] == [5, 0, 5]
    assert [bool(found.etag) for found in listed] == [True, False, True]
    assert storage.delete_many(found.key for found in listed) == dict.fromkeys("abc")
    assert list(storage.list()) == []


def test_pages_lead_past_a_damaged_object_and_a_put_mends_it(storage: Storage, root: Path) -> None:
    for key in ("a", "b", "c"):
        storage.put(key, b"12345")
    damaged(root, "a", "")
    page = storage.list_page(limit=1)
    assert [(found.key, found.etag) for found in page.objects] == [("a", "")]
    page = storage.list_page(limit=1, cursor=page.cursor)
    assert [found.key for found in page.objects] == ["b"]
    storage.put("a", b"mended")
    assert [found.size for found in storage.list()] == [6, 5, 5]


# Links ------------------------------------------------------------------------------------


def version_of(root: Path, key: str) -> Path:
    (found,) = sidecar(root, key).parent.glob(f"{key}~*.data")
    return found


def test_a_link_in_place_of_an_objects_bytes_is_not_followed(
    storage: Storage, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"12345")
    storage.put("a", b"12345")
    data = version_of(root, "a")
    data.unlink()
    data.symlink_to(secret)
    with pytest.raises(IntegrityError):
        storage.get("a")
    with pytest.raises(IntegrityError):
        storage.copy("a", "b")
    assert not storage.exists("b")
    storage.delete("a")
    assert secret.read_bytes() == b"12345"


def test_a_link_or_a_pipe_in_place_of_a_sidecar_is_not_read(storage: Storage, root: Path) -> None:
    storage.put("a", b"12345")
    for key in ("b", "c", "d"):
        path = sidecar(root, key)
        if key == "b":
            path.symlink_to(sidecar(root, "a"))
        elif key == "c":
            os.mkfifo(path)
        else:
            path.mkdir()
        with pytest.raises(IntegrityError):
            storage.head(key)
    assert [found.key for found in storage.list()] == ["a", "c"]
    sidecar(root, "d").rmdir()
    assert storage.delete_many(list("abc")) == dict.fromkeys("abc")
    assert list(storage.list()) == []


def test_a_listing_follows_no_link(storage: Storage, root: Path) -> None:
    storage.put("a", b"")
    folder = root / "objects" / "acme" / "folder"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    (root / "objects" / "other").mkdir()
    foreign(root, "other/secret")
    (root / "objects" / "acme" / "link").symlink_to(root / "objects" / "other")
    assert [found.key for found in storage.list()] == ["a"]
    assert storage.list_page(delimiter="/").prefixes == []


def test_a_sweep_follows_no_link_and_removes_none(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"x~{'0' * 24}.data"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / name).write_bytes(b"not ours")
    with Platform.from_config(
        {"storage": {"default": "l", "backends": {"l": {"driver": "local", "path": str(root)}}}}
    ) as platform:
        platform.get_service("storage", ACME).put("a", b"")
    objects = root / "objects" / "acme"
    (objects / "link").symlink_to(outside)
    (objects / name).symlink_to(outside / name)
    (root / "uploads" / ("0" * 24)).symlink_to(outside)
    (objects / name.replace("x", "y")).write_bytes(b"left by a crash")
    store = LocalStorage(LocalConfig(path=root), BlockingRuntime())
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 60)
    assert drive(store.sweep(older_than=0)) == 1
    assert (outside / name).read_bytes() == b"not ours"
    assert (objects / name).is_symlink()
