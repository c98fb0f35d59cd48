"""The suite of raw namespaces: keys and bytes as other programs have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import (
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
    UnsupportedError,
)

from .harness import RAW, CacheFace, CacheHarness, call, need, refused

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache


class SharingConformance(CacheHarness):
    """What is under a key is what was given, no more and no less."""

    @pytest.fixture
    def raw(self, cache: Cache) -> Cache:
        """The raw namespace of a new tenant."""
        return cache.namespace(RAW)

    def test_bytes_are_kept_as_they_are(self, raw: Cache, face: CacheFace) -> None:
        assert raw.set("sess:1", b"\x00\xff") is True
        raw.set_many({"text": "é", "array": bytearray(b"a")})
        assert raw.get("sess:1") == b"\x00\xff"
        assert raw.get_many(["text", "array", "absent"]) == {"text": "é".encode(), "array": b"a"}
        assert face.raw(raw, "sess:1", "text", "array") == [b"\x00\xff", "é".encode(), b"a"]

    def test_what_others_wrote_is_read(self, raw: Cache, face: CacheFace) -> None:
        for key, value in (("a", b""), ("b:c", b"\xc5\x00"), ("d", b"12")):
            face.plant(raw, key, value)
            assert raw.get(key) == value

    def test_what_is_absent_is_the_default_here_too(self, raw: Cache) -> None:
        assert raw.get("key") is None
        assert raw.get("key", b"default") == b"default"
        raw.set("key", b"")
        assert raw.get("key", b"default") == b""

    def test_delete_forgets(self, raw: Cache) -> None:
        raw.set_many({"a": b"1", "b": b"2", "c": b"3"})
        raw.delete("a")
        assert raw.delete_many(["b", "absent"]) == {"b": None, "absent": None}
        assert raw.get_many(["a", "b", "c"]) == {"c": b"3"}

    def test_bytes_live_as_long_as_their_ttl(self, raw: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.EXACT_TTL)
        raw.set("for ever", b"kept", ttl=None)
        self.runs_out(
            face,
            self.moment,
            lambda: raw.set("key", b"value", ttl=self.moment),
            lambda: raw.get("key") == b"value",
        )
        assert raw.get("for ever") == b"kept"

    def test_ttl_and_touch_are_the_stores(self, raw: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.EXPIRE)
        with pytest.raises(NotFoundError):
            raw.ttl("key")
        assert raw.touch("key", 5) is False
        raw.set("key", b"value", ttl=None)
        assert raw.ttl("key") is None
        assert raw.touch("key", 100) is True
        left = raw.ttl("key")
        assert left is not None
        assert 90 < left <= 100.1
        assert raw.get("key") == b"value"
        assert raw.touch("key", None) is True
        assert raw.ttl("key") is None
        if CacheCapability.EXACT_TTL in face.capabilities:
            self.runs_out(
                face,
                self.moment,
                lambda: raw.touch("key", self.moment),
                lambda: raw.get("key") is not None,
            )
            with pytest.raises(NotFoundError):
                raw.ttl("key")

    def test_conditional_writes_of_bytes(self, raw: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.CONDITIONAL_SET)
        assert raw.set("key", b"1", only_if="present") is False
        assert raw.set("key", b"1", only_if="absent") is True
        assert raw.set("key", b"2", only_if="absent") is False
        assert raw.get("key") == b"1"
        assert raw.set("key", b"3", only_if="present") is True
        assert raw.get("key") == b"3"
        calls = [call("set", "new", b"%d" % n, only_if="absent") for n in range(8)]
        outcomes = face.at_once(raw, calls)
        assert outcomes.count(True) == 1
        assert raw.get("new") == b"%d" % outcomes.index(True)

    def test_counters_are_plain_text(self, raw: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT)
        assert raw.increment("key") == 1
        assert raw.get("key") == b"1"
        raw.set("key", b"-41")
        assert raw.increment("key", -1) == -42
        assert face.raw(raw, "key") == [b"-42"]
        assert raw.increment("low", -(2**63)) == -(2**63)
        with pytest.raises(InvalidArgumentError):
            raw.increment("low", -1)
        assert raw.get("low") == b"-9223372036854775808"
        numbers = face.at_once(raw, [call("increment", "many") for _ in range(8)])
        assert sorted(numbers) == list(range(1, 9))

    @pytest.mark.parametrize("value", [b"text", b"", b"1.5", b" 1", b"1\n", b"9" * 30], ids=repr)
    def test_text_that_is_no_number_is_not_counted(
        self, raw: Cache, face: CacheFace, value: bytes
    ) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT)
        raw.set("key", value)
        with pytest.raises(PreconditionFailedError):
            raw.increment("key")
        assert raw.get("key") == value

    def test_a_plain_counters_ttl_is_that_of_its_beginning(
        self, raw: Cache, face: CacheFace
    ) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT, CacheCapability.EXACT_TTL)

        def begin() -> None:
            assert raw.increment("key", 5, ttl=self.moment) == 5
            assert raw.increment("key", ttl=1000.0) == 6

        self.runs_out(face, self.moment, begin, lambda: raw.get("key") == b"6")

    @pytest.mark.parametrize("value", [1, None, ["a"], {"a": 1}, 1.5, True, "\ud800"], ids=repr)
    def test_what_is_neither_bytes_nor_text_is_refused_before_any_io(
        self, raw: Cache, face: CacheFace, value: Any
    ) -> None:
        refused(face, raw.set, "key", value)
        refused(face, raw.set_many, {"fine": b"", "key": value})

    @pytest.mark.parametrize("key", ["~", "~key", "~default:key", "~default!g", "~shared!t:a"])
    def test_names_of_ours_are_refused_before_any_io(
        self, raw: Cache, face: CacheFace, key: str
    ) -> None:
        refused(face, raw.get, key)
        refused(face, raw.get_many, ["fine", key])
        refused(face, raw.set, key, b"value")
        refused(face, raw.set_many, {key: b"value"})
        refused(face, raw.delete, key)
        refused(face, raw.delete_many, [key])
        if CacheCapability.EXPIRE in face.capabilities:
            refused(face, raw.ttl, key)
            refused(face, raw.touch, key, 5)
        if CacheCapability.ATOMIC_INCREMENT in face.capabilities:
            refused(face, raw.increment, key)

    def test_what_needs_entries_is_unsupported(self, raw: Cache, face: CacheFace) -> None:
        face.calls.clear()
        for act in (
            lambda: raw.clear(),
            lambda: raw.invalidate_tag("tag"),
            lambda: raw.get_or_set("key", lambda: b"value"),
            lambda: raw.set("key", b"value", tags=("tag",)),
            lambda: raw.set_many({"key": b"value"}, tags=("tag",)),
            lambda: raw.set("key", b"value", stale=5),
            lambda: raw.get("key", type=bytes),
            lambda: raw.get_many(["key"], type=bytes),
        ):
            with pytest.raises(UnsupportedError) as caught:
                act()
            assert caught.value.service == "cache"
        assert not face.calls

    def test_namespaces_do_not_meet(self, cache: Cache, raw: Cache) -> None:
        raw.set_many({"key": b"raw", "default:key": b"raw", "shared:key": b"raw"})
        cache.set("key", "ours")
        assert raw.get("key") == b"raw"
        cache.clear()
        assert raw.get_many(["key", "default:key"]) == {"key": b"raw", "default:key": b"raw"}


__all__ = ["SharingConformance"]
