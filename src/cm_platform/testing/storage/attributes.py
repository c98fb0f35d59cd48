"""The suite of attributes: what is stored beside the bytes comes back as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.storage.backend import REVISION, SHA256

from .harness import StorageFace, StorageHarness, pattern, refused

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage

HEADERS = {
    "content_type": "text/markdown; charset=utf-8",
    "cache_control": "public, max-age=31536000, immutable",
    "content_disposition": "attachment; filename*=UTF-8''%C3%89t%C3%A9%20%C3%A0%20la%20plage.md",
    "content_encoding": "gzip",
    "content_language": "fr-FR",
}

VALUES = {
    "plain": "festival",
    "one character": "x",
    "French": "Été à la plage, où l’œuvre naît: ça, «là-bas»",
    "Japanese": "日本語のタイトル",
    "right to left": "שלום עולם",
    "emoji": "🏖️👩‍👩‍👧",
    "decomposed": "E\u0301te\u0301",
    "empty": "",
    "only spaces": "   ",
    "spaces around": "  between  ",
    "no-break space": "\u00a0x\u00a0",
    "our own encoding": "=?UTF-8?B?w6k=?=",
    "another encoding": "=?iso-8859-1?Q?=E9?=",
    "half an encoding": "=?",
    "ends like one": "?=",
    "percent": "100% %41 %C3%A9",
    "quotes": "\"double\" 'single' `back`",
    "separators": "a,b;c=d: e\\f/g",
    "markup": "<b>&amp;</b>",
    "200 characters": "x" * 200,
}

# Our own metadata on an object whose digest is known: two names, a revision and a digest.
_OURS = len(REVISION) + 32 + len(SHA256) + 64


def filling(size: int) -> dict[str, str]:
    """Metadata whose names and values have so many bytes, in values that any store takes."""
    metadata: dict[str, str] = {}
    while size > 0:
        name = f"n{len(metadata):03}"
        # No rest too small to be a name with a value.
        length = size - len(name) if size <= 200 else min(150, size - len(name) - 20)
        metadata[name] = "v" * length
        size -= len(name) + length
    return metadata


class AttributesConformance(StorageHarness):
    """Every test has a store of its own."""

    @pytest.mark.parametrize("large", [False, True], ids=["one request", "parts"])
    def test_headers_come_back_as_they_were(
        self, storage: Storage, face: StorageFace, large: bool
    ) -> None:
        body = pattern(face.part_size + 1) if large else b"body"
        headers: dict[str, Any] = dict(HEADERS)
        storage.put("key", body, part_size=face.part_size, **headers)
        storage.copy("key", "copy")
        for key in ("key", "copy"):
            head = storage.head(key)
            with storage.get(key) as stored:
                assert stored.info == head
            assert {name: getattr(head, name) for name in HEADERS} == HEADERS

    def test_a_body_that_says_gzip_is_not_unpacked(self, storage: Storage) -> None:
        storage.put("key", b"not gzip at all", content_encoding="gzip")
        assert storage.get("key").read() == b"not gzip at all"
        assert b"".join(storage.get("key").chunks()) == b"not gzip at all"

    def test_unless_said_a_body_is_an_octet_stream(self, storage: Storage) -> None:
        assert storage.put("key.html", b"<p>").content_type == "application/octet-stream"
        head = storage.head("key.html")
        assert head.content_type == "application/octet-stream"
        assert head.cache_control is None
        assert head.content_disposition is None
        assert head.content_encoding is None
        assert head.content_language is None
        assert head.metadata == {}

    @pytest.mark.parametrize("value", list(VALUES.values()), ids=list(VALUES))
    def test_metadata_may_be_any_text(self, storage: Storage, value: str) -> None:
        put = storage.put("key", b"body", metadata={"value": value, "other": "x"})
        assert put.metadata == {"value": value, "other": "x"}
        assert storage.head("key").metadata == {"value": value, "other": "x"}
        assert storage.copy("key", "copy").metadata == {"value": value, "other": "x"}
        assert storage.get("copy").info.metadata == {"value": value, "other": "x"}

    def test_metadata_names_are_kept(self, storage: Storage) -> None:
        metadata = {"a": "1", "0": "2", "a-b-c": "3", "x" * 100: "4", "content-type": "5"}
        storage.put("key", b"body", metadata=metadata)
        assert storage.head("key").metadata == metadata

    def test_metadata_may_be_as_large_as_the_limit(
        self, storage: Storage, face: StorageFace
    ) -> None:
        metadata = filling(face.limits.max_metadata - _OURS)
        storage.put("key", b"body", metadata=metadata)
        assert storage.head("key").metadata == metadata

    @pytest.mark.parametrize("value", ["v", "é"])
    def test_metadata_over_the_limit_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, value: str
    ) -> None:
        metadata = filling(face.limits.max_metadata - _OURS - 5) | {"more": value}
        if value == "v":
            storage.put("key", b"body", metadata=metadata)
            metadata["more"] += "v"
        error = refused(face, storage.put, "key", b"body", metadata=metadata)
        assert str(face.limits.max_metadata) in str(error)

    @pytest.mark.parametrize(
        "name",
        [
            *("", "A", "a_b", "a b", "é", "-a", "a:", "a\n", "a\r\nx-evil", "a\x00", "x" * 128),
            *("cm-", "cm-rev", "cm-sha256", "cm-mine", 5, None),
        ],
    )
    def test_a_wrong_metadata_name_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, name: Any
    ) -> None:
        refused(face, storage.put, "key", b"body", metadata={name: "value"})

    @pytest.mark.parametrize(
        "value", ["a\nb", "a\r\nx-evil: 1", "\x00", "\x7f", "\x85", "\ud800", "\t", 5, None, b"x"]
    )
    def test_a_wrong_metadata_value_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, value: Any
    ) -> None:
        refused(face, storage.put, "key", b"body", metadata={"name": value})

    @pytest.mark.parametrize("metadata", [["a"], [], "a", 5, [("a", "b")], {"a"}])
    def test_what_is_no_mapping_is_no_metadata(
        self, storage: Storage, face: StorageFace, metadata: Any
    ) -> None:
        refused(face, storage.put, "key", b"body", metadata=metadata)

    @pytest.mark.parametrize("value", ["", " x", "x ", "a\r\nx-evil: 1", "a\nb", "é", "\x00", 5])
    @pytest.mark.parametrize("header", list(HEADERS))
    def test_a_wrong_header_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, header: str, value: Any
    ) -> None:
        arguments: dict[str, Any] = {header: value}
        refused(face, storage.put, "key", b"body", **arguments)


__all__ = ["AttributesConformance"]
