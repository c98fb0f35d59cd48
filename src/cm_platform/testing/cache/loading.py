"""The suite of `get_or_set`: computed once, kept, served while stale and after failures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import InvalidArgumentError, UnavailableError

from .expiry import NO_TTLS
from .harness import OTHER, CacheFace, CacheHarness, call, need, refused
from .values import ADA, Customer

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache

_CALLERS = 8


class SourceError(Exception):
    """What a factory raises."""


class Source:
    """A factory that counts how often it was asked, and answers with its count or `answer`."""

    def __init__(self, answer: Any = None, error: Exception | None = None) -> None:
        self.asked = 0
        self.answer = answer
        self.error = error
        self._guard = threading.Lock()

    def __call__(self) -> Any:
        with self._guard:
            self.asked += 1
            if self.error is not None:
                raise self.error
            return self.asked if self.answer is None else self.answer


class LoadingConformance(CacheHarness):
    """Factories are plain functions on the sync face and `async def` on the async one."""

    def test_a_miss_is_computed_and_kept(self, cache: Cache, face: CacheFace) -> None:
        source = Source()
        for _ in range(3):
            assert cache.get_or_set("key", face.callback(source)) == 1
        assert source.asked == 1
        assert cache.get("key") == 1

    def test_a_plain_function_will_do_on_both_faces(self, cache: Cache) -> None:
        assert cache.get_or_set("key", lambda: "value") == "value"
        assert cache.get("key") == "value"

    @pytest.mark.parametrize("value", [0, False, "", b"", [], {}], ids=repr)
    def test_what_is_false_is_kept(self, cache: Cache, face: CacheFace, value: Any) -> None:
        source = Source()
        assert cache.get_or_set("key", face.callback(lambda: value)) == value
        assert cache.get_or_set("key", face.callback(source)) == value
        assert source.asked == 0

    def test_none_is_not_kept_unless_it_is_said_for_how_long(
        self, cache: Cache, face: CacheFace
    ) -> None:
        source, nothing = Source(), face.callback(lambda: None)
        assert cache.get_or_set("key", nothing) is None
        assert cache.get_many(["key"]) == {}
        assert cache.get_or_set("key", nothing, ttl=None, negative_ttl=100) is None
        assert cache.get_many(["key"]) == {"key": None}
        assert cache.get_or_set("key", face.callback(source)) is None
        left = cache.ttl("key")
        assert left is not None
        assert 90 < left <= 100.1

    def test_none_is_kept_as_long_as_it_is_said(self, cache: Cache, face: CacheFace) -> None:
        nothing = face.callback(lambda: None)
        self.runs_out(
            face,
            self.moment,
            lambda: cache.get_or_set("key", nothing, ttl=None, negative_ttl=self.moment),
            lambda: cache.get_many(["key"]) == {"key": None},
        )
        assert cache.get_or_set("key", face.callback(Source())) == 1

    def test_negative_ttl_is_for_none_alone(self, cache: Cache, face: CacheFace) -> None:
        cache.get_or_set("key", face.callback(Source()), ttl=1000.0, negative_ttl=5)
        left = cache.ttl("key")
        assert left is not None
        assert left > 900

    def test_a_value_is_computed_anew_after_its_ttl(self, cache: Cache, face: CacheFace) -> None:
        source = Source()

        def get() -> Any:
            return cache.get_or_set("key", face.callback(source), ttl=self.moment)

        self.runs_out(face, self.moment, get, lambda: cache.get("key") == 1)
        assert get() == 2

    def test_a_computed_value_lives_as_long_as_the_namespace_says(
        self, cache: Cache, face: CacheFace
    ) -> None:
        space = cache.namespace(OTHER)
        space.get_or_set("key", face.callback(Source()))
        left = space.ttl("key")
        assert left is not None
        assert 250 < left <= 300.1
        assert cache.get("key") is None

    def test_what_the_factory_raises_passes_through(self, cache: Cache, face: CacheFace) -> None:
        error = SourceError("no source")
        failing = Source(error=error)
        for asked in (1, 2):
            with pytest.raises(SourceError) as caught:
                cache.get_or_set("key", face.callback(failing))
            assert caught.value is error
            assert failing.asked == asked
        assert cache.get("key") is None
        assert cache.get_or_set("key", face.callback(Source())) == 1

    def test_an_error_of_ours_passes_through_too(self, cache: Cache, face: CacheFace) -> None:
        error = UnavailableError("the source is down", service="storage")
        with pytest.raises(UnavailableError) as caught:
            cache.get_or_set("key", face.callback(Source(error=error)))
        assert caught.value is error
        assert caught.value.service == "storage"

    def test_a_factory_may_use_the_cache(self, cache: Cache, face: CacheFace) -> None:
        if face.is_async:

            async def outer(service: Any) -> Any:
                async def compute() -> Any:
                    return await service.get_or_set("inner", lambda: 41) + 1

                return await service.get_or_set("outer", compute)

            (found,) = face.at_once(cache, [outer])
        else:
            found = cache.get_or_set("outer", lambda: cache.get_or_set("inner", lambda: 41) + 1)
        assert found == 42
        assert cache.get_many(["inner", "outer"]) == {"inner": 41, "outer": 42}

    def test_jitter_takes_a_part_of_the_ttl_off(self, cache: Cache, face: CacheFace) -> None:
        keys = [f"key-{n}" for n in range(12)]
        for key in keys:
            cache.get_or_set(key, face.callback(lambda: 1), ttl=1000, jitter=0.5)
        found = [cache.ttl(key) for key in keys]
        lefts = [left for left in found if left is not None]
        assert len(lefts) == len(keys)
        assert all(490 < left <= 1000.1 for left in lefts), lefts
        # The odds that twelve lie within 50 of 500 seconds are below one in ten billion.
        assert max(lefts) - min(lefts) > 50

    def test_a_computed_value_has_its_tags(self, cache: Cache, face: CacheFace) -> None:
        source = Source()
        for expected in (1, 2, 3):
            for _ in range(2):
                found = cache.get_or_set("key", face.callback(source), tags=("a", "b"))
                assert found == expected
            cache.invalidate_tag("a" if expected == 1 else "b")

    @pytest.mark.parametrize("way", ["clear", "invalidate_tag"])
    def test_what_is_cleared_while_it_is_computed_is_not_kept(
        self, cache: Cache, face: CacheFace, way: str
    ) -> None:
        clearing = call("clear") if way == "clear" else call("invalidate_tag", "tag")
        factory: Callable[[], Any]
        if face.is_async:

            async def compute() -> str:
                await clearing(cache.target)  # type: ignore[attr-defined]
                return "read before"

            factory = compute
        else:

            def compute_here() -> str:
                clearing(cache)
                return "read before"

            factory = compute_here
        assert cache.get_or_set("key", factory, tags=("tag",)) == "read before"
        assert cache.get("key") is None
        assert cache.get_or_set("key", face.callback(lambda: "after"), tags=("tag",)) == "after"
        assert cache.get("key") == "after"

    @pytest.mark.parametrize("way", ["clear", "invalidate_tag"])
    def test_what_is_cleared_elsewhere_while_it_is_computed_is_not_kept(
        self, cache: Cache, face: CacheFace, other: CacheFace, way: str
    ) -> None:
        need(face, CacheCapability.READ_YOUR_WRITES)
        there = other.cache(cache.tenant)
        there.set("key", "first", tags=("tag",))
        cache.delete("key")
        clearing = call("clear") if way == "clear" else call("invalidate_tag", "tag")

        def compute() -> str:
            # On a thread of its own: the other platform has a loop of its own.
            thread = threading.Thread(target=clearing, args=(there,))
            thread.start()
            thread.join(10)
            return "read before"

        found = cache.get_or_set("key", face.callback(compute), tags=("tag",))
        assert found == "read before"
        assert cache.get("key") is None
        assert there.get("key") is None

    def test_a_hit_and_a_miss_are_of_one_type(self, cache: Cache, face: CacheFace) -> None:
        source = Source(ADA.model_dump(mode="json"))
        for _ in range(2):
            assert cache.get_or_set("key", face.callback(source), type=Customer) == ADA
        assert source.asked == 1

    def test_a_value_of_another_type_is_computed_anew(self, cache: Cache, face: CacheFace) -> None:
        cache.set("key", {"an": "older version"})
        source = Source(ADA)
        assert cache.get_or_set("key", face.callback(source), type=Customer) == ADA
        assert cache.get("key", type=Customer) == ADA

    @pytest.mark.parametrize("made", [object, lambda: {1}, lambda: "\ud800"])
    def test_what_cannot_be_kept_is_an_invalid_argument(
        self, cache: Cache, face: CacheFace, made: Callable[[], Any]
    ) -> None:
        with pytest.raises(InvalidArgumentError):
            cache.get_or_set("key", face.callback(made))
        assert cache.get("key") is None
        assert cache.get_or_set("key", face.callback(lambda: 1)) == 1

    def test_an_async_factory_on_the_sync_face_is_refused(
        self, cache: Cache, face: CacheFace
    ) -> None:
        if face.is_async:
            pytest.skip("there it is welcome")

        async def factory() -> int:
            return 1

        with pytest.raises(InvalidArgumentError) as caught:
            cache.get_or_set("key", factory)
        assert "async" in str(caught.value)

    def test_a_cache_that_does_not_answer_is_done_without(
        self, cache: Cache, face: CacheFace
    ) -> None:
        source = Source()
        with face.unreachable():
            for expected in (1, 2):
                assert cache.get_or_set("key", face.callback(source)) == expected
        assert cache.get("key") is None
        assert cache.get_or_set("key", face.callback(source)) == 3
        assert cache.get("key") == 3

    def test_what_makes_no_sense_is_refused_before_any_io(
        self, cache: Cache, face: CacheFace
    ) -> None:
        def load(**options: Any) -> Any:
            return cache.get_or_set("key", face.callback(source), **options)

        source = Source()
        bad: Any
        for bad in (None, 5, "text", face):
            refused(face, cache.get_or_set, "key", bad)
        for bad in (-0.1, 1, 1.5, "0.5", None, True, float("nan")):
            assert "jitter" in str(refused(face, load, jitter=bad))
        for bad in (-1, "5", None, True, float("nan"), float("inf")):
            assert "stale" in str(refused(face, load, ttl=5, stale=bad))
            assert "stale_if_error" in str(refused(face, load, ttl=5, stale_if_error=bad))
        for bad in NO_TTLS:
            assert "negative_ttl" in str(refused(face, load, negative_ttl=bad))
        for options in ({"stale": 5}, {"stale_if_error": 5}):
            refused(face, load, ttl=None, **options)
        refused(face, cache.set, "key", 1, ttl=None, stale=5)
        for key in ("", "a\n", "\ud800", 5):
            refused(face, cache.get_or_set, key, face.callback(source))
        assert source.asked == 0


__all__ = ["LoadingConformance", "Source", "SourceError"]
