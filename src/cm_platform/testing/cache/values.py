"""The suite of values: what is kept comes back as what it was, or is refused before any I/O."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from cm_platform.cache.entry import HEADER
from cm_platform.errors import IntegrityError

from .harness import CacheFace, CacheHarness, refused

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache


class Address(BaseModel):
    """A model within a model."""

    city: str
    since: date | None = None


class Customer(BaseModel):
    """What an application keeps."""

    id: UUID
    name: str
    addresses: list[Address] = []


class Blob(BaseModel):
    """A model that JSON cannot always say."""

    data: bytes


@dataclass
class Point:
    """No model of pydantic's."""

    x: int


ADA = Customer(
    id=UUID(int=7), name="Ada Ümit 🏖️", addresses=[Address(city="Köln", since=date(2024, 2, 29))]
)

VALUES: dict[str, Any] = {
    "no bytes": b"",
    "bytes": bytes(range(256)),
    "bytes like an entry": b"\xc5\x03" + bytes(40),
    "no text": "",
    "text": "Été 🏖️ \x00\r\n",
    "text like JSON": '{"a": 1}',
    "text like a number": "7",
    "zero": 0,
    "a number": -42,
    "the lowest": -(2**63),
    "the highest": 2**63 - 1,
    "a fraction": 0.1,
    "a large fraction": 1.7e308,
    "yes": True,
    "no": False,
    "null": None,
    "a list": [1, "a", None, True, [2.5, []], {}],
    "a mapping": {"a": {"b": [1, {"c": "é"}]}, "": 0, " ": None},
    "a mapping of the highest": {"n": 2**63 - 1, "m": -(2**63)},
    "text of 100 KB": "é" * 50_000,
    "bytes of 100 KB": bytes(100_000),
}

UNKEEPABLE: dict[str, Callable[[], Any]] = {
    "an object": object,
    "a function": lambda: len,
    "a set": lambda: {1},
    "a dataclass": lambda: Point(1),
    "a complex number": lambda: 1j,
    "a decimal": lambda: decimal.Decimal("1.5"),
    "bytes in a list": lambda: [b"a"],
    "a key that is no text": lambda: {1: 2},
    "too high": lambda: 2**63,
    "too low": lambda: -(2**63) - 1,
    "too high in a list": lambda: [2**64],
    "not a number": lambda: math.nan,
    "infinity": lambda: math.inf,
    "not a number, within": lambda: {"a": [None, {"b": -math.inf}]},
    "a lone surrogate": lambda: "a\ud800",
    "a lone surrogate, within": lambda: ["a\udfff"],
    "what holds itself": lambda: _endless(),
    "a model that is not JSON": lambda: Blob(data=b"\xff"),
    "a class": lambda: Customer,
}


def _endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


class ValuesConformance(CacheHarness):
    """Every test has a cache of its own."""

    @pytest.mark.parametrize("value", list(VALUES.values()), ids=list(VALUES))
    def test_a_value_comes_back_as_what_it_was(self, cache: Cache, value: Any) -> None:
        absent = object()
        assert cache.set("key", value) is True
        found = cache.get("key", absent)
        assert found == value
        assert type(found) is type(value)
        many = cache.get_many(["key"])
        assert many == {"key": value}
        assert type(many["key"]) is type(value)
        assert cache.get_or_set("key", lambda: "computed") == value

    def test_a_tuple_comes_back_as_a_list(self, cache: Cache) -> None:
        cache.set("key", (1, ("a",)))
        assert cache.get("key") == [1, ["a"]]

    @pytest.mark.parametrize("made", [bytearray, memoryview], ids=lambda made: made.__name__)
    def test_what_is_like_bytes_comes_back_as_bytes(
        self, cache: Cache, made: Callable[[bytes], Any]
    ) -> None:
        cache.set("key", made(b"bytes"))
        found = cache.get("key")
        assert (type(found), found) == (bytes, b"bytes")

    def test_what_is_absent_is_the_default(self, cache: Cache) -> None:
        default = object()
        assert cache.get("key") is None
        assert cache.get("key", default) is default
        assert cache.get("key", default=default) is default
        assert cache.get_many(["key", "other"]) == {}

    def test_a_kept_none_is_no_absence(self, cache: Cache) -> None:
        cache.set("key", None)
        assert cache.get("key", "default") is None
        assert cache.get_many(["key", "other"]) == {"key": None}

    def test_a_model_comes_back_by_its_type(self, cache: Cache) -> None:
        cache.set("key", ADA)
        assert cache.get("key", type=Customer) == ADA
        assert cache.get_many(["key"], type=Customer) == {"key": ADA}
        assert cache.get("key") == ADA.model_dump(mode="json")

    @pytest.mark.parametrize(
        ("value", "type_", "expected"),
        [
            ([1, 2], tuple[int, ...], (1, 2)),
            ({"a": "2024-02-29"}, dict[str, date], {"a": date(2024, 2, 29)}),
            (7, int, 7),
            ("text", str, "text"),
            (b"bytes", bytes, b"bytes"),
            (None, int | None, None),
            ([ADA.model_dump(mode="json")], list[Customer], [ADA]),
        ],
        ids=["tuple", "dates", "int", "str", "bytes", "None", "models"],
    )
    def test_a_value_is_read_as_a_type(
        self, cache: Cache, value: Any, type_: Any, expected: Any
    ) -> None:
        cache.set("key", value)
        assert cache.get("key", type=type_) == expected

    @pytest.mark.parametrize("value", ["the-secret", b"the-secret", {"a": "the-secret"}, [1], 5])
    def test_a_value_that_does_not_fit_its_type_is_an_integrity_error(
        self, cache: Cache, value: Any
    ) -> None:
        cache.set("key", value)
        for read in (
            lambda: cache.get("key", type=Customer),
            lambda: cache.get_many(["key"], type=Customer),
        ):
            with pytest.raises(IntegrityError) as caught:
                read()
            assert "the-secret" not in str(caught.value)
        assert cache.get("key") == value

    @pytest.mark.parametrize("type_", [5, [int], "Nobody", len, {}], ids=repr)
    def test_what_is_no_type_is_refused_before_any_io(
        self, cache: Cache, face: CacheFace, type_: Any
    ) -> None:
        refused(face, cache.get, "key", type=type_)
        refused(face, cache.get_many, ["key"], type=type_)
        refused(face, cache.get_or_set, "key", int, type=type_)

    def test_a_default_need_not_fit_the_type(self, cache: Cache) -> None:
        assert cache.get("key", "none", type=Customer) == "none"

    def test_what_was_read_is_the_readers_own(self, cache: Cache) -> None:
        value = {"a": [1]}
        cache.set("key", value)
        value["a"].append(2)
        cache.get("key")["a"].append(3)
        assert cache.get("key") == {"a": [1]}

    @pytest.mark.parametrize("made", list(UNKEEPABLE.values()), ids=list(UNKEEPABLE))
    def test_what_cannot_be_kept_is_refused_before_any_io(
        self, cache: Cache, face: CacheFace, made: Callable[[], Any]
    ) -> None:
        for act in (
            lambda: cache.set("key", made()),
            lambda: cache.set_many({"fine": 1, "key": made()}),
        ):
            error = refused(face, act)
            assert error.service in (None, "cache")
        assert cache.get_many(["key", "fine"]) == {}

    def test_a_value_may_be_as_large_as_the_limit(self, cache: Cache, face: CacheFace) -> None:
        # More would say more of this machine than of the backend.
        most = min(face.limits.max_value - HEADER.size, 3_000_000)
        cache.set("key", bytes(most))
        assert len(cache.get("key")) == most

    def test_a_value_beyond_the_limit_is_refused(self, cache: Cache, face: CacheFace) -> None:
        most = face.limits.max_value
        if most > 30_000_000:
            pytest.skip("more than a test should hold in memory")
        for act in (
            lambda: cache.set("key", bytes(most)),
            lambda: cache.set_many({"fine": 1, "key": bytes(most)}),
        ):
            error = refused(face, act)
            assert str(most) in str(error)
        assert cache.get_many(["key", "fine"]) == {}


__all__ = ["VALUES", "ValuesConformance"]
