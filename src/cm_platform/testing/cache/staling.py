"""The suite of stale values: no hit of `get`, and served by `get_or_set` where it was asked to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from .harness import CacheFace, CacheHarness, call, refused
from .loading import Source, SourceError

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache


_CALLERS = 8


class StaleConformance(CacheHarness):
    """Whether a value is stale, the library judges: its clock is moved, the store's is not."""

    def test_a_stale_value_is_no_hit_of_get(self, cache: Cache, face: CacheFace) -> None:
        cache.set("key", "value", ttl=100, stale=1000)
        assert cache.get("key") == "value"
        face.clock.advance(99)
        assert cache.get("key") == "value"
        face.clock.advance(2)
        assert cache.get("key") is None
        assert cache.get_many(["key"]) == {}

    def test_what_is_no_time_to_be_stale_is_refused(self, cache: Cache, face: CacheFace) -> None:
        stale: Any
        for stale in (-1, "5", True, None, float("nan"), float("inf")):
            assert "stale" in str(refused(face, cache.set, "key", 1, ttl=5, stale=stale))
            assert "stale" in str(refused(face, cache.set_many, {"key": 1}, ttl=5, stale=stale))

    def test_a_stale_value_is_served_while_a_new_one_is_computed(
        self, cache: Cache, face: CacheFace
    ) -> None:
        source = Source()

        def get() -> Any:
            return cache.get_or_set("key", face.callback(source), ttl=100, stale=1000)

        assert get() == 1
        face.clock.advance(99)
        assert get() == 1
        assert source.asked == 1
        face.clock.advance(2)
        assert get() == 1
        face.eventually(lambda: cache.get("key") == 2)
        assert get() == 2
        assert source.asked == 2
        left = cache.ttl("key")
        assert left is not None
        assert 90 < left <= 100.1

    def test_one_new_value_is_computed_for_many_callers(
        self, cache: Cache, face: CacheFace
    ) -> None:
        cache.set("key", "old", ttl=100, stale=1000)
        face.clock.advance(101)
        source, released = Source("new"), threading.Event()
        slow = face.waiting(released.is_set, source)
        calls = [call("get_or_set", "key", slow, ttl=100, stale=1000)] * _CALLERS
        try:
            assert face.at_once(cache, calls) == ["old"] * _CALLERS
        finally:
            released.set()
        face.eventually(lambda: cache.get("key") == "new")
        assert source.asked == 1

    def test_a_new_value_that_cannot_be_computed_leaves_the_stale_one(
        self, cache: Cache, face: CacheFace, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache.set("key", "old", ttl=100, stale=1000)
        face.clock.advance(101)
        failing = Source(error=SourceError("no source"))
        for asked in (1, 2):
            found = cache.get_or_set("key", face.callback(failing), ttl=100, stale=1000)
            assert found == "old"
            self._failed(face, failing, caplog, asked)
        source = Source("new")
        cache.get_or_set("key", face.callback(source), ttl=100, stale=1000)
        face.eventually(lambda: cache.get("key") == "new")

    @staticmethod
    def _failed(
        face: CacheFace, failing: Source, caplog: pytest.LogCaptureFixture, times: int
    ) -> None:
        face.eventually(lambda: failing.asked >= times)
        # It has ended, and may be begun again.
        face.eventually(lambda: caplog.text.count("SourceError") >= times)

    def test_beyond_its_time_a_stale_value_is_computed_anew(
        self, cache: Cache, face: CacheFace
    ) -> None:
        cache.set("key", "old", ttl=100, stale=1000)
        face.clock.advance(1101)
        assert cache.get_or_set("key", face.callback(lambda: "new"), stale=1000) == "new"

    def test_who_takes_nothing_stale_gets_nothing_stale(
        self, cache: Cache, face: CacheFace
    ) -> None:
        cache.set("key", "old", ttl=100, stale=1000)
        face.clock.advance(101)
        assert cache.get_or_set("key", face.callback(lambda: "new"), ttl=100) == "new"
        assert cache.get("key") == "new"

    def test_a_stale_value_is_served_after_a_failure(self, cache: Cache, face: CacheFace) -> None:
        failing = face.callback(Source(error=SourceError("no source")))
        first = face.callback(lambda: "old")
        assert cache.get_or_set("key", first, ttl=100, stale_if_error=1000) == "old"
        face.clock.advance(101)
        assert cache.get("key") is None
        for _ in range(2):
            found = cache.get_or_set("key", failing, ttl=100, stale_if_error=1000)
            assert found == "old"
        with pytest.raises(SourceError):
            cache.get_or_set("key", failing, ttl=100)
        with pytest.raises(SourceError):
            cache.get_or_set("key", failing, ttl=100, stale_if_error=0.5)
        working = face.callback(lambda: "new")
        assert cache.get_or_set("key", working, ttl=100, stale_if_error=1000) == "new"
        face.clock.advance(1101)
        with pytest.raises(SourceError):
            cache.get_or_set("key", failing, ttl=100, stale_if_error=1000)

    def test_what_was_cleared_is_not_served_stale(self, cache: Cache, face: CacheFace) -> None:
        cache.set("key", "old", ttl=100, stale=1000, tags=("tag",))
        cache.set("other", "old", ttl=100, stale=1000)
        face.clock.advance(101)
        cache.invalidate_tag("tag")
        fresh = face.callback(lambda: "new")
        assert cache.get_or_set("key", fresh, ttl=100, stale=1000, stale_if_error=1000) == "new"
        cache.clear()
        failing = face.callback(Source(error=SourceError("no source")))
        with pytest.raises(SourceError):
            cache.get_or_set("other", failing, ttl=100, stale=1000, stale_if_error=1000)


__all__ = ["StaleConformance"]
