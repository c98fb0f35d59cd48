"""The suite of counters: every increment counts once, and every caller gets a number of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import InvalidArgumentError, PreconditionFailedError

from .harness import OTHER, CacheFace, CacheHarness, call, need, refused

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache

_HIGHEST = 2**63 - 1
_LOWEST = -(2**63)


class CountingConformance(CacheHarness):
    """Skipped where the backend does not declare `atomic_increment`."""

    @pytest.fixture
    def counting(self, cache: Cache, face: CacheFace) -> Cache:
        """The cache, if it counts."""
        need(face, CacheCapability.ATOMIC_INCREMENT)
        return cache

    def test_increment_begins_at_the_amount_and_adds(self, counting: Cache) -> None:
        assert counting.increment("key") == 1
        assert counting.increment("key") == 2
        assert counting.increment("key", 40) == 42
        assert counting.increment("key", -50) == -8
        assert counting.increment("key", 0) == -8
        assert counting.increment("other", -3) == -3
        assert counting.get_many(["key", "other"]) == {"key": -8, "other": -3}
        assert type(counting.get("key")) is int

    def test_increment_goes_on_from_a_number_that_was_set(self, counting: Cache) -> None:
        counting.set("key", 41)
        assert counting.increment("key") == 42
        counting.set_many({"a": -1, "b": 0})
        assert counting.increment("a") == 0
        assert counting.increment("b", -1) == -1
        counting.set("key", 7)
        assert counting.increment("key") == 8

    def test_increment_goes_on_from_a_number_that_was_set_on_a_condition(
        self, counting: Cache, face: CacheFace
    ) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        assert counting.set("key", 5, only_if="absent") is True
        assert counting.increment("key") == 6
        assert counting.set("key", 10, only_if="present") is True
        assert counting.increment("key") == 11
        assert counting.touch("key", 1000.0) is True
        assert counting.increment("key") == 12
        assert counting.get("key") == 12

    def test_a_deleted_counter_begins_anew(self, counting: Cache) -> None:
        counting.increment("key", 10)
        counting.delete("key")
        assert counting.increment("key") == 1

    def test_a_cleared_counter_begins_anew(self, counting: Cache) -> None:
        counting.increment("key", 10)
        counting.clear()
        assert counting.get("key") is None
        assert counting.increment("key") == 1
        assert counting.increment("key") == 2
        assert counting.get("key") == 2

    def test_a_cleared_counter_begins_anew_everywhere(
        self, counting: Cache, face: CacheFace, other: CacheFace
    ) -> None:
        need(face, CacheCapability.READ_YOUR_WRITES)
        there = other.cache(counting.tenant)
        assert there.increment("key", 10) == 10
        assert counting.increment("key") == 11
        counting.clear()
        assert there.increment("key") == 1
        assert counting.increment("key") == 2
        there.clear()
        assert counting.increment("key") == 1
        assert there.get("key") == 1

    def test_a_tagged_number_is_not_counted(self, counting: Cache) -> None:
        counting.set("key", 10, tags=("tag",))
        with pytest.raises(PreconditionFailedError):
            counting.increment("key")
        assert counting.get("key") == 10

    def test_a_counters_ttl_is_that_of_its_beginning(
        self, counting: Cache, face: CacheFace
    ) -> None:
        def begin() -> None:
            assert counting.increment("key", 5, ttl=self.moment) == 5
            # The window of a rate limit does not move.
            assert counting.increment("key", ttl=1000.0) == 6

        self.runs_out(face, self.moment, begin, lambda: counting.get("key") == 6)
        assert counting.increment("key") == 1

    def test_a_counters_ttl_is_told(self, counting: Cache) -> None:
        counting.increment("limited", ttl=100)
        left = counting.ttl("limited")
        assert left is not None
        assert 90 < left <= 100.1
        counting.increment("for ever", ttl=None)
        assert counting.ttl("for ever") is None
        counting.increment("default")
        left = counting.ttl("default")
        assert left is not None
        assert 250 < left <= 300.1

    def test_a_number_that_was_set_keeps_its_time(self, counting: Cache) -> None:
        counting.set("key", 1, ttl=1000.0)
        counting.increment("key", ttl=5)
        left = counting.ttl("key")
        assert left is not None
        assert left > 900

    def test_a_counter_goes_to_the_bounds_of_64_bit(self, counting: Cache) -> None:
        assert counting.increment("high", _HIGHEST) == _HIGHEST
        assert counting.increment("low", _LOWEST) == _LOWEST
        assert counting.get_many(["high", "low"]) == {"high": _HIGHEST, "low": _LOWEST}
        assert counting.increment("high", _LOWEST) == -1
        assert counting.increment("high", _HIGHEST) == _HIGHEST - 1
        assert counting.increment("high") == _HIGHEST
        # Exact beyond what a double can tell apart.
        assert counting.increment("exact", 2**53) == 2**53
        assert counting.increment("exact") == 2**53 + 1

    def test_a_sum_beyond_64_bit_is_refused_and_changes_nothing(self, counting: Cache) -> None:
        for key, start, amount in (("high", _HIGHEST, 1), ("low", _LOWEST, -1)):
            counting.set(key, start, ttl=1000.0)
            with pytest.raises(InvalidArgumentError) as caught:
                counting.increment(key, amount)
            assert not caught.value.retryable
            assert counting.get(key) == start
            left = counting.ttl(key)
            assert left is not None
            assert left > 900

    @pytest.mark.parametrize("value", ["text", "5", b"5", 1.5, [1], None, True, {"a": 1}], ids=repr)
    def test_what_is_no_counter_is_not_counted(self, counting: Cache, value: Any) -> None:
        counting.set("key", value)
        with pytest.raises(PreconditionFailedError) as caught:
            counting.increment("key")
        assert not caught.value.retryable
        assert counting.get("key", "absent") == value
        counting.clear()
        assert counting.increment("key") == 1

    def test_increments_at_once_all_count(self, counting: Cache, face: CacheFace) -> None:
        numbers = face.at_once(counting, [call("increment", "key") for _ in range(16)])
        assert sorted(numbers) == list(range(1, 17))
        assert counting.get("key") == 16

    def test_increments_after_a_clear_all_count(self, counting: Cache, face: CacheFace) -> None:
        counting.set("key", 1000)
        counting.clear()
        numbers = face.at_once(counting, [call("increment", "key") for _ in range(16)])
        assert sorted(numbers) == list(range(1, 17))
        assert counting.get("key") == 16

    def test_counters_of_namespaces_are_apart(self, counting: Cache) -> None:
        other = counting.namespace(OTHER)
        assert counting.increment("key", 5) == 5
        assert other.increment("key") == 1
        other.clear()
        assert counting.increment("key") == 6
        assert other.increment("key") == 1

    @pytest.mark.parametrize(
        "amount", [1.0, "1", None, True, _HIGHEST + 1, _LOWEST - 1, b"1", [1]], ids=repr
    )
    def test_what_is_no_amount_is_refused_before_any_io(
        self, counting: Cache, face: CacheFace, amount: Any
    ) -> None:
        assert "amount" in str(refused(face, counting.increment, "key", amount))


__all__ = ["CountingConformance"]
