"""Attacks by keys: text that means more than it should."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.testing.cache.harness import OTHER, RAW
from cm_platform.testing.isolation.judging import HARMLESS

from .scene import TAG, IsolationHarness, Scene

# "<v>" stands for the victim's tenant id, "<p>" for what all of its physical keys begin with.
OWN_KEYS = {
    "a victim's name": "secret",
    "a victim's place": "<p>~default:secret",
    "a victim's shared place": "<p>secret",
    "a victim's place from above": "../<p>~default:secret",
    "a victim's id": "<v>/~default:secret",
    "the rest of a victim's id": "b/~default:secret",
    "the rest of a victim's id with a colon": "b:~default:secret",
    "up": "../<v>/~default:secret",
    "up twice": "../../<v>/~default:secret",
    "up ten times": "../" * 10 + "<v>/~default:secret",
    "down and up": "x/../../<v>/~default:secret",
    "only up": "..",
    "only here": ".",
    "the root": "/",
    "absolute": "/<p>~default:secret",
    "encoded slash": "..%2f<v>%2f~default:secret",
    "encoded dots": "%2e%2e/<v>/~default:secret",
    "all encoded": "%2e%2e%2f<v>%2f%7edefault%3asecret",
    "encoded twice": "%252e%252e%252f<v>%252fsecret",
    "overlong encoding": "%c0%ae%c0%ae/<v>/secret",
    "encoded NUL": "%00/<p>secret",
    "full-width dots": "．．/<v>/secret",
    "full-width colon": "<v>：secret",
    "full-width tilde": "～default:secret",
    "backslashes": "..\\<v>\\secret",
    "any": "*",
    "any of the victim's": "<p>*",
    "any one": "?ecret",
    "any of a class": "[a-z]ecret",
    "not of a class": "[^x]*",
    "an escaped glob": "\\*",
    "a hash tag": "{<v>}secret",
    "a hash tag of ours": "{<p>}~default:secret",
    "an empty hash tag": "{}secret",
    "an open brace": "{",
    "braces about a slash": "{/}",
    "a placeholder": "{tenant}/{key}",
    "the generation": "!g",
    "the generation of default": "~default!g",
    "the generation of another": "~sessions!g",
    "a tag": "!t:tag",
    "a tag of default": "~default!t:tag",
    "a tag of another": "~sessions!t:tag",
    "a lock": "!l:secret",
    "a lock of default": "~default!l:secret",
    "another namespace": "~sessions:secret",
    "another namespace, shorter": "sessions:secret",
    "the same namespace": "~default:secret",
    "out of a namespace": ":../~sessions:secret",
    "a colon before": ":secret",
    "colons": "::",
    "a tilde": "~",
    "a mark": "!",
    "a query": "secret?partition=<p>",
    "a fragment": "#<p>secret",
    "a parameter": "secret&prefix=<p>",
    "an address": "https://127.0.0.1/<p>secret",
    "another KV namespace": "../../ns/values/<p>secret",
    "a command": "x EX 1 GET <p>secret",
    "a command's end": "x\u2028GET <p>secret",
    "SQL": "' OR key LIKE '%secret",
    "SQL, a wildcard": "%secret",
    "SQL, any letter": "_ecret",
    "a format": "%s{0}{self}",
    "an override": "\u202eterces",
    "nothing to see": "secret\u200b",
    "the longest": "<p>" + "s" * 200,
}

REFUSED_KEYS: dict[str, Any] = {
    "nothing": "",
    "NUL": "\x00",
    "NUL before a victim's place": "\x00<p>~default:secret",
    "NUL after a name": "secret\x00<p>secret",
    "a command": "x\r\nGET <p>~default:secret\r\n",
    "a newline": "secret\n",
    "a header": "secret\r\ncm-partition: <p>",
    "an escape": "\x1b]0;<v>\x07",
    "a C1 control": "secret\x85",
    "a lone surrogate": "\udc2e\udc2e/<v>/secret",
    "half a pair": "secret\ud83c",
    "bytes": b"secret",
    "a list": ["secret"],
    "a number": 5,
    "None": None,
}

LIKENESSES = {
    "a composed and a decomposed accent": ("caf\u00e9", "cafe\u0301"),
    "compatible forms": ("\ufb01", "fi"),
    "Kelvin and K": ("\u212a", "K"),
    "two cases": ("secret-1", "SECRET-1"),
    "two cases of a dotless i": ("ı", "I"),
    "sharp s": ("ß", "ss"),
    "a slash and its encoding": ("a/b", "a%2Fb"),
    "an encoding in two cases": ("%2f", "%2F"),
    "a plus and a space": ("a+b", "a b"),
    "a space at the end": ("a", "a "),
    "a dot at the end": ("a", "a."),
    "a number's forms": ("1", "01"),
    "a colon more": ("a:b", "a::b"),
    "a segment that leads nowhere": ("a/b", "a/./b"),
    "a segment up": ("b", "a/../b"),
    "an invisible character": ("ab", "a\u200bb"),
    "another script": ("a", "а"),
    "a mark of order": ("a", "\ufeffa"),
    "numbers": ("5", "٥"),
    "hash tags": ("{a}b", "{a}c"),
    "a glob and what it matches": ("a*", "ab"),
}


class ReachingIsolation(IsolationHarness):
    """Keys of others cannot be spelled."""

    @pytest.mark.parametrize("trick", list(OWN_KEYS.values()), ids=list(OWN_KEYS))
    def test_a_key_that_looks_odd_is_the_attackers_own(self, scene: Scene, trick: str) -> None:
        for namespace in ("default", OTHER):
            self._is_own(scene, scene.aimed(trick), namespace)

    @staticmethod
    def _is_own(scene: Scene, key: str, namespace: str) -> None:
        cache = scene.attacker.namespace(namespace)

        def harmless(act: Any, *args: Any, **kwargs: Any) -> Any:
            value = scene.expect(HARMLESS, act, *args, **kwargs)
            scene.within(namespace)
            return value

        assert harmless(cache.get, key) is None
        assert harmless(cache.get_many, [key, "own"]) == {"own": "own"}
        scene.expect("not_found", cache.ttl, key)
        harmless(cache.delete, key)
        harmless(cache.delete_many, [key])
        assert harmless(cache.get_or_set, key, lambda: "mine") == "mine"
        assert harmless(cache.get, key) == "mine"
        harmless(cache.set_many, {key: "mine too"}, tags=(TAG,))
        assert harmless(cache.get_many, [key, "own"]) == {key: "mine too", "own": "own"}
        if scene.can(CacheCapability.COMPARE_AND_SET):
            assert harmless(cache.set, key, "mine three", only_if="present") is True
            assert harmless(cache.touch, key, None) is True
        harmless(cache.delete, key)
        if scene.can(CacheCapability.ATOMIC_INCREMENT):
            assert harmless(cache.increment, key) == 1

    @pytest.mark.parametrize("trick", list(OWN_KEYS.values()), ids=list(OWN_KEYS))
    def test_a_shared_key_that_looks_odd_is_the_attackers_own(
        self, scene: Scene, trick: str
    ) -> None:
        key, cache = scene.aimed(trick), scene.attacker.namespace(RAW)
        if key.startswith("~"):
            scene.refused(cache.get, key)
            scene.refused(cache.get_many, ["own", key])
            scene.refused(cache.set, key, b"mine")
            scene.refused(cache.set_many, {key: b"mine"})
            scene.refused(cache.delete, key)
            scene.refused(cache.delete_many, ["own", key])
            if scene.can(CacheCapability.ATOMIC_INCREMENT):
                scene.refused(cache.increment, key)
            if scene.can(CacheCapability.EXPIRE):
                scene.refused(cache.touch, key, 5)
                scene.refused(cache.ttl, key)
            return
        assert scene.expect(HARMLESS, cache.get, key) is None
        assert scene.expect(HARMLESS, cache.get_many, [key]) == {}
        scene.expect(HARMLESS, cache.delete_many, [key])
        scene.expect(HARMLESS, cache.set, key, b"mine")
        scene.expect(HARMLESS, cache.set_many, {key: b"7"})
        assert scene.expect(HARMLESS, cache.get, key) == b"7"
        if scene.can(CacheCapability.ATOMIC_INCREMENT):
            assert scene.expect(HARMLESS, cache.increment, key) == 8
        if scene.can(CacheCapability.EXPIRE):
            assert scene.expect(HARMLESS, cache.touch, key, 100) is True
        scene.expect(HARMLESS, cache.delete, key)

    @pytest.mark.parametrize("trick", list(REFUSED_KEYS.values()), ids=list(REFUSED_KEYS))
    def test_what_is_no_key_is_refused(self, scene: Scene, trick: Any) -> None:
        key = scene.aimed(trick)
        for space in (scene.attacker, scene.attacker.namespace(RAW)):
            scene.refused(space.get, key)
            scene.refused(space.get_many, ["own", key])
            scene.refused(space.set, key, b"mine")
            scene.refused(space.delete, key)
            scene.refused(space.delete_many, ["own", key])
            if not isinstance(key, list):
                scene.refused(space.set_many, {key: b"mine"})
            if scene.can(CacheCapability.ATOMIC_INCREMENT):
                scene.refused(space.increment, key)
            if scene.can(CacheCapability.COMPARE_AND_SET, CacheCapability.EXPIRE):
                scene.refused(space.touch, key, 5)
                scene.refused(space.ttl, key)
        scene.refused(scene.attacker.get_or_set, key, lambda: "mine")

    @pytest.mark.parametrize("pair", list(LIKENESSES.values()), ids=list(LIKENESSES))
    def test_keys_that_are_alike_are_two(self, scene: Scene, pair: tuple[str, str]) -> None:
        for space in (scene.attacker, scene.attacker.namespace(RAW)):
            for one, other in (pair, pair[::-1]):
                scene.expect(HARMLESS, space.set, one, b"one")
                assert scene.expect(HARMLESS, space.get, other) is None
                assert scene.expect(HARMLESS, space.get_many, [other, one]) == {one: b"one"}
                scene.expect(HARMLESS, space.delete, other)
                assert scene.expect(HARMLESS, space.get, one) == b"one"
                scene.expect(HARMLESS, space.delete, one)


__all__ = ["LIKENESSES", "OWN_KEYS", "REFUSED_KEYS", "ReachingIsolation"]
