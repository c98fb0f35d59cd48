"""The suite of `@cached`: a function whose results are a tenant's cached values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from cm_platform.cache.decorator import cached
from cm_platform.errors import InvalidArgumentError

from .harness import OTHER, CacheFace, CacheHarness

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache


def decorated(face: CacheFace, calls: list[Any], **options: Any) -> Callable[..., Any]:
    """A function of a cache and two arguments, as this face's programs write it; called as a
    plain one."""
    options.setdefault("key", "menu:{place}:{day}")

    if not face.is_async:

        @cached(**options)
        def menu(cache: Any, place: Any, day: Any = 1) -> Any:
            calls.append((place, day))
            return f"{place} on {day}"

        return menu

    @cached(**options)
    async def menu_async(cache: Any, place: Any, day: Any = 1) -> Any:
        calls.append((place, day))
        return f"{place} on {day}"

    def called(cache: Any, *args: Any, **kwargs: Any) -> Any:
        async def run() -> Any:
            return await menu_async(cache.target, *args, **kwargs)

        return face.run(run())

    return called


class DecoratingConformance(CacheHarness):
    """The cache is one of the function's arguments: whose value it is, is never guessed."""

    def test_a_result_is_kept_by_its_arguments(self, cache: Cache, face: CacheFace) -> None:
        calls: list[Any] = []
        menu = decorated(face, calls, ttl=100)
        for _ in range(2):
            assert menu(cache, "lobby") == "lobby on 1"
            assert menu(cache, "lobby", 2) == "lobby on 2"
            assert menu(cache, day=2, place="lobby") == "lobby on 2"
            assert menu(cache, "bar") == "bar on 1"
        assert calls == [("lobby", 1), ("lobby", 2), ("bar", 1)]
        assert cache.get("menu:lobby:2") == "lobby on 2"
        left = cache.ttl("menu:lobby:2")
        assert left is not None
        assert 90 < left <= 100.1

    def test_a_tenants_result_is_its_own(self, cache: Cache, face: CacheFace) -> None:
        calls: list[Any] = []
        menu = decorated(face, calls)
        menu(cache, "lobby")
        menu(face.cache(), "lobby")
        assert len(calls) == 2

    def test_different_arguments_never_meet(self, cache: Cache, face: CacheFace) -> None:
        calls: list[Any] = []
        menu = decorated(face, calls)
        arguments = [
            ("a", "b"),
            ("a:b", ""),
            ("", "a:b"),
            ("a%3Ab", ""),
            ("é", "/"),
            ("{place}", "{day}"),
            (12, 3),
            (1, 23),
            (UUID(int=1), "x"),
            (UUID(int=2), "x"),
        ]
        for _ in range(2):
            for place, day in arguments:
                assert menu(cache, place, day) == f"{place} on {day}"
        assert calls == arguments

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (5, "5"),
            (True, "True"),
            (UUID(int=10), UUID(int=10).hex),
            (int("1" * 32), UUID("1" * 32)),
        ],
        ids=["number", "truth", "UUID", "UUID of decimals"],
    )
    def test_values_of_two_types_are_different_keys(
        self, cache: Cache, face: CacheFace, one: Any, other: Any
    ) -> None:
        calls: list[Any] = []
        menu = decorated(face, calls)
        for _ in range(2):
            assert menu(cache, one) == f"{one} on 1"
            assert menu(cache, other) == f"{other} on 1"
        assert [(type(place), place) for place, _ in calls] == [
            (type(place), place) for place in (one, other)
        ]

    def test_a_key_may_be_computed(self, cache: Cache, face: CacheFace) -> None:
        calls: list[Any] = []

        def named(cache: Any, place: str, day: int = 1) -> str:
            return f"{place}-{day}"

        menu = decorated(face, calls, key=named)
        menu(cache, "lobby")
        assert cache.get("lobby-1") == "lobby on 1"

    def test_options_are_those_of_get_or_set(self, cache: Cache, face: CacheFace) -> None:
        calls: list[Any] = []
        options: dict[str, Any] = {"stale": 1000, "jitter": 0.1, "namespace": OTHER}
        menu = decorated(face, calls, ttl=100, tags=("menus",), **options)
        menu(cache, "lobby")
        assert cache.get("menu:lobby:1") is None
        assert cache.namespace(OTHER).get("menu:lobby:1") == "lobby on 1"
        face.clock.advance(101)
        menu(cache, "lobby")
        face.eventually(lambda: len(calls) == 2)
        cache.namespace(OTHER).invalidate_tag("menus")
        # The one in the background may not have ended, and who comes meanwhile shares it.
        face.eventually(lambda: menu(cache, "lobby") is not None and len(calls) == 3)

    def test_what_the_function_raises_passes_through(self, cache: Cache, face: CacheFace) -> None:
        error = KeyError("no menu")

        def fail(cache: Any) -> Any:
            raise error

        async def fail_async(cache: Any) -> Any:
            raise error

        with pytest.raises(KeyError) as caught:
            if face.is_async:
                target: Any = cache
                face.run(cached(key="fail")(fail_async)(target.target))
            else:
                cached(key="fail")(fail)(cache)
        assert caught.value is error

    def test_what_cannot_be_a_key_is_refused(self, cache: Cache, face: CacheFace) -> None:
        calls: list[Any] = []
        face.calls.clear()
        for key in ("{", "{nobody}", "{}", "{0}", "{place!r}", "{place:>5}", "{place.x}"):
            with pytest.raises(InvalidArgumentError):
                decorated(face, calls, key=key)
        menu = decorated(face, calls)
        for place in (None, 1.5, ["a"], object()):
            with pytest.raises(InvalidArgumentError):
                menu(cache, place)
        assert not calls
        assert not face.calls

    def test_a_call_without_a_cache_is_refused(self, cache: Cache, face: CacheFace) -> None:
        def alone(place: str) -> str:
            return place

        async def alone_async(place: str) -> str:
            return place

        with pytest.raises(InvalidArgumentError):
            if face.is_async:
                face.run(cached(key="{place}")(alone_async)("lobby"))
            else:
                cached(key="{place}")(alone)("lobby")
        target: Any = getattr(cache, "target", cache)

        def found_for(place: str) -> Any:
            return target

        given = cached(key="{place}", cache=found_for)
        found = face.run(given(alone_async)("bar")) if face.is_async else given(alone)("bar")
        assert found == "bar"
        assert cache.get("bar") == "bar"


__all__ = ["DecoratingConformance"]
