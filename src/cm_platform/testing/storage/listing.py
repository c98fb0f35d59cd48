"""The suite of listing: exact, in order, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

from cm_platform.errors import InvalidArgumentError

from .harness import StorageFace, StorageHarness, refused

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage

# Sorted by UTF-8 bytes, which neither a dictionary's nor UTF-16's order is.
KEYS = sorted(
    [
        "a",
        "a-b",
        "a.txt",
        "a/",
        "a/1",
        "a/10",
        "a/2",
        "a/b/c",
        "a/b/d/e",
        "a//b",
        "a0",
        "ab/1",
        "B",
        "é/1",
        "e\u0301/1",
        "zz",
        "\uff21",
        "\U0001f600",
        "~",
    ],
    key=str.encode,
)
PREFIXES = ["", "a", "a/", "a/1", "a/b", "a//", "ab", "é", "nothing", "a/b/d/e", "\U0001f600"]


def fill(storage: Storage, keys: Iterable[str]) -> None:
    """An object for each key, whose body is the key."""
    for key in keys:
        storage.put(key, key.encode())


def expected(
    keys: Iterable[str], prefix: str, delimiter: str | None
) -> tuple[list[str], list[str]]:
    """The objects and the prefixes that a listing must have."""
    objects: list[str] = []
    prefixes: list[str] = []
    for key in keys:
        if key.startswith(prefix):
            at = -1 if delimiter is None else key.find(delimiter, len(prefix))
            if at < 0:
                objects.append(key)
            elif key[: at + 1] not in prefixes:
                prefixes.append(key[: at + 1])
    return objects, prefixes


def pages(
    storage: Storage, prefix: str, delimiter: Literal["/"] | None, limit: int
) -> Iterator[tuple[list[str], list[str]]]:
    """All pages of a listing, which must come to an end."""
    cursor: str | None = None
    for _ in range(2 * len(KEYS) + 2):
        page = storage.list_page(prefix, delimiter=delimiter, limit=limit, cursor=cursor)
        yield [listed.key for listed in page.objects], list(page.prefixes)
        if (cursor := page.cursor) is None:
            return
    raise AssertionError("the listing does not come to an end")


class ListingConformance(StorageHarness):
    """Every test has a store of its own."""

    def test_an_empty_store_lists_nothing(self, storage: Storage) -> None:
        assert list(storage.list()) == []
        for delimiter in (None, "/"):
            page = storage.list_page(delimiter=delimiter)
            assert (list(page.objects), list(page.prefixes), page.cursor) == ([], [], None)

    def test_a_listing_describes_as_head_does(self, storage: Storage) -> None:
        storage.put("a/Été", b"12345", metadata={"a": "b"})
        [listed] = storage.list()
        head = storage.head("a/Été")
        assert (listed.key, listed.size, listed.etag) == (head.key, head.size, head.etag)
        assert listed.last_modified is not None
        assert head.last_modified is not None
        # Headers have whole seconds, and some round them.
        assert abs((listed.last_modified - head.last_modified).total_seconds()) <= 1

    def test_keys_come_in_the_order_of_their_utf8_bytes(self, storage: Storage) -> None:
        fill(storage, reversed(KEYS))
        assert [listed.key for listed in storage.list()] == KEYS

    def test_prefixes_and_delimiters_give_the_same_in_pages_of_any_size(
        self, storage: Storage
    ) -> None:
        fill(storage, KEYS)
        for prefix in PREFIXES:
            for delimiter in (None, "/"):
                objects, prefixes = expected(KEYS, prefix, delimiter)
                count = len(objects) + len(prefixes)
                for limit in sorted({1, 2, 3, 5, max(1, count - 1), max(1, count), count + 1}):
                    seen = list(pages(storage, prefix, delimiter, limit))
                    where = f"prefix {prefix!r}, delimiter {delimiter!r}, limit {limit}"
                    assert [key for page, _ in seen for key in page] == objects, where
                    assert [found for _, page in seen for found in page] == prefixes, where
                    assert all(len(a) + len(b) <= limit for a, b in seen), where
                if delimiter is None:
                    assert [listed.key for listed in storage.list(prefix)] == objects

    def test_pages_are_in_order_across_objects_and_prefixes(self, storage: Storage) -> None:
        fill(storage, KEYS)
        entries = [
            entry
            for objects, prefixes in pages(storage, "", "/", 1)
            for entry in (*objects, *prefixes)
        ]
        assert entries == sorted(entries, key=str.encode)

    def test_folder_markers_are_objects(self, storage: Storage) -> None:
        fill(storage, ["a/", "a//", "a//b", "a/b"])
        assert expected(["a/", "a//", "a//b", "a/b"], "a/", "/") == (["a/", "a/b"], ["a//"])
        page = storage.list_page("a/", delimiter="/")
        assert [listed.key for listed in page.objects] == ["a/", "a/b"]
        assert list(page.prefixes) == ["a//"]
        page = storage.list_page("a//", delimiter="/")
        assert [listed.key for listed in page.objects] == ["a//", "a//b"]

    def test_more_than_a_page_is_listed_whole(self, storage: Storage, face: StorageFace) -> None:
        keys = [f"{n:03}" for n in range(45)]
        fill(storage, keys)
        face.calls.clear()
        assert [key for page, _ in pages(storage, "", None, 10) for key in page] == keys
        assert face.calls.count("list") >= 5

    def test_a_listing_survives_changes_between_its_pages(self, storage: Storage) -> None:
        fill(storage, ["a", "c", "e", "g"])
        first = storage.list_page(limit=2)
        assert [listed.key for listed in first.objects] == ["a", "c"]
        storage.delete_many(["a", "c", "e"])
        fill(storage, ["b", "d", "f"])
        rest = storage.list_page(limit=10, cursor=first.cursor)
        assert [listed.key for listed in rest.objects] == ["d", "f", "g"]

    def test_a_write_is_listed_at_once(self, storage: Storage) -> None:
        for n in range(3):
            storage.put(f"key{n}", b"x" * n)
            assert [listed.size for listed in storage.list()] == list(range(n + 1))

    def test_a_listing_may_be_left_midway(self, storage: Storage) -> None:
        fill(storage, ["a", "b", "c"])
        listing: Any = storage.list()
        assert next(listing).key == "a"
        listing.close()
        assert [listed.key for listed in storage.list()] == ["a", "b", "c"]

    def test_a_cursor_is_bound_to_its_listing(self, storage: Storage, face: StorageFace) -> None:
        fill(storage, ["a/1", "a/2", "a/3", "b"])
        cursor = storage.list_page("a/", limit=1).cursor
        assert cursor is not None
        other = face.storage()
        fill(other, ["a/1", "a/2"])
        ours: Any = {"prefix": "a/", "limit": 1, "cursor": cursor}
        for wrong in (
            {**ours, "prefix": ""},
            {**ours, "prefix": "a"},
            {**ours, "delimiter": "/"},
            {**ours, "cursor": cursor[:-1]},
            {**ours, "cursor": cursor + "A"},
            {**ours, "cursor": ("B" if cursor[0] == "A" else "A") + cursor[1:]},
            {**ours, "cursor": cursor.swapcase()},
            {**ours, "cursor": ""},
            {**ours, "cursor": "a/1"},
            {**ours, "cursor": "é.é.é"},
            {**ours, "cursor": 5},
        ):
            refused(face, storage.list_page, **wrong)
        refused(face, other.list_page, **ours)
        # Another limit is the reader's choice.
        page = storage.list_page("a/", limit=5, cursor=cursor)
        assert [listed.key for listed in page.objects] == ["a/2", "a/3"]

    @pytest.mark.parametrize("limit", [0, -1, 10**9, "1", 1.5, True, None])
    def test_a_wrong_limit_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, limit: Any
    ) -> None:
        refused(face, storage.list_page, limit=limit)

    @pytest.mark.parametrize("delimiter", ["", "-", "//", 5])
    def test_a_wrong_delimiter_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, delimiter: Any
    ) -> None:
        refused(face, storage.list_page, delimiter=delimiter)

    @pytest.mark.parametrize(
        "prefix",
        ["/", "/a", "../", "a/../", "./", "a/./b", "a\x00", "\n", "\ud800", "x" * 2000, None, 5],
    )
    def test_a_wrong_prefix_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, prefix: Any
    ) -> None:
        refused(face, storage.list_page, prefix)
        face.calls.clear()
        with pytest.raises(InvalidArgumentError):
            next(iter(storage.list(prefix)))
        assert not face.calls


__all__ = ["ListingConformance"]
