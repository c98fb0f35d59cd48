"""The suite of conditional writes, and of capabilities: there, or refused before any I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import UnsupportedError

from .harness import RAW, CacheFace, CacheHarness, call, need, refused

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache

_WRITERS = 8

# What each capability is for. Declarations, which no call demands, are missing.
_USES: dict[CacheCapability, list[Callable[[Cache], Any]]] = {
    CacheCapability.CONDITIONAL_SET: [
        lambda cache: cache.namespace(RAW).set("new", b"1", only_if="absent"),
        lambda cache: cache.namespace(RAW).set("key", b"1", only_if="present"),
    ],
    CacheCapability.COMPARE_AND_SET: [
        lambda cache: cache.touch("key", 1000.0),
        lambda cache: cache.set("new", 1, only_if="absent"),
        lambda cache: cache.set("key", 1, only_if="present"),
    ],
    CacheCapability.ATOMIC_INCREMENT: [
        lambda cache: cache.increment("new"),
        lambda cache: cache.namespace(RAW).increment("new"),
    ],
    CacheCapability.EXPIRE: [
        lambda cache: cache.namespace(RAW).touch("key", 1000.0),
        lambda cache: cache.namespace(RAW).ttl("key"),
    ],
}


class ConditionsConformance(CacheHarness):
    """Tests of a capability that the backend does not declare are skipped, but for the refusal."""

    @pytest.mark.parametrize("capability", list(_USES), ids=str)
    def test_a_capability_is_there_or_refused_before_any_io(
        self, cache: Cache, face: CacheFace, capability: CacheCapability
    ) -> None:
        cache.set("key", "before")
        cache.namespace(RAW).set("key", b"before")
        for use in _USES[capability]:
            if capability in face.capabilities:
                use(cache)
                continue
            face.calls.clear()
            with pytest.raises(UnsupportedError) as caught:
                use(cache)
            assert not face.calls
            assert caught.value.not_sent
            assert str(capability) in str(caught.value)
        if capability not in face.capabilities:
            assert cache.get_many(["key", "new"]) == {"key": "before"}
            assert cache.namespace(RAW).get_many(["key", "new"]) == {"key": b"before"}

    def test_capabilities_are_the_backends(self, cache: Cache, face: CacheFace) -> None:
        assert cache.capabilities() == face.capabilities

    def test_set_if_absent_refuses_an_existing_key(self, cache: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        assert cache.set("key", "first", only_if="absent") is True
        assert cache.set("key", "second", only_if="absent") is False
        assert cache.get("key") == "first"
        cache.delete("key")
        assert cache.set("key", "third", only_if="absent") is True
        assert cache.get("key") == "third"

    def test_set_if_present_refuses_an_absent_key(self, cache: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        assert cache.set("key", "first", only_if="present") is False
        assert cache.get("key") is None
        cache.set("key", "second", ttl=10)
        assert cache.set("key", "third", only_if="present", ttl=1000.0) is True
        assert cache.get("key") == "third"
        left = cache.ttl("key")
        assert left is not None
        assert left > 900

    def test_a_refused_set_changes_no_time(self, cache: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        cache.set("key", "first", ttl=1000.0)
        assert cache.set("key", "second", only_if="absent", ttl=5) is False
        left = cache.ttl("key")
        assert left is not None
        assert left > 900

    def test_what_was_cleared_is_absent(self, cache: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        cache.set_many({"a": 1, "b": 1})
        cache.set("c", 1, tags=("tag",))
        cache.clear()
        assert cache.set("a", 2, only_if="present") is False
        assert cache.set("b", 2, only_if="absent") is True
        cache.set("c", 1, tags=("tag",))
        cache.invalidate_tag("tag")
        assert cache.set("c", 2, only_if="present") is False
        assert cache.set("c", 2, only_if="absent", tags=("tag",)) is True
        assert cache.get_many(["a", "b", "c"]) == {"b": 2, "c": 2}

    def test_what_has_expired_is_absent(self, cache: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        cache.set_many({"a": 1, "b": 1}, ttl=self.moment)
        self.pass_time(face, self.moment + 0.11)
        assert cache.set("a", 2, only_if="present") is False
        assert cache.set("b", 2, only_if="absent") is True
        assert cache.get_many(["a", "b"]) == {"b": 2}

    def test_what_is_stale_is_absent(self, cache: Cache, face: CacheFace) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        for key in ("a", "b"):
            cache.set(key, 1, ttl=100, stale=1000)
        face.clock.advance(101)
        assert cache.set("a", 2, only_if="present") is False
        assert cache.set("b", 2, only_if="absent") is True

    @pytest.mark.parametrize("stored_before", [False, True], ids=["absent", "outdated"])
    def test_of_many_creators_one_wins(
        self, cache: Cache, face: CacheFace, stored_before: bool
    ) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        if stored_before:
            cache.set("key", "outdated")
            cache.clear()
        calls = [call("set", "key", n, only_if="absent") for n in range(_WRITERS)]
        outcomes = face.at_once(cache, calls)
        assert sorted(map(repr, outcomes)) == ["False"] * (_WRITERS - 1) + ["True"]
        assert cache.get("key") == outcomes.index(True)

    def test_of_creators_on_two_platforms_one_wins(
        self, cache: Cache, face: CacheFace, other: CacheFace
    ) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        there = other.cache(cache.tenant)
        assert there.set("key", "theirs", only_if="absent") is True
        assert cache.set("key", "ours", only_if="absent") is False
        assert cache.set("key", "ours now", only_if="present") is True
        assert there.get("key") == "ours now"

    @pytest.mark.parametrize(
        "only_if", ["", "ABSENT", "*", "missing", True, 1, b"absent"], ids=repr
    )
    def test_what_is_no_condition_is_refused_before_any_io(
        self, cache: Cache, face: CacheFace, only_if: Any
    ) -> None:
        assert "only_if" in str(refused(face, cache.set, "key", 1, only_if=only_if))
        assert "only_if" in str(
            refused(face, cache.namespace(RAW).set, "key", b"1", only_if=only_if)
        )


__all__ = ["ConditionsConformance"]
