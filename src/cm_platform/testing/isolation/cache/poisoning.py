"""Attacks by what is in the store: bytes that are no entry, or an entry of before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.entry import HEADER, MARK, Encoding, Entry, encode
from cm_platform.testing.isolation.judging import HARMLESS

from .scene import TAG, IsolationHarness, Scene

HIGHEST = 2**64 - 1


def entry(
    scope: int, payload: bytes = b"poison", encoding: int = Encoding.STR, **more: Any
) -> bytes:
    """An entry of this scope that counts, whatever the generation."""
    found = Entry(encoding, HIGHEST, 0, 0, payload, scope=scope)
    return encode(found._replace(**more))


def tagged(scope: int, rest: bytes) -> bytes:
    """A header that says that tags follow, and what follows."""
    return b"\xc5\x11" + entry(scope)[2 : HEADER.size] + rest


def always(data: bytes) -> Callable[[int], bytes]:
    """The same bytes, whoever's place it is."""
    return lambda scope: data


# Bytes that another program, or a fault, may leave under one of our names; entries are given the
# scope of that place, so that they are refused for what is wrong with them.
POISON: dict[str, Callable[[int], bytes]] = {
    "nothing": always(b""),
    "a byte": always(b"\xc5"),
    "text": always(b"poison"),
    "a pickle": always(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x06poison\x94."),
    "JSON": always(b'{"value": "poison"}'),
    "a header that is cut": lambda scope: entry(scope)[: HEADER.size - 1],
    "half a header": lambda scope: entry(scope)[: HEADER.size // 2],
    "another mark": lambda scope: b"\xc6" + entry(scope)[1:],
    "an unknown encoding": lambda scope: b"\xc5\x04" + entry(scope)[2:],
    "the last encoding": lambda scope: b"\xc5\x0f" + entry(scope)[2:],
    "unknown flags": lambda scope: b"\xc5\x81" + entry(scope)[2:],
    "a token that is cut": lambda scope: entry(scope, b"", token=b"12345678")[:-4],
    "no tags": lambda scope: tagged(scope, b""),
    "tags that are cut": lambda scope: entry(scope, b"", tags=(("tag", 1),))[:-3],
    "more tags than there are": lambda scope: tagged(scope, b"\xff" + b"\x01a" + bytes(8)),
    "a tag longer than all": lambda scope: tagged(scope, b"\x01\xff" + b"a" * 20),
    "a tag that is no text": lambda scope: tagged(scope, b"\x01\x01\xff" + bytes(8) + b"x"),
    "text that is none": lambda scope: entry(scope, b"poison\xff\xfe"),
    "JSON that is none": lambda scope: entry(scope, b'{"poison', Encoding.JSON),
    "JSON beyond its end": lambda scope: entry(scope, b"1 poison", Encoding.JSON),
    "JSON that is NaN": lambda scope: entry(scope, b"NaN", Encoding.JSON),
    "JSON without an end": lambda scope: entry(scope, b"[" * 100_000, Encoding.JSON),
    "no JSON": lambda scope: entry(scope, b"", Encoding.JSON),
    "a counter that is none": lambda scope: entry(scope, b"poison", Encoding.COUNTER),
    "a counter of nothing": lambda scope: entry(scope, b"", Encoding.COUNTER),
    "a counter without an end": lambda scope: entry(scope, b"9" * 10_000, Encoding.COUNTER),
}

# Entries that are in order, and must not count. Given a generation and a scope.
OUTDATED: dict[str, Callable[[int, int], bytes]] = {
    "of the generation before": lambda generation, scope: entry(scope, stamp=generation - 1),
    "of no generation": lambda generation, scope: entry(scope, stamp=0),
    "with a tag of before": lambda generation, scope: entry(scope, tags=((TAG, 0),)),
    "with a tag of now and one of before": lambda generation, scope: entry(
        scope, tags=(("never raised", HIGHEST), (TAG, 0))
    ),
    "that is stale": lambda generation, scope: entry(scope, fresh_until=1, expires=2**62),
}


class PoisoningIsolation(IsolationHarness):
    """What is no entry of ours is no value; and it is as easily removed as one."""

    @pytest.mark.parametrize("poison", list(POISON.values()), ids=list(POISON))
    def test_what_is_no_entry_is_no_value(
        self, scene: Scene, poison: Callable[[int], bytes]
    ) -> None:
        cache = scene.attacker
        scene.face.plant(cache, "~default:key", poison(scene.scope()))
        for act in (
            lambda: cache.get("key"),
            lambda: cache.get("key", type=str),
            lambda: cache.get_many(["own", "key"]),
        ):
            outcome, value = scene.attempt(act)
            assert outcome in ("integrity", HARMLESS)
            # Without a value, or without this one.
            assert value in (None, {"own": "own"}), value
        assert scene.expect(HARMLESS, cache.get, "own") == "own"
        self._silent(scene, lambda: cache.get("key"))

    @pytest.mark.parametrize("poison", list(POISON.values()), ids=list(POISON))
    def test_what_is_no_entry_can_be_replaced_and_removed(
        self, scene: Scene, poison: Callable[[int], bytes]
    ) -> None:
        cache, data = scene.attacker, poison(scene.scope())
        for replace in (
            lambda: cache.set("key", "cured"),
            lambda: cache.set_many({"key": "cured"}),
        ):
            scene.face.plant(cache, "~default:key", data)
            scene.expect(HARMLESS, replace)
            assert scene.expect(HARMLESS, cache.get, "key") == "cured"
        for remove in (lambda: cache.delete("key"), lambda: cache.delete_many(["key"])):
            scene.face.plant(cache, "~default:key", data)
            scene.expect(HARMLESS, remove)
            assert scene.expect(HARMLESS, cache.get, "key") is None
        scene.face.plant(cache, "~default:key", data)
        found = scene.expect(HARMLESS, cache.get_or_set, "key", lambda: "computed")
        assert found == "computed"
        assert scene.expect(HARMLESS, cache.get, "key") == "computed"

    @pytest.mark.parametrize("made", list(OUTDATED.values()), ids=list(OUTDATED))
    def test_an_entry_that_is_outdated_is_no_value(
        self, scene: Scene, made: Callable[[int, int], bytes]
    ) -> None:
        cache = scene.attacker
        cache.clear()
        cache.invalidate_tag(TAG)
        (generation,) = scene.face.raw(cache, "~default!g")
        assert generation is not None
        scene.face.plant(cache, "~default:key", made(int(generation), scene.scope()))
        assert scene.expect(HARMLESS, cache.get, "key", "absent") == "absent"
        assert scene.expect(HARMLESS, cache.get_many, ["key"]) == {}
        scene.expect("not_found", cache.ttl, "key")
        if scene.can(CacheCapability.COMPARE_AND_SET):
            assert scene.expect(HARMLESS, cache.touch, "key", 1000) is False
            assert scene.expect(HARMLESS, cache.set, "key", 1, only_if="present") is False
            assert scene.expect(HARMLESS, cache.set, "key", 1, only_if="absent") is True

    def test_an_entry_whose_time_is_over_is_no_value(self, scene: Scene) -> None:
        if scene.can(CacheCapability.EXACT_TTL):
            pytest.skip("the store itself ends a value's time")
        over = entry(scene.scope(), fresh_until=1, expires=1)
        scene.face.plant(scene.attacker, "~default:key", over)
        assert scene.expect(HARMLESS, scene.attacker.get, "key") is None

    def test_a_generation_cannot_be_rolled_back_for_who_raised_it(self, scene: Scene) -> None:
        if scene.face.limits.staleness:
            pytest.skip("what is read back may be older than what was written")
        cache = scene.attacker
        cache.clear()
        (before,) = scene.face.raw(cache, "~default!g")
        assert before is not None
        cache.set("key", "old")
        cache.clear()
        scene.face.plant(cache, "~default!g", before)
        assert scene.expect(HARMLESS, cache.get, "key") is None

    @pytest.mark.parametrize("stamp", [0, 1, HIGHEST])
    def test_a_counter_with_a_forged_stamp_stays_in_its_place(
        self, scene: Scene, stamp: int
    ) -> None:
        if not scene.can(CacheCapability.ATOMIC_INCREMENT):
            pytest.skip("the backend does not declare atomic_increment")
        cache = scene.attacker
        cache.clear()
        forged = entry(scene.scope(), b"1000", Encoding.COUNTER, stamp=stamp)
        scene.face.plant(cache, "~default:number", forged)
        expected = 1001 if stamp == HIGHEST else 1
        assert scene.expect(HARMLESS, cache.increment, "number") == expected

    def test_a_header_of_any_bytes_is_survived(self, scene: Scene) -> None:
        cache = scene.attacker
        for first in range(256):
            data = (
                bytes((MARK, first)) + entry(scene.scope())[2 : HEADER.size] + bytes(range(1, 60))
            )
            scene.face.plant(cache, "~default:key", data)
            assert scene.attempt(cache.get, "key")[0] in ("integrity", HARMLESS)

    @staticmethod
    def _silent(scene: Scene, act: Callable[[], Any]) -> None:
        """What is under the key is not told by the error."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever it is
            assert "poison" not in f"{error} {error!r}"


__all__ = ["POISON", "PoisoningIsolation"]
