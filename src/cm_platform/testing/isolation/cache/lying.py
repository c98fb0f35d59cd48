"""Attacks by the store itself: an answer that is not to the question is never passed through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability, Stored, StoredMany
from cm_platform.errors import InternalError
from cm_platform.testing.cache.harness import OTHER, RAW
from cm_platform.testing.isolation.judging import HARMLESS, unchained

from .scene import TAG, IsolationHarness, Scene

NOT_AS_MANY: dict[str, Callable[[Sequence[Any]], Sequence[Any]]] = {
    "none": lambda values: [],
    "one too few": lambda values: values[:-1],
    "one too many": lambda values: [*values, b"x"],
    "twice as many": lambda values: [*values, *values],
}

FOREIGN: dict[str, Callable[[Scene], str]] = {
    "a victim's": lambda scene: f"{scene.face.partition(scene.stage.victim)}~default:secret",
    "a victim's, relative": lambda scene: f"../{scene.stage.victim.tenant.id}/~default:secret",
    "one with the partition": lambda scene: f"{scene.partition}~default:own",
    "another namespace's": lambda scene: "~sessions:own",
    "one without its namespace": lambda scene: "own",
    "the generation": lambda scene: "~default!g",
    "an empty one": lambda scene: "",
    "one that was not asked for": lambda scene: "~default:other",
}


class LyingIsolation(IsolationHarness):
    """A backend that mixes up its answers is an `integrity` error, whatever it mixes up."""

    @pytest.mark.parametrize("cut", list(NOT_AS_MANY.values()), ids=list(NOT_AS_MANY))
    def test_an_answer_of_another_length(
        self, scene: Scene, cut: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> None:
        def lie(method: str, answer: Any) -> Any:
            return cut(answer) if method == "get_many" else answer

        cache, raw = scene.attacker, scene.attacker.namespace(RAW)
        self._check(
            scene,
            lie,
            lambda: cache.get("own"),
            lambda: cache.get_many(["own", "other"]),
            lambda: cache.ttl("own"),
            lambda: cache.get_or_set("own", lambda: "mine"),
            lambda: raw.get("own"),
            lambda: raw.get_many(["own", "other"]),
            *([lambda: cache.touch("own", 5)] if self._swaps(scene) else []),
        )

    @pytest.mark.parametrize("cut", list(NOT_AS_MANY.values()), ids=list(NOT_AS_MANY))
    def test_what_is_read_along_of_another_length(
        self, scene: Scene, cut: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> None:
        # Others read their versions before they write.
        along = scene.can(CacheCapability.READ_YOUR_WRITES)

        def lie(method: str, answer: Any) -> Any:
            if method == "get_many" and not along:
                return cut(answer)
            if method not in ("set", "set_many", "increment") or not answer.along:
                return answer
            return answer._replace(along=cut(answer.along))

        cache = scene.attacker
        acts: list[Callable[[], Any]] = [
            lambda: cache.set("own", "mine", tags=(TAG, "other")),
            lambda: cache.set_many({"own": 1, "other": 2}, tags=(TAG, "other")),
        ]
        if not scene.face.limits.generation_age:
            # Else not every write asks for the generation.
            acts.append(lambda: cache.set("own", "mine"))
            acts.append(lambda: cache.set_many({"own": 1, "other": 2}))
        if scene.can(CacheCapability.ATOMIC_INCREMENT):
            acts.append(lambda: cache.increment("number"))
        self._check(scene, lie, *acts)

    @pytest.mark.parametrize("made", list(FOREIGN.values()), ids=list(FOREIGN))
    def test_a_foreign_failure(self, scene: Scene, made: Callable[[Scene], str]) -> None:
        foreign = made(scene)

        def lie(method: str, answer: Any) -> Any:
            failures = {foreign: InternalError("no")}
            if method == "set_many":
                return StoredMany(failures, answer.along)
            return failures if method == "delete_many" else answer

        cache, raw = scene.attacker, scene.attacker.namespace(RAW)
        acts = [
            lambda: cache.set_many({"own": 1, "two": 2}),
            lambda: cache.delete_many(["own", "two"]),
            lambda: cache.delete("own"),
        ]
        if foreign != "own":
            acts.append(lambda: raw.set_many({"own": b"1", "two": b"2"}))
            acts.append(lambda: raw.delete_many(["own", "two"]))
        self._check(scene, lie, *acts)

    @pytest.mark.parametrize(
        "version", [b"", b"x", b"-1", b"1.5", b"\xc5" * 40, b"9" * 40, "٣".encode(), b" 1", b"1\n"]
    )
    def test_a_version_that_is_none(self, scene: Scene, version: bytes) -> None:
        if scene.face.limits.generation_age:
            pytest.skip("a process goes on with the generation that it knows")
        scene.face.plant(scene.attacker, "~default!g", version)
        cache = scene.attacker
        for act in (
            lambda: cache.get("own"),
            lambda: cache.get_many(["own"]),
            lambda: cache.set("own", 1),
        ):
            outcome, value = scene.attempt(act)
            assert outcome in ("integrity", HARMLESS), outcome
            assert value in (None, {}, True)
        scene.attacker.namespace(OTHER).get("own")

    def test_a_write_that_is_answered_as_refused(self, scene: Scene) -> None:
        def lie(method: str, answer: Any) -> Any:
            return Stored(False, answer.along) if method == "set" else answer

        scene.face.backend.lie = lie
        outcome, value = scene.attempt(lambda: scene.attacker.set("own", "mine"))
        assert (outcome, value) in (("integrity", None), (HARMLESS, True))

    def test_what_a_backend_raises_is_not_shown(self, scene: Scene) -> None:
        secret = scene.stage.secrets[0]

        def lie(method: str, answer: Any) -> Any:
            raise KeyError(f"no {secret} in {method}")

        scene.face.backend.lie = lie
        cache = scene.attacker
        for act in (
            lambda: cache.get("own"),
            lambda: cache.set("own", 1),
            lambda: cache.delete("own"),
            lambda: cache.clear(),
        ):
            # Of a write in doubt nobody knows.
            assert scene.attempt(unchained(act))[0] in ("internal", "ambiguous")

    def _check(
        self, scene: Scene, lie: Callable[[str, Any], Any], *acts: Callable[[], Any]
    ) -> None:
        for act in acts:
            scene.face.backend.lie = lie
            try:
                scene.expect("integrity", act)
            finally:
                scene.face.backend.lie = None

    @staticmethod
    def _swaps(scene: Scene) -> bool:
        return scene.can(CacheCapability.COMPARE_AND_SET)


__all__ = ["LyingIsolation"]
