"""Attacks by a store, a proxy or a client that mixes up whose entry is whose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.entry import MARK, Encoding, Entry, decode, encode, scope_of
from cm_platform.testing.cache.harness import OTHER
from cm_platform.testing.isolation.judging import HARMLESS

from .scene import IsolationHarness, Scene

HIGHEST = 2**64 - 1


def _victims(scene: Scene, name: str) -> bytes:
    (data,) = scene.face.raw(scene.stage.victim, name)
    assert data is not None
    return data


def _own(scene: Scene) -> bytes:
    (data,) = scene.face.raw(scene.attacker, f"~{OTHER}:own")
    assert data is not None
    return data


def _counting(data: bytes) -> bytes:
    """The same entry, such that it counts whatever the generation, and has no tags."""
    return encode(decode(data)._replace(stamp=HIGHEST, tags=()))


def _forged(scene: Scene, namespace: str) -> bytes:
    scope = scope_of(scene.face.partition(scene.stage.victim), namespace)
    return encode(Entry(Encoding.STR, HIGHEST, 0, 0, b"foreign", scope=scope))


# Entries that are in order, for somebody else: only whose they are tells them from the attacker's.
FOREIGN: dict[str, Callable[[Scene], bytes]] = {
    "another tenant's": lambda scene: _victims(scene, "~default:secret"),
    "another tenant's, whatever the generation": lambda scene: _counting(
        _victims(scene, "~default:secret")
    ),
    "another tenant's other namespace's": lambda scene: _counting(
        _victims(scene, f"~{OTHER}:secret")
    ),
    "another tenant's number": lambda scene: _counting(_victims(scene, "~default:number")),
    "another tenant's, forged": lambda scene: _forged(scene, "default"),
    "another namespace's": _own,
    "another namespace's, whatever the generation": lambda scene: _counting(_own(scene)),
    "nobody's": lambda scene: encode(Entry(Encoding.STR, HIGHEST, 0, 0, b"foreign")),
}

Lie = Callable[[str, Any], Any]


class MixingIsolation(IsolationHarness):
    """An entry says whose it is: of another tenant, or namespace, it is never passed on."""

    @pytest.mark.parametrize("made", list(FOREIGN.values()), ids=list(FOREIGN))
    def test_an_entry_of_somebody_else_under_a_key_is_never_passed_on(
        self, scene: Scene, made: Callable[[Scene], bytes]
    ) -> None:
        data = made(scene)
        scene.face.plant(scene.attacker, "~default:key", data)
        self._refuse(scene, "key")
        assert scene.face.raw(scene.attacker, "~default:key") == [data]
        # What is beside it is as it was.
        assert scene.expect(HARMLESS, scene.attacker.get, "own") == "own"

    @pytest.mark.parametrize("made", list(FOREIGN.values()), ids=list(FOREIGN))
    def test_an_entry_of_somebody_else_is_computed_anew_and_replaced(
        self, scene: Scene, made: Callable[[Scene], bytes]
    ) -> None:
        cache, data = scene.attacker, made(scene)
        for options in ({}, {"type": str}, {"stale": 60}, {"stale_if_error": 60}):
            scene.face.plant(cache, "~default:key", data)
            found = scene.expect(HARMLESS, cache.get_or_set, "key", lambda: "mine", **options)
            assert found == "mine"
            assert scene.expect(HARMLESS, cache.get, "key") == "mine"
        # A computation that fails does not fall back on what is another's.
        scene.face.plant(cache, "~default:key", data)

        def fail() -> Any:
            raise LookupError("nothing to compute it from")

        with pytest.raises(LookupError, match="nothing to compute"):
            cache.get_or_set("key", scene.face.callback(fail), stale_if_error=60)
        for replace in (
            lambda: cache.set("key", "cured"),
            lambda: cache.set_many({"key": "cured"}),
        ):
            scene.face.plant(cache, "~default:key", data)
            scene.expect(HARMLESS, replace)
            assert scene.expect(HARMLESS, cache.get, "key") == "cured"
        scene.face.plant(cache, "~default:key", data)
        scene.expect(HARMLESS, cache.delete, "key")
        assert scene.expect(HARMLESS, cache.get, "key") is None

    @pytest.mark.parametrize("made", list(FOREIGN.values()), ids=list(FOREIGN))
    @pytest.mark.parametrize("key", ["own", "absent"])
    def test_an_answer_with_the_entry_of_somebody_else(
        self, scene: Scene, made: Callable[[Scene], bytes], key: str
    ) -> None:
        data = made(scene)

        def mix(values: Sequence[bytes | None]) -> list[bytes | None]:
            # Versions are plain numbers.
            return [
                data if value is None or value[:1] == bytes((MARK,)) else value for value in values
            ]

        def lie(method: str, answer: Any) -> Any:
            return mix(answer) if method == "get_many" else answer

        cache = scene.attacker
        # So that there is a generation, and what is absent is a value.
        cache.clear()
        # And where nothing is, nothing can be in the wrong place.
        cache.set("own", "own")
        cache.set("secret", "own")
        scene.face.backend.lie = lie
        self._refuse(scene, key)
        found = scene.expect(HARMLESS, cache.get_or_set, key, lambda: "mine")
        assert found == "mine"
        scene.face.backend.lie = None
        assert scene.expect(HARMLESS, cache.get, key) == "mine"

    def test_an_answer_to_somebody_elses_question(self, scene: Scene) -> None:
        """As of a connection that is one reply behind: the same names, asked by a victim."""
        victim = scene.face.raw(scene.stage.victim, "~default!g", "~default:secret")

        def lie(method: str, answer: Any) -> Any:
            return victim[-len(answer) :] if method == "get_many" else answer

        cache = scene.attacker
        for act in (
            lambda: cache.get("secret"),
            lambda: cache.get("secret", type=str),
            lambda: cache.get_many(["secret"]),
            lambda: cache.ttl("secret"),
        ):
            scene.face.backend.lie = lie
            scene.expect("integrity", act)
            scene.face.backend.lie = None

    def test_answers_in_another_order(self, scene: Scene) -> None:
        if scene.face.limits.generation_age:
            pytest.skip("a process goes on with the generation that it knows")

        def lie(method: str, answer: Any) -> Any:
            return list(reversed(answer)) if method == "get_many" else answer

        cache = scene.attacker
        # Before the first clear a namespace has no generation that could be in the wrong place.
        cache.clear()
        # And where nothing is, nothing can be in the wrong place.
        cache.set("own", "own")
        cache.set("secret", "own")
        scene.face.backend.lie = lie
        scene.expect("integrity", cache.get, "own")
        scene.expect("integrity", cache.get_many, ["own", "secret"])

    def _refuse(self, scene: Scene, key: str) -> None:
        """Whatever looks at the key says `integrity`, and no value."""
        cache = scene.attacker
        acts: list[Callable[[], Any]] = [
            lambda: cache.get(key),
            lambda: cache.get(key, "default"),
            lambda: cache.get(key, type=str),
            lambda: cache.get_many([key]),
            lambda: cache.get_many(["beside", key], type=str),
            lambda: cache.ttl(key),
        ]
        if scene.can(CacheCapability.COMPARE_AND_SET):
            acts.append(lambda: cache.touch(key, 5))
            acts.append(lambda: cache.set(key, "mine", only_if="absent"))
            acts.append(lambda: cache.set(key, "mine", only_if="present"))
        for act in acts:
            assert scene.expect("integrity", act) is None


__all__ = ["MixingIsolation"]
