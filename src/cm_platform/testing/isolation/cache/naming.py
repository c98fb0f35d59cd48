"""Attacks by tags and by names of namespaces."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.testing.isolation.judging import HARMLESS

from .reaching import LIKENESSES, OWN_KEYS
from .scene import IsolationHarness, Scene

REFUSED_NAMESPACES: dict[str, Any] = {
    "nothing": "",
    "a value": "default:secret",
    "a generation": "default!g",
    "a tag": "default!t:tag",
    "ours": "~default",
    "up": "..",
    "a victim's": "../<p>~default",
    "a slash": "default/",
    "a wildcard": "*",
    "a class": "[ds]efault",
    "braces": "{default}",
    "in capitals": "DEFAULT",
    "a newline": "default\n",
    "NUL": "default\x00",
    "a space": "default ",
    "full-width": "ｄefault",
    "dotless": "sess\u0131ons",
    "too long": "d" * 64,
    "bytes": b"default",
    "None": None,
    "a list": ["default"],
}


class NamingIsolation(IsolationHarness):
    """Tags of others cannot be spelled, and what is no namespace leads nowhere."""

    @pytest.mark.parametrize("trick", list(OWN_KEYS.values()), ids=list(OWN_KEYS))
    def test_a_tag_that_looks_odd_is_the_attackers_own(self, scene: Scene, trick: str) -> None:
        tag, cache = scene.aimed(trick), scene.attacker
        if len(tag.encode()) > 128:
            scene.refused(cache.invalidate_tag, tag)
            return
        scene.expect(HARMLESS, cache.set, "tagged", "mine", tags=(tag,))
        assert scene.expect(HARMLESS, cache.get, "tagged") == "mine"
        scene.expect(HARMLESS, cache.invalidate_tag, tag)
        scene.within("default")
        assert scene.expect(HARMLESS, cache.get_many, ["tagged", "own"]) == {"own": "own"}

    @pytest.mark.parametrize(
        "trick", list(REFUSED_NAMESPACES.values()), ids=list(REFUSED_NAMESPACES)
    )
    def test_what_is_no_namespace_is_refused(self, scene: Scene, trick: Any) -> None:
        scene.refused(scene.attacker.namespace, scene.aimed(trick))

    @pytest.mark.parametrize("pair", list(LIKENESSES.values()), ids=list(LIKENESSES))
    def test_tags_that_are_alike_are_two(self, scene: Scene, pair: tuple[str, str]) -> None:
        one, other = pair
        scene.expect(HARMLESS, scene.attacker.set, "tagged", "mine", tags=(one,))
        scene.expect(HARMLESS, scene.attacker.invalidate_tag, other)
        assert scene.expect(HARMLESS, scene.attacker.get, "tagged") == "mine"


__all__ = ["REFUSED_NAMESPACES", "NamingIsolation"]
