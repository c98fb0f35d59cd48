"""The suite of many keys at once, and of deleting: an outcome for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.cache.backend import StoredMany
from cm_platform.errors import PlatformError, QuotaExceededError

from .harness import CacheFace, CacheHarness, refused

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache


class BatchesConformance(CacheHarness):
    """However many there are: the service asks the store as often as it needs."""

    def _many(self, face: CacheFace) -> int:
        """More than two batches, if those are of a size that a test can send."""
        return min(2 * face.limits.max_batch, 2000) + 3

    def test_many_values_come_back_in_the_order_asked_for(
        self, cache: Cache, face: CacheFace
    ) -> None:
        values = {f"key-{n}": n for n in range(self._many(face))}
        assert cache.set_many(values) == dict.fromkeys(values)
        asked = [*reversed(values), "absent"]
        found = cache.get_many(asked)
        assert found == values
        assert list(found) == asked[:-1]
        some = list(values)[::2]
        assert cache.delete_many(some) == dict.fromkeys(some)
        assert cache.get_many(asked) == {key: n for key, n in values.items() if n % 2}

    def test_many_tagged_values_are_invalidated_together(
        self, cache: Cache, face: CacheFace
    ) -> None:
        values = {f"key-{n}": n for n in range(face.limits.max_batch % 2000 + 5)}
        cache.set_many(values, tags=("a", "b"))
        assert cache.get_many(values) == values
        cache.invalidate_tag("b")
        assert cache.get_many(values) == {}

    def test_values_of_all_kinds_in_one_batch(self, cache: Cache) -> None:
        values = {"a": b"\x00", "b": "é", "c": 5, "d": [None], "e": None, "f": True}
        cache.set_many(values)
        assert cache.get_many(values) == values

    def test_nothing_is_not_asked_for(self, cache: Cache, face: CacheFace) -> None:
        face.calls.clear()
        assert cache.get_many([]) == {}
        assert cache.set_many({}) == {}
        assert cache.delete_many([]) == {}
        assert not face.calls

    def test_keys_may_come_from_a_generator_and_twice(self, cache: Cache) -> None:
        def keys() -> Iterator[str]:
            yield from ("a", "b", "a", "absent")

        cache.set_many({"a": 1, "b": 2})
        assert cache.get_many(keys()) == {"a": 1, "b": 2}
        assert cache.delete_many(keys()) == {"a": None, "b": None, "absent": None}
        assert cache.get_many(keys()) == {}

    def test_delete_forgets_one_key(self, cache: Cache) -> None:
        cache.set_many({"a": 1, "b": 2})
        cache.delete("a")
        assert cache.get_many(["a", "b"]) == {"b": 2}
        cache.delete("a")
        cache.delete("never there")
        cache.set("a", 3)
        assert cache.get("a") == 3

    def test_a_failure_is_told_for_its_key_alone(self, cache: Cache, face: CacheFace) -> None:
        partition = face.partition(cache)
        seen: dict[str, list[str]] = {}

        def lie(method: str, answer: Any) -> Any:
            if method not in ("set_many", "delete_many"):
                return answer
            bad = [key for key in face.written[partition] if key.endswith(":bad")]
            seen[method] = bad
            failures: dict[str, PlatformError] = {key: QuotaExceededError("full") for key in bad}
            if method == "set_many":
                return StoredMany(failures, answer.along)
            return failures

        face.backend.lie = lie
        try:
            stored = cache.set_many({"fine": 1, "bad": 2})
            removed = cache.delete_many(["fine", "bad"])
        finally:
            face.backend.lie = None
        assert {method: len(bad) for method, bad in seen.items()} == {
            "set_many": 1,
            "delete_many": 1,
        }
        for outcomes, operation in ((stored, "set_many"), (removed, "delete_many")):
            assert list(outcomes) == ["fine", "bad"]
            assert outcomes["fine"] is None
            error = outcomes["bad"]
            assert isinstance(error, QuotaExceededError)
            assert (error.service, error.operation) == ("cache", operation)
            assert error.backend is not None
            assert partition not in str(error)

    @pytest.mark.parametrize("keys", ["key", b"key", None, 5, len], ids=repr)
    def test_what_is_no_list_of_keys_is_refused_before_any_io(
        self, cache: Cache, face: CacheFace, keys: Any
    ) -> None:
        refused(face, cache.get_many, keys)
        refused(face, cache.delete_many, keys)

    @pytest.mark.parametrize("values", ["key", [("a", 1)], None, 5, {"key"}], ids=repr)
    def test_what_is_no_mapping_of_values_is_refused_before_any_io(
        self, cache: Cache, face: CacheFace, values: Any
    ) -> None:
        refused(face, cache.set_many, values)

    def test_one_bad_key_spoils_a_batch_before_any_io(self, cache: Cache, face: CacheFace) -> None:
        refused(face, cache.get_many, ["fine", ""])
        refused(face, cache.delete_many, ["fine", "a\n"])
        refused(face, cache.set_many, {"fine": 1, "\ud800": 2})
        many = [f"key-{n}" for n in range(self._many(face))]
        refused(face, cache.get_many, [*many, ""])
        refused(face, cache.delete_many, [*many, ""])
        refused(face, cache.set_many, dict.fromkeys([*many, ""], 1))


__all__ = ["BatchesConformance"]
