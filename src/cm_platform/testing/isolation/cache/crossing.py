"""Attacks from one namespace, or one operation, on what belongs to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.testing.cache.harness import OTHER, RAW, call, on
from cm_platform.testing.isolation.judging import HARMLESS

from .scene import NAMES, NUMBER, TAG, IsolationHarness, Scene

# Each of two ways to say the same characters, were they only joined.
PAIRS = {
    "a colon in the key": (("a", "b:c"), ("a-b", "c")),
    "the beginning of a name": (("a", "x"), ("ab", "x")),
    "a dash": (("a-", "x"), ("a", "-x")),
    "another dash": (("a-b", "x"), ("a", "-b:x")),
    "a key that is a namespace": (("a", "~b:x"), ("b", "x")),
    "a key that is a generation": (("a", "!g"), ("a-g", "x")),
    "default said twice": (("default", "default:x"), ("default", "x")),
    "a number": (("1", "2:x"), ("12", "x")),
}

# What an attacker may do at will, and must reach nobody with.
BLOWS: dict[str, Callable[[Any], Any]] = {
    "clear": call("clear"),
    "clear of another namespace": lambda cache: cache.namespace(OTHER).clear(),
    "clear of a new namespace": lambda cache: cache.namespace("never-used").clear(),
    "invalidating the victims' tag": call("invalidate_tag", TAG),
    "deleting the victims' keys": call("delete_many", ["secret", "number"]),
    "setting the victims' keys": call("set_many", {"secret": "mine", "number": 1}),
    "setting them for a moment": call("set_many", {"secret": "mine", "number": 1}, ttl=0.001),
    "computing the victims' key": call("get_or_set", "secret", lambda: "mine"),
    "refreshing the victims' key": call("get_or_set", "secret", lambda: "mine", stale=5, ttl=1),
    "tagging with everything": call("set", "mine", 1, tags=(TAG, "!g", "~default!g", "*")),
    "deleting names of ours": call("delete_many", list(NAMES)),
    "setting names of ours": call("set_many", dict.fromkeys(NAMES, b"0")),
}


class CrossingIsolation(IsolationHarness):
    """Namespaces of one tenant are apart as tenants are."""

    @pytest.mark.parametrize("pair", list(PAIRS.values()), ids=list(PAIRS))
    def test_a_namespace_and_a_key_are_no_other_pair(
        self, scene: Scene, pair: tuple[tuple[str, str], tuple[str, str]]
    ) -> None:
        for (space, key), (other_space, other_key) in (pair, pair[::-1]):
            one = scene.attacker.namespace(space)
            other = scene.attacker.namespace(other_space)
            scene.expect(HARMLESS, one.set, key, "one", tags=(TAG,))
            assert scene.expect(HARMLESS, other.get, other_key) is None
            scene.expect(HARMLESS, other.delete, other_key)
            if space != other_space:
                scene.expect(HARMLESS, other.invalidate_tag, TAG)
                scene.expect(HARMLESS, other.clear)
            assert scene.expect(HARMLESS, one.get, key) == "one"
            scene.expect(HARMLESS, one.delete, key)

    @pytest.mark.parametrize("blow", list(BLOWS.values()), ids=list(BLOWS))
    def test_a_blow_at_everything_hits_the_attacker_alone(
        self, scene: Scene, blow: Callable[[Any], Any]
    ) -> None:
        # That the victims are as they were, byte by byte, is looked at in the end.
        scene.expect(HARMLESS, blow, scene.attacker)
        scene.expect(HARMLESS, blow, scene.attacker.namespace(OTHER))

    @pytest.mark.parametrize("name", NAMES)
    def test_a_name_of_ours_is_no_way_to_what_it_names(self, scene: Scene, name: str) -> None:
        cache = scene.attacker
        cache.namespace(OTHER).set("kept", "kept", tags=(TAG,))
        scene.expect(HARMLESS, cache.set, name, 2**62)
        scene.expect(HARMLESS, cache.set, name.removeprefix("~default"), 2**62)
        scene.expect(HARMLESS, cache.namespace(OTHER).set, name, 2**62)
        assert scene.expect(HARMLESS, cache.get, "own") == "own"
        assert scene.expect(HARMLESS, cache.namespace(OTHER).get, "kept") == "kept"
        scene.expect(HARMLESS, cache.delete, name)
        assert scene.expect(HARMLESS, cache.get, "own") == "own"

    def test_a_shared_namespace_does_not_see_ours(self, scene: Scene) -> None:
        cache, raw = scene.attacker, scene.attacker.namespace(RAW)
        for key in ("own", "default:own", "default!g", ":own", "!g"):
            assert scene.expect(HARMLESS, raw.get, key) is None
            scene.expect(HARMLESS, raw.set, key, b"mine")
            scene.expect(HARMLESS, raw.delete, key)
        assert scene.expect(HARMLESS, cache.get, "own") == "own"

    @pytest.mark.parametrize("namespace", ["default", OTHER])
    def test_increments_do_not_cross(self, scene: Scene, namespace: str) -> None:
        if not scene.can(CacheCapability.ATOMIC_INCREMENT):
            pytest.skip("the backend does not declare atomic_increment")
        cache = scene.attacker.namespace(namespace)
        assert scene.expect(HARMLESS, cache.increment, "number", 10) == 10
        scene.expect(HARMLESS, cache.clear)
        assert scene.expect(HARMLESS, cache.increment, "number", -1) == -1
        assert scene.stage.victim.namespace(namespace).get("number") == NUMBER

    def test_computations_do_not_cross(self, scene: Scene) -> None:
        face, victim = scene.face, scene.stage.victim
        computed: list[str] = []

        def compute(who: str) -> Callable[[], Any]:
            def computing() -> str:
                computed.append(who)
                return who

            return face.waiting(lambda: len(computed) > 0 or True, computing)

        spaces = {
            "attacker": scene.attacker,
            "attacker's other": scene.attacker.namespace(OTHER),
            "victim": victim,
        }
        calls = [on(space, "get_or_set", "job", compute(who)) for who, space in spaces.items()]
        try:
            assert face.at_once(scene.attacker, calls) == list(spaces)
            assert sorted(computed) == sorted(spaces)
        finally:
            victim.delete("job")

    def test_a_lock_of_a_victim_holds_up_nobody_else(self, scene: Scene) -> None:
        # The victims' lock on "secret" is taken throughout.
        found = scene.expect(HARMLESS, scene.attacker.get_or_set, "secret", lambda: "mine")
        assert found == "mine"

    def test_a_handle_keeps_its_namespace(self, scene: Scene) -> None:
        other = scene.attacker.namespace(OTHER)
        assert scene.expect(HARMLESS, other.with_timeout(5).get, "own") == "own"
        scene.within(OTHER)
        again = other.namespace("default")
        scene.expect(HARMLESS, again.get, "own")
        scene.within("default")
        assert scene.expect(HARMLESS, other.namespace(RAW).get, "own") is None

    def test_conditions_do_not_tell_of_others(self, scene: Scene) -> None:
        if not scene.can(CacheCapability.COMPARE_AND_SET):
            pytest.skip("the backend does not declare compare_and_set")
        cache = scene.attacker
        assert scene.expect(HARMLESS, cache.set, "secret", "mine", only_if="present") is False
        assert scene.expect(HARMLESS, cache.set, "secret", "mine", only_if="absent") is True
        assert scene.expect(HARMLESS, cache.touch, "number", 1000) is False
        if scene.can(CacheCapability.CONDITIONAL_SET):
            raw = cache.namespace(RAW)
            assert scene.expect(HARMLESS, raw.set, "secret", b"x", only_if="present") is False
            assert scene.expect(HARMLESS, raw.set, "secret", b"x", only_if="absent") is True


__all__ = ["CrossingIsolation"]
