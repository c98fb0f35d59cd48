"""Attacks that nobody thought of: Hypothesis looks for keys by which two places meet."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cm_platform.testing.cache.harness import RAW
from cm_platform.testing.cache.modelling import LEGAL_KEYS

from .scene import IsolationHarness, Scene

_NAMES = st.from_regex(r"[a-c0-1][a-c0-1-]{0,3}", fullmatch=True)


class PropertyIsolation(IsolationHarness):
    """For any names at all."""

    def test_two_places_never_meet(self, scene: Scene) -> None:
        @self._settings()
        @given(_NAMES, LEGAL_KEYS, _NAMES, LEGAL_KEYS)
        def check(space: str, key: str, other_space: str, other_key: str) -> None:
            assume((space, key) != (other_space, other_key))
            one = scene.attacker.namespace(space)
            other = scene.attacker.namespace(other_space)
            other.delete(other_key)
            one.set(key, "one", tags=(other_key[:30],))
            assert other.get(other_key) is None
            other.set(other_key, "other")
            other.delete(other_key)
            assert one.get(key) == "one"
            if space != other_space:
                other.invalidate_tag(other_key[:30])
                other.clear()
                assert one.get(key) == "one"

        check()

    def test_shared_names_never_meet_ours(self, scene: Scene) -> None:
        raw = scene.attacker.namespace(RAW)

        @self._settings()
        @given(_NAMES, LEGAL_KEYS, LEGAL_KEYS)
        def check(space: str, key: str, shared: str) -> None:
            assume(not shared.startswith("~"))
            ours = scene.attacker.namespace(space)
            ours.set(key, "ours")
            raw.set(shared, b"shared")
            assert ours.get(key) == "ours"
            raw.delete(shared)
            assert ours.get(key) == "ours"

        check()

    def test_a_key_with_a_victims_name_in_it_is_the_attackers_own(self, scene: Scene) -> None:
        partition = scene.face.partition(scene.stage.victim)

        @self._settings()
        @given(st.text("./~:!", max_size=12), st.sampled_from(["default", "sessions"]))
        def check(way: str, space: str) -> None:
            cache = scene.attacker.namespace(space)
            for key in (f"{way}{partition}~{space}:secret", f"{way}secret"):
                if key != "secret":
                    assert scene.attempt(cache.get, key) == ("harmless", None)
                scene.attempt(cache.set, key, "mine")
                scene.attempt(cache.delete, key)

        check()

    def _settings(self) -> settings:
        return settings(
            max_examples=self.examples,
            deadline=None,
            # A store has no seed: an example that failed is no rule for the next run.
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )


__all__ = ["PropertyIsolation"]
