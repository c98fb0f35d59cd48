"""The suite of what only the backend itself shows: order, what is read along, stamps."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.entry import HEADER, Encoding, Entry, encode
from cm_platform.errors import PlatformError

from .harness import CacheFace, CacheHarness, need

_HIGHEST = 2**63 - 1
_LOWEST = -(2**63)


def counter(stamp: int, value: int, *, expires: int = 0) -> bytes:
    """The entry of a counter."""
    return encode(Entry(Encoding.COUNTER, stamp, expires, expires, b"%d" % value))


@dataclass
class Store:
    """The backend's methods, called with one partition and run to their end."""

    face: CacheFace
    partition: str

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.face.backend, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            return self.face.run(method(self.partition, *args, **kwargs))

        return called

    def get(self, *keys: str) -> list[bytes | None]:
        """The values of the keys."""
        return list(self.get_many(list(keys)))


class ContractConformance(CacheHarness):
    """Below the service."""

    @pytest.fixture
    def store(self, face: CacheFace) -> Store:
        """The backend, with an empty partition."""
        return Store(face, f"{uuid4()}/")

    def _failure(self, face: CacheFace, coroutine: Coroutine[Any, Any, Any]) -> str:
        """The code of what a call raises, as the executor would see it."""
        with pytest.raises(Exception) as caught:
            face.run(coroutine)
        error = caught.value
        if not isinstance(error, PlatformError):
            error = face.backend.translate(error)
        assert isinstance(error, PlatformError), caught.value
        return error.code

    def test_values_come_in_the_order_of_the_keys(self, store: Store) -> None:
        store.set_many({"a": b"1", "b": b"", "c": b"\x00\xff"}, ttl=1000.0)
        assert store.get("c", "absent", "a", "b") == [b"\x00\xff", None, b"1", b""]
        assert store.get("absent") == [None]
        assert all(type(value) is bytes for value in store.get("a", "b", "c"))

    def test_a_whole_batch(self, store: Store, face: CacheFace) -> None:
        most = min(face.limits.max_batch, 2000)
        values = {f"key-{n}": b"%d" % n for n in range(most)}
        assert dict(store.set_many(values, ttl=1000.0).failures) == {}
        assert store.get(*values) == list(values.values())
        assert dict(store.delete_many(list(values))) == {}
        assert store.get(*values) == [None] * most

    def test_partition_and_key_together_are_the_name(self, store: Store, face: CacheFace) -> None:
        beginning = store.partition
        one, other = Store(face, f"{beginning}a"), Store(face, f"{beginning}ab")
        one.set("bc", b"value", ttl=1000.0)
        assert one.get("c", "abc", "b", "bcd", "bc") == [None, None, None, None, b"value"]
        # One name, or two places where the pair is kept as a pair: never somebody else's.
        assert other.get("bc", "c") in ([None, b"value"], [None, None])

    def test_what_is_read_along_is_of_after_the_write(self, store: Store) -> None:
        stored = store.set("a", b"1", ttl=1000.0, along=["b", "a"])
        assert (stored.stored, list(stored.along)) == (True, [None, b"1"])
        stored = store.set_many({"b": b"2", "c": b"3"}, ttl=1000.0, along=["c", "x", "a"])
        assert (dict(stored.failures), list(stored.along)) == ({}, [b"3", None, b"1"])
        assert list(store.set("a", b"1", ttl=1000.0).along) == []

    def test_a_write_replaces_value_and_time(self, store: Store, face: CacheFace) -> None:
        need(face, CacheCapability.EXPIRE)
        store.set("key", b"1", ttl=5.0)
        store.set("key", b"2", ttl=None)
        assert store.get("key") == [b"2"]
        assert store.ttl("key") is None
        store.set_many({"key": b"3"}, ttl=1000.0)
        assert 900 < store.ttl("key") <= 1000.1

    def test_what_is_absent_is_deleted_without_a_failure(self, store: Store) -> None:
        store.set("key", b"1", ttl=None)
        assert dict(store.delete_many(["absent", "key", "absent too"])) == {}
        assert store.get("key") == [None]

    def test_a_value_has_its_time(self, store: Store, face: CacheFace) -> None:
        need(face, CacheCapability.EXACT_TTL)

        def begin() -> None:
            store.set("one", b"1", ttl=self.moment)
            store.set_many({"many": b"1"}, ttl=self.moment)

        self.runs_out(face, self.moment, begin, lambda: any(store.get("one", "many")))

    def test_conditions(self, store: Store, face: CacheFace) -> None:
        need(face, CacheCapability.CONDITIONAL_SET)
        along = ["key"]
        stored = store.set("key", b"1", ttl=1000.0, only_if="present", along=along)
        assert (stored.stored, list(stored.along)) == (False, [None])
        stored = store.set("key", b"1", ttl=1000.0, only_if="absent", along=along)
        assert (stored.stored, list(stored.along)) == (True, [b"1"])
        stored = store.set("key", b"2", ttl=1000.0, only_if="absent", along=along)
        assert (stored.stored, list(stored.along)) == (False, [b"1"])
        stored = store.set("key", b"2", ttl=1000.0, only_if="present", along=along)
        assert (stored.stored, list(stored.along)) == (True, [b"2"])

    def test_compare_and_set(self, store: Store, face: CacheFace) -> None:
        need(face, CacheCapability.COMPARE_AND_SET)
        assert store.compare_and_set("key", b"", b"1", ttl=1000.0) is False
        assert store.compare_and_set("key", None, b"1", ttl=1000.0) is True
        assert store.compare_and_set("key", None, b"2", ttl=1000.0) is False
        assert store.compare_and_set("key", b"0", b"2", ttl=1000.0) is False
        assert store.compare_and_set("key", b"1\x00", b"2", ttl=1000.0) is False
        assert store.get("key") == [b"1"]
        assert store.compare_and_set("key", b"1", b"\x00\xff", ttl=1000.0) is True
        assert store.compare_and_set("key", b"\x00\xff", b"", ttl=1000.0) is True
        assert store.get("key") == [b""]
        assert store.compare_and_set("key", b"x", None, ttl=None) is False
        assert store.compare_and_set("key", None, None, ttl=None) is False
        assert store.compare_and_set("key", b"", None, ttl=None) is True
        assert store.get("key") == [None]
        assert store.compare_and_set("key", None, None, ttl=None) is True
        assert store.get("key") == [None]

    def test_compare_and_set_gives_its_time(self, store: Store, face: CacheFace) -> None:
        need(face, CacheCapability.COMPARE_AND_SET, CacheCapability.EXACT_TTL)
        store.set("for ever", b"1", ttl=self.moment)
        assert store.compare_and_set("for ever", b"1", b"2", ttl=None) is True
        store.set("shorter", b"1", ttl=None)
        self.runs_out(
            face,
            self.moment,
            lambda: store.compare_and_set("shorter", b"1", b"2", ttl=self.moment),
            lambda: store.get("shorter") == [b"2"],
        )
        assert store.get("for ever") == [b"2"]
        assert store.compare_and_set("shorter", b"2", b"3", ttl=None) is False
        assert store.compare_and_set("shorter", None, b"3", ttl=None) is True

    def test_a_counter_is_an_entry(self, store: Store, face: CacheFace) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT)
        initial = counter(7, 5)
        counted = store.increment("key", 5, initial=initial, ttl=1000.0, along=["key", "x"])
        assert (counted.value, counted.stamp) == (5, 7)
        assert list(counted.along) == [initial, None]
        counted = store.increment("key", -6, initial=counter(7, -6), ttl=1000.0, along=["key"])
        assert (counted.value, counted.stamp, list(counted.along)) == (-1, 7, [counter(7, -1)])

    def test_a_counters_header_stays(self, store: Store, face: CacheFace) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT)
        far = 4_102_444_800_000
        store.set("key", counter(7, 5, expires=far), ttl=1000.0)
        assert store.increment("key", 1, initial=counter(6, 1), ttl=5.0).value == 6
        assert store.increment("key", 1, initial=counter(7, 1), ttl=5.0).value == 7
        assert store.get("key") == [counter(7, 7, expires=far)]
        if CacheCapability.EXPIRE in face.capabilities:
            assert store.ttl("key") > 900

    @pytest.mark.parametrize(
        "before",
        [
            counter(6, 5),
            encode(Entry(Encoding.STR, 6, 0, 0, b"text")),
            encode(Entry(Encoding.JSON, 6, 0, 0, b"{}", (("tag", 1),))),
            encode(Entry(Encoding.COUNTER, 6, 0, 0, b"5", (), b"12345678")),
        ],
        ids=["a counter", "text", "tagged", "a token"],
    )
    def test_what_is_outdated_is_counted_anew(
        self, store: Store, face: CacheFace, before: bytes
    ) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT)
        store.set("key", before, ttl=1000.0)
        counted = store.increment("key", 3, initial=counter(7, 3), ttl=5.0)
        assert (counted.value, counted.stamp) == (3, 7)
        assert store.get("key") == [counter(7, 3)]
        if CacheCapability.EXPIRE in face.capabilities:
            assert store.ttl("key") <= 5.1

    @pytest.mark.parametrize("stamp", [0, 1, 255, 256, 2**32, 2**53, 2**53 + 1, 2**63, 2**64 - 1])
    def test_stamps_are_compared_as_numbers_of_64_bit(
        self, store: Store, face: CacheFace, stamp: int
    ) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT)
        store.set("key", counter(stamp, 5), ttl=1000.0)
        counted = store.increment("key", 1, initial=counter(stamp, 1), ttl=1000.0)
        assert (counted.value, counted.stamp) == (6, stamp)
        if stamp:
            lower = counter(stamp - 1, 1)
            assert store.increment("key", 1, initial=lower, ttl=1000.0)[:2] == (7, stamp)
        if stamp < 2**64 - 1:
            higher = counter(stamp + 1, 1)
            assert store.increment("key", 1, initial=higher, ttl=1000.0)[:2] == (1, stamp + 1)

    @pytest.mark.parametrize(
        "before",
        [
            b"",
            b"text",
            b"5",
            encode(Entry(Encoding.STR, 7, 0, 0, b"5")),
            encode(Entry(Encoding.BYTES, 7, 0, 0, b"5")),
            encode(Entry(Encoding.JSON, 8, 0, 0, b"5")),
            counter(7, 5)[:20],
            encode(Entry(Encoding.COUNTER, 7, 0, 0, b"")),
            encode(Entry(Encoding.COUNTER, 7, 0, 0, b"x")),
            encode(Entry(Encoding.COUNTER, 7, 0, 0, b"5", (("tag", 1),))),
        ],
        ids=lambda before: before[:1].hex() + before[1:2].hex() + before[HEADER.size :].hex(),
    )
    def test_what_is_no_counter_is_a_failed_precondition(
        self, store: Store, face: CacheFace, before: bytes
    ) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT)
        store.set("key", before, ttl=1000.0)
        increment = face.backend.increment(
            store.partition, "key", 1, initial=counter(7, 1), ttl=1000.0
        )
        assert self._failure(face, increment) == "precondition_failed"
        assert store.get("key") == [before]

    @pytest.mark.parametrize(("start", "amount"), [(_HIGHEST, 1), (_LOWEST, -1), (2, _HIGHEST)])
    def test_a_sum_beyond_64_bit_is_an_invalid_argument(
        self, store: Store, face: CacheFace, start: int, amount: int
    ) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT)
        for before, initial in (
            (counter(7, start), counter(7, amount)),
            (b"%d" % start, None),
        ):
            store.set("key", before, ttl=1000.0)
            increment = face.backend.increment(
                store.partition, "key", amount, initial=initial, ttl=1000.0
            )
            assert self._failure(face, increment) == "invalid_argument"
            assert store.get("key") == [before]

    def test_a_plain_counter_is_text(self, store: Store, face: CacheFace) -> None:
        need(face, CacheCapability.ATOMIC_INCREMENT)
        counted = store.increment("key", 5, initial=None, ttl=None, along=["key"])
        assert (counted.value, counted.stamp, list(counted.along)) == (5, 0, [b"5"])
        assert store.increment("key", -50, initial=None, ttl=None).value == -45
        assert store.get("key") == [b"-45"]
        store.set("entry", counter(7, 5), ttl=None)
        increment = face.backend.increment(store.partition, "entry", 1, initial=None, ttl=None)
        assert self._failure(face, increment) == "precondition_failed"

    def test_ttl_and_expire(self, store: Store, face: CacheFace) -> None:
        need(face, CacheCapability.EXPIRE)
        assert self._failure(face, face.backend.ttl(store.partition, "key")) == "not_found"
        assert store.expire("key", 5.0) is False
        store.set("key", b"1", ttl=1000.0)
        assert 900 < store.ttl("key") <= 1000.1
        assert store.expire("key", 5.5) is True
        assert 4 < store.ttl("key") <= 5.6
        assert store.expire("key", None) is True
        assert store.ttl("key") is None
        assert store.get("key") == [b"1"]

    def test_what_no_sdk_raised_is_not_classified(self, face: CacheFace) -> None:
        for error in (KeyError("x"), RuntimeError("x"), ZeroDivisionError()):
            assert face.backend.translate(error) is None

    def test_what_it_declares_is_sound(self, face: CacheFace) -> None:
        limits, backend = face.limits, face.backend
        assert limits.max_key >= 200
        assert limits.max_value > 1000
        assert limits.max_batch >= 1
        assert backend.max_request_lifetime >= 0
        assert isinstance(backend.evicts, bool)
        exact = CacheCapability.READ_YOUR_WRITES in face.capabilities
        assert exact == (limits.staleness == 0)
        if exact:
            assert limits.generation_age == 0
        if backend.evicts:
            # Else nobody could set a lost version so that all agree on one.
            assert CacheCapability.CONDITIONAL_SET in face.capabilities

    def test_close_may_be_called_twice(self, face: CacheFace) -> None:
        with face.another() as other:
            other.run(other.backend.ping())
            other.run(other.backend.close())
            other.run(other.backend.close())

    @pytest.fixture(autouse=True)
    def _no_lies(self, face: CacheFace) -> Iterator[None]:
        yield
        face.backend.lie = None


__all__ = ["ContractConformance", "counter"]
