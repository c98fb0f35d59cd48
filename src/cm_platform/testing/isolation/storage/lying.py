"""Attacks by the store itself: what lacks the tenant's scope is never passed through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cm_platform.errors import InternalError
from cm_platform.storage.backend import BackendPage, ListedObject
from cm_platform.testing.isolation.judging import unchained

from .scene import IsolationHarness, Scene


def hidden(scene: Scene) -> str:
    """The physical key of a victim's object that the attacker does not know of."""
    victim = scene.stage.victim
    key = next(listed.key for listed in victim.list() if listed.key.startswith("unknown"))
    return scene.face.physical(victim, key)


def shortened(scene: Scene) -> str:
    """A key that begins as the attacker's do, but for the separator."""
    return scene.face.physical(scene.attacker, "")[:-1]


FOREIGN: dict[str, Callable[[Scene], str]] = {
    "a victim's": hidden,
    "one without the separator": shortened,
    "one of nobody": lambda scene: "unknown",
    "an empty one": lambda scene: "",
    "one of the attacker after a slash": lambda scene: (
        "/" + scene.face.physical(scene.attacker, "own/1")
    ),
    "one in capitals": lambda scene: scene.face.physical(scene.attacker, "own/1").upper(),
}


class LyingIsolation(IsolationHarness):
    """A backend that mixes up its answers is an `integrity` error."""

    @pytest.fixture(params=list(FOREIGN.values()), ids=list(FOREIGN))
    def foreign(self, request: pytest.FixtureRequest, scene: Scene) -> str:
        """A physical key outside of the attacker's scope."""
        made: Callable[[Scene], str] = request.param
        return made(scene)

    def test_a_foreign_object_in_a_listing(self, scene: Scene, foreign: str) -> None:
        def lie(method: str, answer: Any) -> Any:
            if method != "list":
                return answer
            return replace(answer, objects=[*answer.objects, ListedObject(foreign, 1, "etag")])

        self._check(scene, lie, scene.attacker.list, scene.attacker.list_page)

    def test_a_foreign_folder_in_a_listing(self, scene: Scene, foreign: str) -> None:
        def lie(method: str, answer: Any) -> Any:
            return BackendPage([], [foreign]) if method == "list" else answer

        self._check(scene, lie, lambda: scene.attacker.list_page(delimiter="/"))

    def test_a_foreign_description(self, scene: Scene, foreign: str) -> None:
        def lie(method: str, answer: Any) -> Any:
            return replace(answer, key=foreign) if method == "head" else answer

        storage = scene.attacker
        self._check(
            scene,
            lie,
            lambda: storage.head("own/1"),
            lambda: storage.exists("own/1"),
            lambda: storage.copy("own/1", "copy"),
        )
        assert not storage.exists("copy")

    def test_a_foreign_object_opened(self, scene: Scene, foreign: str) -> None:
        def lie(method: str, answer: Any) -> Any:
            if method == "get":
                answer.info = replace(answer.info, key=foreign)
            return answer

        storage = scene.attacker
        self._check(
            scene,
            lie,
            lambda: storage.get("own/1"),
            lambda: storage.get_range("own/1", 0, 1),
            lambda: storage.get_ranges("own/1", [(0, 1)]),
            lambda: storage.verify("own/1"),
        )

    def test_a_foreign_failure_of_a_delete(self, scene: Scene, foreign: str) -> None:
        def lie(method: str, answer: Any) -> Any:
            return {foreign: InternalError("no")} if method == "delete_many" else answer

        self._check(scene, lie, lambda: scene.attacker.delete_many(["own/1", "own/2"]))

    def test_what_a_backend_raises_is_not_shown(self, scene: Scene) -> None:
        secret = hidden(scene)

        def lie(method: str, answer: Any) -> Any:
            raise KeyError(f"no {secret} in {method}")

        scene.face.backend.lie = lie
        scene.expect("internal", unchained(lambda: scene.attacker.head("own/1")))

    def _check(
        self, scene: Scene, lie: Callable[[str, Any], Any], *acts: Callable[[], Any]
    ) -> None:
        scene.face.backend.lie = lie
        try:
            for act in acts:
                scene.expect("integrity", act)
        finally:
            scene.face.backend.lie = None


__all__ = ["LyingIsolation"]
