"""The suite of keys: whatever is legal is kept byte for byte, the rest never leaves."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from .harness import StorageFace, StorageHarness, refused

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage

LEGAL = {
    "spaces": " a  b ",
    "only a space": " ",
    "URL syntax": "a#b?c=d&e;f:g@h",
    "plus": "a+b",
    "percent": "100%",
    "encoded slash": "a%2Fb",
    "encoded dots": "%2e%2e/a",
    "encoded NUL": "a%00b",
    "encoded again": "a%252Fb",
    "quotes": "\"a\"'b'`c`",
    "backslash": "a\\b\\..\\c",
    "brackets": "*[a]{b}<c>(d)|e^f",
    "shell": "$(a);~ !",
    "markup": "&amp;&lt;a>]]>",
    "French": "Été/à la plage/œuvre.md",
    "NFC": "caf\u00e9",
    "NFD": "cafe\u0301",
    "full-width": "．．/Ａ／Ｂ",
    "emoji": "🏖️/👩‍👩‍👧",
    "beyond the BMP": "\U0010fffd/𝔘",
    "right to left": "שלום/\u202eabc",
    "invisible": "a\u200bb\ufeffc\u00ad",
    "no-break space": "a\u00a0b\u3000c",
    "900 bytes": "é" * 450,
    "900 bytes of ASCII": "x" * 900,
    "one long segment and more": f"a/{'y' * 400}/b",
    "many segments": "/".join("abcdefghij" * 20),
    "a folder marker": "folder/",
    "a folder marker and more": "folder//",
    "an empty segment": "a//b",
    "empty segments": "a////b",
    "hidden": ".hidden/.a",
    "three dots": ".../....",
    "dots inside": "a..b/c.",
    "dots at the end": "a./b..",
    "spaces at the end": "a /b ",
    "upper case": "Case/KEY",
    "lower case": "case/key",
    "a Windows device": "CON/aux.txt",
    "a drive": "C:/a",
    "a tilde": "~/a~1",
    "a sidecar's look": "a~object.json",
    "a dash": "-rf",
    "equals": "=a/a=",
    "a version": "a?versionId=null",
    "a query": "?list-type=2&prefix=",
    "a URL": "https://example.com/a",
    "digits": "0",
}

ILLEGAL = {
    "empty": "",
    "leading slash": "/a",
    "only a slash": "/",
    "dot": ".",
    "dots": "..",
    "dots before": "../a",
    "dots between": "a/../b",
    "dots after": "a/..",
    "dot between": "a/./b",
    "dot after": "a/.",
    "NUL": "a\x00b",
    "newline": "a\n",
    "carriage return": "\ra",
    "tab": "a\tb",
    "escape": "\x1b[0m",
    "DEL": "a\x7f",
    "C1": "a\x85b",
    "surrogate": "a\ud800",
    "surrogates": "\udc80\udcff",
    "no character": "a\uffff",
    "no character either": "\ufffe",
    "bytes": b"a",
    "nothing": None,
    "a number": 5,
    "a list": ["a"],
}


class KeysConformance(StorageHarness):
    """Every test has a store of its own."""

    @pytest.mark.parametrize("key", list(LEGAL.values()), ids=list(LEGAL))
    def test_a_legal_key_is_kept_by_every_method(self, storage: Storage, key: str) -> None:
        put = storage.put(key, b"body", metadata={"a": "b"})
        assert put.key == key
        assert storage.head(key).key == key
        with storage.get(key) as stored:
            assert (stored.info.key, stored.read()) == (key, b"body")
        assert storage.get_range(key, 1, 2) == b"od"
        assert [listed.key for listed in storage.list()] == [key]
        assert [listed.key for listed in storage.list(key)] == [key]
        copied = storage.copy(key, f"copy of {key}")
        assert copied.key == f"copy of {key}"
        assert storage.copy(f"copy of {key}", key).key == key
        assert sorted(listed.key for listed in storage.list()) == sorted([key, f"copy of {key}"])
        storage.delete(f"copy of {key}")
        assert storage.delete_many([key]) == {key: None}
        assert list(storage.list()) == []

    def test_no_two_keys_are_one(self, storage: Storage) -> None:
        for name, key in LEGAL.items():
            storage.put(key, name.encode())
        in_order = sorted(LEGAL.values(), key=str.encode)
        assert [listed.key for listed in storage.list()] == in_order
        for name, key in LEGAL.items():
            assert storage.get(key).read() == name.encode()
        for gone, kept in pairwise(in_order):
            storage.delete(gone)
            assert not storage.exists(gone)
            assert storage.exists(kept)

    def test_a_key_in_parts_is_kept(self, storage: Storage, face: StorageFace) -> None:
        key = "a//b/ é%2F+?#/"
        body = bytes(face.part_size + 1)
        storage.put(key, body, part_size=face.part_size)
        assert [(listed.key, listed.size) for listed in storage.list()] == [(key, len(body))]

    @pytest.mark.parametrize("fill", ["x", "é", "\U0001f600"])
    def test_a_key_may_be_as_long_as_the_limit(
        self, storage: Storage, face: StorageFace, fill: str
    ) -> None:
        room = face.limits.max_key - len(face.physical(storage, "").encode())
        key = fill * (room // len(fill.encode()))
        key += "x" * (room - len(key.encode()))
        storage.put(key, b"body")
        assert storage.get(key).read() == b"body"
        assert [listed.key for listed in storage.list()] == [key]
        error = refused(face, storage.put, key + "x", b"body")
        assert str(room) in str(error)

    @pytest.mark.parametrize("key", list(ILLEGAL.values()), ids=list(ILLEGAL))
    def test_an_illegal_key_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, key: Any
    ) -> None:
        for act in (
            lambda: storage.put(key, b"body"),
            lambda: storage.get(key),
            lambda: storage.get_range(key, 0),
            lambda: storage.get_ranges(key, [(0, 1)]),
            lambda: storage.head(key),
            lambda: storage.exists(key),
            lambda: storage.verify(key),
            lambda: storage.delete(key),
            lambda: storage.delete_many([key]),
            lambda: storage.copy(key, "to"),
            lambda: storage.copy("from", key),
            lambda: storage.presign(key),
        ):
            error = refused(face, act)
            assert error.service in (None, "storage")
            assert "key" in str(error)


__all__ = ["ILLEGAL", "LEGAL", "KeysConformance"]
