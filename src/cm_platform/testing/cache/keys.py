"""The suite of keys: every legal text is one key, byte for byte; every other is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import InvalidArgumentError

from .harness import OTHER, RAW, CacheFace, CacheHarness, refused

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache

LEGAL = {
    "a letter": "a",
    "a space": " ",
    "spaces": " a  b ",
    "colons": "a:b::c:",
    "slashes": "/a//b/",
    "dot": ".",
    "dots": "..",
    "up": "../../a",
    "URL syntax": "a#b?c=d&e;f:g@h",
    "plus": "a+b",
    "percent": "100%",
    "encoded slash": "a%2Fb",
    "encoded dots": "%2e%2e/a",
    "encoded NUL": "a%00b",
    "quotes": "\"a\"'b'`c`",
    "backslash": "a\\b\\..\\c",
    "a glob": "*",
    "a glob of one": "a?",
    "a class": "[a-z]*",
    "a hash tag": "{a}b",
    "an empty hash tag": "{}a",
    "an open brace": "{a",
    "a name of ours": "~default!g",
    "a value of ours": "~default:a",
    "a generation": "!g",
    "a tag": "!t:a",
    "a lock": "!l:a",
    "shell": "$(a);~ !",
    "SQL": "'; DROP TABLE entries; --",
    "LIKE": "a_b%",
    "NFC": "caf\u00e9",
    "NFD": "cafe\u0301",
    "full-width": "．．/Ａ／Ｂ",
    "emoji": "🏖️/👩‍👩‍👧",
    "beyond the BMP": "\U0010fffd/𝔘",
    "right to left": "שלום/\u202eabc",
    "invisible": "a\u200bb\ufeffc\u00ad",
    "no-break space": "a\u00a0b\u3000c",
    "line separator": "a\u2028b\u2029",
    "no character": "a\uffff",
    "upper case": "KEY",
    "lower case": "key",
    "dotless": "ı",
    "dotted": "İ",
    "sharp s": "ß",
    "digits": "0",
    "400 bytes": "é" * 200,
    "400 bytes of ASCII": "x" * 400,
}

ILLEGAL: dict[str, Any] = {
    "empty": "",
    "NUL": "a\x00b",
    "newline": "a\n",
    "carriage return": "\ra",
    "tab": "a\tb",
    "escape": "\x1b[0m",
    "DEL": "a\x7f",
    "C1": "a\x85b",
    "surrogate": "a\ud800",
    "surrogates": "\udc80\udcff",
    "bytes": b"a",
    "nothing": None,
    "a number": 5,
    "a list": ["a"],
}


class KeysConformance(CacheHarness):
    """Every test has a cache of its own."""

    @pytest.mark.parametrize("key", list(LEGAL.values()), ids=list(LEGAL))
    def test_a_legal_key_is_kept_by_every_method(
        self, cache: Cache, face: CacheFace, key: str
    ) -> None:
        assert cache.get(key) is None
        cache.set(key, "value", tags=("tag",))
        assert cache.get(key) == "value"
        assert cache.get_many([key, key + "x"]) == {key: "value"}
        assert cache.ttl(key) is not None
        assert cache.get_or_set(key, lambda: "other") == "value"
        assert cache.set_many({key: "again"}) == {key: None}
        assert cache.get(key) == "again"
        assert cache.delete_many([key]) == {key: None}
        assert cache.get_or_set(key, lambda: "other") == "other"
        if CacheCapability.COMPARE_AND_SET in face.capabilities:
            assert cache.touch(key, 1000.0) is True
            assert cache.set(key, "new", only_if="absent") is False
        cache.delete(key)
        assert cache.get(key) is None
        if CacheCapability.ATOMIC_INCREMENT in face.capabilities:
            assert [cache.increment(key), cache.increment(key)] == [1, 2]

    @pytest.mark.parametrize("namespace", ["default", OTHER, RAW])
    def test_no_two_keys_are_one(self, cache: Cache, namespace: str) -> None:
        space = cache.namespace(namespace)
        keys = [key for key in LEGAL.values() if namespace != RAW or not key.startswith("~")]
        for key in keys:
            space.set(key, key.encode())
        assert space.get_many(keys) == {key: key.encode() for key in keys}
        for gone in keys[::2]:
            space.delete(gone)
        assert space.get_many(keys) == {key: key.encode() for key in keys[1::2]}
        for key in keys:
            assert space.get(key) == (key.encode() if key in keys[1::2] else None)

    @pytest.mark.parametrize("fill", ["x", "é", "\U0001f600"])
    def test_a_key_may_be_as_long_as_the_limit(
        self, cache: Cache, face: CacheFace, fill: str
    ) -> None:
        # What a lock's name needs, which is the longest.
        room = face.limits.max_key - len(f"{face.partition(cache)}~default!l:".encode())
        if room > 20_000:
            pytest.skip("the store's keys are as long as anyone's")
        key = fill * (room // len(fill.encode()))
        key += "x" * (room - len(key.encode()))
        assert cache.get_or_set(key, lambda: "value") == "value"
        assert cache.get_many([key]) == {key: "value"}
        error = refused(face, cache.set, key + "x", "value")
        assert str(room) in str(error)
        refused(face, cache.get, key + "x")

    @pytest.mark.parametrize("key", list(ILLEGAL.values()), ids=list(ILLEGAL))
    def test_an_illegal_key_is_refused_before_any_io(
        self, cache: Cache, face: CacheFace, key: Any
    ) -> None:
        for space in (cache, cache.namespace(RAW)):
            for act in self._acts(space, face, key):
                error = refused(face, act)
                assert error.service in (None, "cache")
                assert "key" in str(error)
        refused(face, cache.get_or_set, key, lambda: "value")

    @staticmethod
    def _acts(space: Cache, face: CacheFace, key: Any) -> list[Callable[[], Any]]:
        acts: list[Callable[[], Any]] = [
            lambda: space.get(key),
            lambda: space.get_many(["fine", key]),
            lambda: space.set(key, b"value"),
            lambda: space.delete(key),
            lambda: space.delete_many([key]),
        ]
        if key.__hash__ is not None:
            acts.append(lambda: space.set_many({key: b"value"}))
        if CacheCapability.COMPARE_AND_SET in face.capabilities:
            acts.append(lambda: space.set(key, b"value", only_if="absent"))
        if CacheCapability.EXPIRE in face.capabilities:
            acts.append(lambda: space.touch(key, 5))
            acts.append(lambda: space.ttl(key))
        if CacheCapability.ATOMIC_INCREMENT in face.capabilities:
            acts.append(lambda: space.increment(key))
        return acts

    @pytest.mark.parametrize(
        "name", ["", "A", "a b", "a:b", "../a", "é", "-a", "a\n", "x" * 64, 5, None, b"a"], ids=repr
    )
    def test_what_is_no_namespace_is_refused(
        self, cache: Cache, face: CacheFace, name: Any
    ) -> None:
        face.calls.clear()
        with pytest.raises(InvalidArgumentError):
            cache.namespace(name)
        assert not face.calls

    def test_the_default_namespace_has_a_name(self, cache: Cache) -> None:
        assert cache.namespace("default").get_or_set("key", lambda: 1) == 1
        assert cache.get("key") == 1
        assert cache.namespace(OTHER).namespace("default").get("key") == 1


__all__ = ["ILLEGAL", "LEGAL", "KeysConformance"]
