"""`@cached`: keys that different arguments never share, and what is refused where it decorates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_platform.cache import Cache, cached
from cm_platform.errors import InvalidArgumentError

from .doubles import World, world_of

TEMPLATES = [
    "{a}:{b}",
    "m:{a}/{b}",
    "{a}-{b}",
    "{a}_x_{b}",
    "{a}.{b}~",
    "{a} {b}",
    "{a}é{b}",
    "{a}{{{b}",
]
TEXT = st.text("a-_.~:/%é {}x=", max_size=6) | st.integers(-20, 20) | st.uuids()
ALIKE: list[object] = [5, True, False, -5, 0, UUID(int=10), int("1" * 32), UUID("1" * 32)]
ALIKE += [str(value) for value in ALIKE] + ["=5", "%3D5", "==5", UUID(int=10).hex, f"={5:032}"]


class Spy:
    """Stands in for a cache, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.options: list[dict[str, Any]] = []

    def as_cache(self) -> Cache:
        spy = self

        class Spying(Cache):
            def __init__(self) -> None:
                pass

            def get_or_set(self, key: str, factory: Callable[[], Any], **options: Any) -> Any:
                spy.keys.append(key)
                spy.options.append(options)
                return factory()

        return Spying()


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_key_comes_of_one_set_of_arguments_only(template: str) -> None:
    spy = Spy()
    known: dict[str, Any] = {}

    @cached(key=template)
    def function(cache: Cache, a: object, b: object) -> None: ...

    cache = spy.as_cache()

    alike = TEXT | st.sampled_from(ALIKE)

    @given(alike, alike)
    def check(a: object, b: object) -> None:
        function(cache, a, b)
        # True is 1, and another argument all the same.
        arguments = (type(a), a, type(b), b)
        assert known.setdefault(spy.keys[-1], arguments) == arguments

    check()
    assert len(known) > 20


@pytest.mark.parametrize("template", TEMPLATES)
def test_arguments_that_look_alike_have_keys_of_their_own(template: str) -> None:
    spy = Spy()

    @cached(key=template)
    def function(cache: Cache, a: object, b: object) -> None: ...

    cache = spy.as_cache()
    for one in ALIKE:
        for other in ALIKE:
            function(cache, one, other)
    assert len(set(spy.keys)) == len(ALIKE) ** 2


@pytest.mark.parametrize("mark", "-_.~:/ |+&é")
def test_punctuation_of_the_template_within_an_argument_is_told_apart(mark: str) -> None:
    spy = Spy()

    @cached(key=f"m{mark}{{a}}{mark}{{b}}{mark}")
    def function(cache: Cache, a: str, b: str) -> None: ...

    cache = spy.as_cache()
    for a, b in ((f"x{mark}y", "z"), ("x", f"y{mark}z"), (f"x{mark}", "yz"), ("x", f"{mark}yz")):
        function(cache, a, b)
    assert len(set(spy.keys)) == 4


def test_arguments_that_need_no_encoding_stand_as_they_are() -> None:
    spy = Spy()

    @cached(key="menu-{place}:{day}")
    def menu(cache: Cache, place: str, day: int = 1) -> None: ...

    menu(spy.as_cache(), "lobby-bar")
    menu(spy.as_cache(), place="a:b", day=2)
    assert spy.keys == ["menu-lobby-bar:1", "menu-a%3Ab:2"]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("{a}{b}", "run together"),
        ("{a}x{b}", "run together"),
        ("{a}%{b}", "run together"),
        ("{a}={b}", "run together"),
        ("{a}00{b}", "run together"),
        ("{c}", "argument of"),
        ("{}", "argument of"),
        ("{0}", "argument of"),
        ("{a.b}", "argument of"),
        ("{a[0]}", "argument of"),
        ("{a!r}", "argument of"),
        ("{a:>3}", "argument of"),
        ("{a", "no template"),
        ("a}", "no template"),
        (5, "key must be"),
        (None, "key must be"),
        (b"{a}", "key must be"),
    ],
)
def test_a_key_that_is_none_is_refused_where_it_decorates(key: Any, told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told):

        @cached(key=key)
        def function(cache: Cache, a: str, b: str) -> None: ...


def test_a_tag_that_is_not_in_a_tuple_is_refused_where_it_decorates() -> None:
    with pytest.raises(InvalidArgumentError, match=r"\('menu',\)"):
        cached(key="menu", tags="menu")


@pytest.mark.parametrize("value", [None, 1.5, b"a", ["a"], object(), "a\ud800"])
def test_what_cannot_stand_in_a_key_is_refused(value: Any) -> None:
    spy = Spy()

    @cached(key="{a}")
    def function(cache: Cache, a: Any) -> None:
        raise AssertionError("called")

    with pytest.raises(InvalidArgumentError, match="'a'"):
        function(spy.as_cache(), value)
    assert spy.keys == []


def test_a_method_finds_its_cache_by_a_function(world: World) -> None:
    class Menus:
        def __init__(self, cache: Any) -> None:
            self.cache = cache
            self.asked = 0

        @cached(key="menu:{place}", cache=lambda self, place: self.cache, ttl=60)
        def menu(self, place: str) -> str:
            self.asked += 1
            return f"menu of {place}"

        @cached(key="menu:{place}", cache=lambda self, place: self.cache, ttl=60)
        async def menu_async(self, place: str) -> str:
            self.asked += 1
            return f"menu of {place}"

    target: Any = world.cache()
    menus = Menus(target.target if world.here.is_async else target)

    def ask(place: str) -> str:
        if world.here.is_async:
            return world.here.run(menus.menu_async(place))
        return menus.menu(place)

    assert [ask("lobby"), ask("bar"), ask("lobby")] == [
        "menu of lobby",
        "menu of bar",
        "menu of lobby",
    ]
    assert menus.asked == 2
    assert world.cache().get("menu:bar") == "menu of bar"
    assert world.cache().ttl("menu:bar") == pytest.approx(60, abs=0.01)


def test_a_face_has_its_own_kind_of_cache(world: World) -> None:
    @cached(key="key")
    def plain(cache: object) -> int:
        return 1

    @cached(key="key")
    async def asynchronous(cache: object) -> int:
        return 1

    target: Any = world.cache()
    if world.here.is_async:
        with pytest.raises(InvalidArgumentError, match="needs a Cache"):
            plain(target.target)
        assert world.here.run(asynchronous(target.target)) == 1
    else:
        with pytest.raises(InvalidArgumentError, match="needs an AsyncCache"):
            world.here.run(asynchronous(target))
        assert plain(target) == 1
    with pytest.raises(InvalidArgumentError, match="plain needs a Cache"):
        plain("no cache")


def test_options_and_a_namespace_are_handed_on() -> None:
    with world_of("sync") as world:
        hands_on(world)


def hands_on(world: World) -> None:
    asked = 0

    @cached(key="key", namespace="other", ttl=10, stale_if_error=100, tags=["tag"], type=int)
    def number(cache: Cache) -> int:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise LookupError
        return asked

    cache = world.cache()
    assert number(cache) == 1
    assert cache.get("key") is None
    assert cache.namespace("other").get("key") == 1
    world.clock.move(50)
    assert number(cache) == 1
    cache.namespace("other").invalidate_tag("tag")
    with pytest.raises(LookupError):
        number(cache)


def test_a_function_stays_what_it_was() -> None:
    def menu(cache: Cache, place: str) -> str:
        """The menu."""
        return place

    decorated = cached(key="menu:{place}")(menu)
    assert decorated.__doc__ == "The menu."
    assert decorated.__name__ == "menu"
