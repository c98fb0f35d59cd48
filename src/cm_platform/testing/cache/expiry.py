"""The suite of time: a value lives as long as it was told, to the tenth of a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import NotFoundError, UnsupportedError

from .harness import OTHER, CacheFace, CacheHarness, need, refused

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache

NO_TTLS: tuple[Any, ...] = (0, -1, -0.0, "5", True, float("nan"), float("inf"), b"5", [5])


class ExpiryConformance(CacheHarness):
    """What a store keeps for longer than it was told is no hit."""

    def test_a_value_lives_as_long_as_its_ttl(self, cache: Cache, face: CacheFace) -> None:
        self.runs_out(
            face,
            self.moment,
            lambda: cache.set("key", "value", ttl=self.moment),
            lambda: cache.get("key") == "value",
        )
        assert cache.get_many(["key"]) == {}
        with pytest.raises(NotFoundError):
            cache.ttl("key")

    def test_many_values_live_as_long_as_their_ttl(self, cache: Cache, face: CacheFace) -> None:
        cache.set("kept", "kept")
        values = {"a": 1, "b": 2}
        self.runs_out(
            face,
            self.moment,
            lambda: cache.set_many(values, ttl=self.moment),
            lambda: cache.get_many(values) == values,
        )
        assert cache.get_many(["a", "b", "kept"]) == {"kept": "kept"}

    def test_none_is_for_ever(self, cache: Cache, face: CacheFace) -> None:
        cache.set("key", "value", ttl=None)
        assert cache.ttl("key") is None
        if not self.real_time:
            self.pass_time(face, 86_400)
            assert cache.get("key") == "value"

    def test_the_default_is_the_namespaces(self, cache: Cache) -> None:
        for space in (cache, cache.namespace(OTHER)):
            space.set("key", "value")
            space.set_many({"a": 1})
            found = [space.ttl("key"), space.ttl("a")]
            assert all(left is not None and 250 < left <= 300 for left in found), found

    @pytest.mark.parametrize("ttl", [5, 61.5, 3600, 400 * 86_400])
    def test_ttl_tells_what_is_left(self, cache: Cache, face: CacheFace, ttl: float) -> None:
        begun = face.clock.monotonic()
        cache.set("key", "value", ttl=ttl)
        left = cache.ttl("key")
        took = face.clock.monotonic() - begun
        assert left is not None
        assert ttl - took - 0.1 <= left <= ttl + 0.1

    def test_ttl_of_what_is_absent_is_not_found(self, cache: Cache) -> None:
        with pytest.raises(NotFoundError):
            cache.ttl("key")
        cache.set("key", "value")
        cache.delete("key")
        with pytest.raises(NotFoundError):
            cache.ttl("key")
        cache.set("key", "value")
        cache.clear()
        with pytest.raises(NotFoundError):
            cache.ttl("key")

    def test_a_later_set_replaces_value_and_time(self, cache: Cache, face: CacheFace) -> None:
        cache.set("longer", 1, ttl=self.moment)
        cache.set("longer", 2, ttl=1000.0)
        cache.set("for ever", 1, ttl=self.moment)
        cache.set("for ever", 2, ttl=None)
        cache.set("shorter", 1, ttl=None)
        self.runs_out(
            face,
            self.moment,
            lambda: cache.set("shorter", 2, ttl=self.moment),
            lambda: cache.get("shorter") == 2,
        )
        assert cache.get_many(["longer", "for ever", "shorter"]) == {"longer": 2, "for ever": 2}
        assert cache.ttl("for ever") is None

    def test_touch_gives_a_new_time_and_keeps_the_value(
        self, cache: Cache, face: CacheFace
    ) -> None:
        self._needs_touch(face)
        value = {"a": [1]}
        cache.set("key", value, ttl=self.moment, tags=("tag",))
        assert cache.touch("key", 1000.0) is True
        left = cache.ttl("key")
        assert left is not None
        assert 900 < left <= 1000.1
        self.pass_time(face, self.moment + 0.1)
        assert cache.get("key") == value
        assert cache.touch("key", None) is True
        assert cache.ttl("key") is None
        cache.invalidate_tag("tag")
        assert cache.get("key") is None

    def test_touch_can_shorten(self, cache: Cache, face: CacheFace) -> None:
        self._needs_touch(face)
        cache.set("key", "value", ttl=None)
        self.runs_out(
            face,
            self.moment,
            lambda: cache.touch("key", self.moment),
            lambda: cache.get("key") == "value",
        )
        assert cache.touch("key", 1000.0) is False
        assert cache.get("key") is None

    def test_touch_makes_nothing(self, cache: Cache, face: CacheFace) -> None:
        self._needs_touch(face)
        assert cache.touch("key", 1000.0) is False
        assert cache.get("key") is None
        cache.set("key", "value")
        cache.clear()
        assert cache.touch("key", 1000.0) is False
        assert cache.get("key") is None

    def test_touch_is_there_or_refused_before_any_io(self, cache: Cache, face: CacheFace) -> None:
        cache.set("key", "value")
        if CacheCapability.COMPARE_AND_SET in face.capabilities:
            assert cache.touch("key", 1000.0) is True
            return
        face.calls.clear()
        with pytest.raises(UnsupportedError):
            cache.touch("key", 1000.0)
        assert not face.calls

    @pytest.mark.parametrize("ttl", NO_TTLS, ids=repr)
    def test_what_is_no_ttl_is_refused_before_any_io(
        self, cache: Cache, face: CacheFace, ttl: Any
    ) -> None:
        acts: list[Callable[[], Any]] = [
            lambda: cache.set("key", "value", ttl=ttl),
            lambda: cache.set_many({"key": "value"}, ttl=ttl),
            lambda: cache.get_or_set("key", lambda: "value", ttl=ttl),
            lambda: cache.namespace(OTHER).set("key", "value", ttl=ttl),
        ]
        if CacheCapability.COMPARE_AND_SET in face.capabilities:
            acts.append(lambda: cache.touch("key", ttl))
        if CacheCapability.ATOMIC_INCREMENT in face.capabilities:
            acts.append(lambda: cache.increment("key", ttl=ttl))
        for act in acts:
            assert "ttl" in str(refused(face, act))

    @staticmethod
    def _needs_touch(face: CacheFace) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)


__all__ = ["NO_TTLS", "ExpiryConformance"]
