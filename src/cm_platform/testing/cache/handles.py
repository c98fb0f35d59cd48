"""The suite of the handle itself: whose it is, how long it waits, what it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.errors import PlatformError, UnavailableError

from .harness import OTHER, CacheFace, CacheHarness, refused

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache


class HandlesConformance(CacheHarness):
    """Handles are cheap, and alike on all backends."""

    def test_a_handle_says_whose_it_is(self, cache: Cache) -> None:
        assert cache.tenant.id in repr(cache)
        assert cache.namespace(OTHER).tenant == cache.tenant
        assert OTHER in repr(cache.namespace(OTHER))

    def test_a_handle_is_a_context_that_closes_nothing(self, cache: Cache) -> None:
        with cache as same:
            same.set("key", "value")
        assert cache.get("key") == "value"

    def test_ping_reaches_the_store(self, cache: Cache, face: CacheFace) -> None:
        face.calls.clear()
        cache.ping()
        assert face.calls == ["ping"]

    def test_staleness_is_what_the_backend_declares(self, cache: Cache, face: CacheFace) -> None:
        assert cache.staleness() == face.limits.staleness + face.limits.generation_age

    def test_a_handle_with_another_deadline_has_the_same_values(self, cache: Cache) -> None:
        patient = cache.with_timeout(120.5)
        patient.set("key", "value")
        assert cache.get("key") == "value"
        cache.clear()
        assert patient.get("key") is None
        assert patient.namespace(OTHER).get_or_set("key", lambda: 1) == 1

    @pytest.mark.parametrize("seconds", [0, -1, "5", None, True, float("nan"), 86_401], ids=repr)
    def test_what_is_no_deadline_is_refused(
        self, cache: Cache, face: CacheFace, seconds: Any
    ) -> None:
        refused(face, cache.with_timeout, seconds)

    def test_an_error_says_where_it_happened_and_shows_no_key(
        self, cache: Cache, face: CacheFace
    ) -> None:
        with face.unreachable():
            for act in (
                lambda: cache.get("the-key"),
                lambda: cache.get_many(["the-key"]),
                lambda: cache.set("the-key", "the-value"),
                lambda: cache.set_many({"the-key": "the-value"}),
                lambda: cache.delete("the-key"),
                lambda: cache.delete_many(["the-key"]),
                lambda: cache.ttl("the-key"),
                lambda: cache.clear(),
                lambda: cache.invalidate_tag("the-tag"),
            ):
                error = self._raised(act)
                assert isinstance(error, UnavailableError)
                assert error.service == "cache"
                assert error.backend is not None
                assert error.operation is not None
                for secret in ("the-key", "the-value", "the-tag", cache.tenant.id):
                    assert secret not in str(error)

    @staticmethod
    def _raised(act: Any) -> PlatformError:
        """What it raises, or tells of each key."""
        try:
            outcomes = act()
        except PlatformError as error:
            return error
        (outcome,) = outcomes.values()
        assert isinstance(outcome, PlatformError)
        return outcome


__all__ = ["HandlesConformance"]
