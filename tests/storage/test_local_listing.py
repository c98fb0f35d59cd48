"""Listings of `storage.local`: order, prefixes, pages, against a model."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cm_platform.errors import InvalidArgumentError, NotFoundError
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.storage.backend import Attributes, ObjectInfo
from cm_platform.storage.local import BACKEND, LocalConfig, LocalStorage, listing, sidecar

PLAIN = Attributes()

pieces = st.sampled_from(
    [
        *("", "a", "A", "a-b", "a0", "b", ".", "..", "%", "~", "+", "=", "\0", "\n"),
        *("é", "e\u0301", "\uffff", "😀", "é" * 40),
        *("x" * 200, "x" * 201, "x" * 200 + "!", "x" * 250),
    ]
)
any_key = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
legal_keys = st.one_of(st.lists(pieces, min_size=1, max_size=4).map("/".join), any_key).filter(
    lambda key: 0 < len(key.encode()) <= 1024
)


def opened(path: Path) -> LocalStorage:
    async def open_store() -> LocalStorage:
        store = await BACKEND.open(LocalConfig(path=path), BlockingRuntime())
        assert isinstance(store, LocalStorage)
        return store

    return drive(open_store())


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return opened(tmp_path)


def fill(store: LocalStorage, *keys: str) -> None:
    for key in keys:
        drive(store.put(key, key.encode(), PLAIN))


def listed(
    store: LocalStorage, prefix: str = "", *, delimited: bool = False, limit: int = 1000
) -> list[str]:
    """Keys and prefixes of all pages, in the order in which they came."""
    found: list[str] = []
    cursor = None
    while True:
        page = drive(
            store.list(prefix, delimiter="/" if delimited else None, cursor=cursor, limit=limit)
        )
        entries = [item.key for item in page.objects] + list(page.prefixes)
        assert len(entries) <= limit
        found += sorted(entries)
        cursor = page.cursor
        if cursor is None:
            return found


def model(keys: set[str], prefix: str, *, delimited: bool) -> list[str]:
    matching = {key for key in keys if key.startswith(prefix)}
    if delimited:
        matching = {
            prefix + rest.partition("/")[0] + rest.partition("/")[1]
            for rest in (key.removeprefix(prefix) for key in matching)
        }
    return sorted(matching, key=lambda name: name.encode())


@settings(max_examples=25, deadline=None)
@given(
    keys=st.sets(legal_keys, max_size=12),
    cut=st.integers(0, 300),
    limit=st.integers(1, 5),
    batch=st.sampled_from([1, 2, 3, 1001]),
)
@example(keys={"a-b", "a/b", "a0", "a", "a/"}, cut=1, limit=1, batch=1)
@example(keys={"/" * 1024, "/"}, cut=1, limit=1, batch=1)
@example(
    keys={"x" * 200, "x" * 200 + "/b", "x" * 200 + "!/b", "x" * 201}, cut=200, limit=1, batch=2
)
def test_arbitrary_keys_are_kept_and_listed_in_order(
    keys: set[str], cut: int, limit: int, batch: int
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_BATCH", batch)
        store = opened(Path(directory))
        fill(store, *keys)
        assert listed(store, limit=limit) == sorted(keys, key=lambda key: key.encode())
        for key in keys:
            reply = drive(store.get(key))
            assert drive(reply.read()) == key.encode()
            prefix = key[:cut]
            for delimited in (False, True):
                expected = model(keys, prefix, delimited=delimited)
                assert listed(store, prefix, delimited=delimited, limit=limit) == expected
        for key in keys:
            drive(store.delete(key))
        assert list((Path(directory) / "objects").iterdir()) == []


def test_a_listed_object_is_described(store: LocalStorage) -> None:
    written = drive(store.put("a", b"12345", PLAIN))
    (item,) = drive(store.list("", delimiter=None, cursor=None, limit=1)).objects
    assert (item.key, item.size, item.etag) == ("a", 5, written.etag)
    assert item.last_modified == written.last_modified


def test_a_delimiter_rolls_keys_up_and_the_limit_counts_both(store: LocalStorage) -> None:
    fill(store, "a", "b/1", "b/2", "c", "d/x/y")
    page = drive(store.list("", delimiter="/", cursor=None, limit=2))
    assert ([item.key for item in page.objects], page.prefixes) == (["a"], ["b/"])
    page = drive(store.list("", delimiter="/", cursor=page.cursor, limit=2))
    assert ([item.key for item in page.objects], page.prefixes) == (["c"], ["d/"])
    assert page.cursor is None


def test_a_key_that_ends_with_the_delimiter_is_prefix_or_object(store: LocalStorage) -> None:
    fill(store, "a/", "a/b")
    page = drive(store.list("", delimiter="/", cursor=None, limit=9))
    assert (page.objects, page.prefixes) == ([], ["a/"])
    page = drive(store.list("a/", delimiter="/", cursor=None, limit=9))
    assert [item.key for item in page.objects] == ["a/", "a/b"]


def test_the_last_full_page_has_no_cursor(store: LocalStorage) -> None:
    fill(store, "a", "b")
    assert drive(store.list("", delimiter=None, cursor=None, limit=2)).cursor is None


def test_a_directory_without_objects_is_no_prefix(store: LocalStorage) -> None:
    fill(store, "a/b")
    (store.native() / "objects" / "empty" / "deep").mkdir(parents=True)
    assert listed(store, delimited=True) == ["a/"]


def test_foreign_files_are_passed_over(store: LocalStorage) -> None:
    fill(store, "a")
    objects = store.native() / "objects"
    for name in (".DS_Store", "README", "A~object.json", "a~stray", "thumbs.db~"):
        (objects / name).write_bytes(b"foreign")
    assert listed(store) == ["a"]
    (objects / "readable").write_bytes(b"foreign, with a name that a directory could have")
    assert listed(store) == listed(store, delimited=True) == ["a"]
    with pytest.raises(NotFoundError):
        drive(store.head("readable/a"))


def test_a_cursor_of_another_listing_is_refused(store: LocalStorage) -> None:
    fill(store, "a/1", "a/2", "a/3")
    cursor = drive(store.list("a/", delimiter=None, cursor=None, limit=1)).cursor
    assert cursor is not None
    forged = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    for bad in (forged, "", "a/1", "é", "!", cursor[:-4]):
        with pytest.raises(InvalidArgumentError):
            drive(store.list("a/", delimiter=None, cursor=bad, limit=1))
    with pytest.raises(InvalidArgumentError):
        drive(store.list("a/1", delimiter=None, cursor=cursor, limit=1))
    with pytest.raises(InvalidArgumentError):
        drive(store.list("a/", delimiter="/", cursor=cursor, limit=1))


def test_a_listing_goes_on_where_the_last_key_was_deleted(store: LocalStorage) -> None:
    fill(store, "a/1", "a/2", "b/1")
    page = drive(store.list("", delimiter=None, cursor=None, limit=2))
    for key in ("a/1", "a/2"):
        drive(store.delete(key))
    page = drive(store.list("", delimiter=None, cursor=page.cursor, limit=2))
    assert [item.key for item in page.objects] == ["b/1"]


def test_deletes_during_a_walk_do_not_raise(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, *(f"{letter}/{number}" for letter in "abc" for number in range(3)))
    read = sidecar.read

    def delete_first(path: str, key: str) -> ObjectInfo | None:
        monkeypatch.setattr(sidecar, "read", read)
        drive(store.delete_many([f"{letter}/{number}" for letter in "ac" for number in range(3)]))
        return read(path, key)

    monkeypatch.setattr(sidecar, "read", delete_first)
    assert listed(store) == ["b/0", "b/1", "b/2"]


def test_a_deep_prefix_reads_no_other_directory(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, "other/1", "a/other/1", "a/b/cat/1", "a/b/dog/1")
    read: list[str] = []
    scan = os.scandir

    def watched(path: str) -> object:
        read.append(path.removeprefix(str(store.native())))
        return scan(path)

    monkeypatch.setattr(os, "scandir", watched)
    assert listed(store, "a/b/c") == ["a/b/cat/1"]
    assert read == ["/objects/a/b", "/objects/a/b/cat"]


def test_a_page_begins_at_its_cursor(store: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, *(f"{letter}/{number}" for letter in "abcd" for number in range(2)))
    page = drive(store.list("", delimiter=None, cursor=None, limit=5))
    read: list[str] = []
    scan = os.scandir

    def watched(path: str) -> object:
        read.append(path.removeprefix(str(store.native())))
        return scan(path)

    monkeypatch.setattr(os, "scandir", watched)
    drive(store.list("", delimiter=None, cursor=page.cursor, limit=5))
    assert read == ["/objects", "/objects/c", "/objects/d"]
