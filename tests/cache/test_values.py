"""Values as bytes and back; what would come back as something else is refused."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from cm_platform.cache.entry import Encoding, Entry
from cm_platform.cache.values import check_type, decode_payload, decode_value, encode_value
from cm_platform.errors import IntegrityError, InvalidArgumentError

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | FLOATS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)


class Customer(BaseModel):
    name: str
    scores: dict[str, float] = {}


def again(value: Any, type_: Any = None) -> Any:
    encoding, payload = encode_value(value)
    return decode_value(Entry(encoding, 0, 0, 0, payload), type_)


@given(JSON | st.binary())
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    found = again(value)
    assert found == value
    assert type(found) is type(value)


@given(INT64)
def test_a_number_is_kept_as_the_counter_that_it_may_become(number: int) -> None:
    assert encode_value(number) == (Encoding.COUNTER, b"%d" % number)


@given(TEXT, st.dictionaries(TEXT, FLOATS))
def test_a_model_comes_back_by_its_type(name: str, scores: dict[str, float]) -> None:
    customer = Customer(name=name, scores=scores)
    assert again(customer, Customer) == customer
    assert again(customer) == customer.model_dump()


@given(st.integers(min_value=2**63) | st.integers(max_value=-(2**63) - 1))
def test_a_number_beyond_64_bit_is_refused(number: int) -> None:
    with pytest.raises(InvalidArgumentError):
        encode_value(number)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "made",
    [
        lambda n: n,
        lambda n: [None, {"a": n}],
        lambda n: (n,),
        lambda n: Customer(name="null", scores={"a": n}),
    ],
)
def test_what_json_would_make_null_is_refused(number: float, made: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="NaN"):
        encode_value(made(number))


def test_null_itself_is_kept() -> None:
    assert again([None, "null", Customer(name="null").name]) == [None, "null", "null"]


class Blob(BaseModel):
    data: bytes


class Broken(BaseModel):
    name: str

    def __init__(self, name: str) -> None:
        super().__init__(name="fine")
        object.__setattr__(self, "name", name)
        self.__dict__["name"] = name


@pytest.mark.parametrize(
    "value", [Blob(data=b"the-secret\xff"), Broken("the-secret\ud800"), "the-secret\udfff"]
)
def test_what_cannot_be_kept_is_refused_without_a_word_about_it(value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        encode_value(value)
    assert "the-secret" not in str(caught.value)
    assert caught.value.__cause__ is None


DAMAGED: list[tuple[Encoding, bytes]] = [
    (Encoding.STR, b"\xff"),
    (Encoding.JSON, b"{"),
    (Encoding.JSON, b""),
    (Encoding.JSON, b"NaN"),
    *(
        (Encoding.COUNTER, text)
        for text in (b"", b"-", b"1_0", b" 1", b"+1", b"1.0", b"--1", b"1\n", b"9" * 5000)
    ),
]


@pytest.mark.parametrize(("encoding", "payload"), DAMAGED)
@pytest.mark.parametrize("type_", [None, int, Customer])
def test_a_damaged_value_is_an_integrity_error(
    encoding: Encoding, payload: bytes, type_: Any
) -> None:
    with pytest.raises(IntegrityError):
        decode_payload(encoding, payload, type_)


@given(st.sampled_from(Encoding), st.binary(max_size=30), st.sampled_from([None, int, Customer]))
def test_any_bytes_are_a_value_or_an_integrity_error(
    encoding: Encoding, payload: bytes, type_: Any
) -> None:
    try:
        decode_payload(encoding, payload, type_)
    except IntegrityError as error:
        assert error.__cause__ is None


@pytest.mark.parametrize(
    ("value", "type_", "told"),
    [
        ({"name": "the-secret", "scores": {"the-secret": "the-secret"}}, Customer, "scores"),
        ({"scores": {}}, Customer, "name"),
        ({"the-secret": "the-secret"}, dict[str, int], "it"),
        (["the-secret"], list[int], "it"),
        ("the-secret", int, "it"),
        (b"the-secret", Customer, "it"),
        ({"a": {"the-secret": 1}}, dict[str, dict[Literal["x"], int]], "it"),
    ],
)
def test_a_value_of_another_type_is_an_integrity_error_without_a_word_about_it(
    value: Any, type_: Any, told: str
) -> None:
    with pytest.raises(IntegrityError) as caught:
        again(value, type_)
    assert "the-secret" not in str(caught.value)
    assert f"({told})" in str(caught.value)
    # A traceback would print these, too.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("value", "type_", "expected"),
    [
        (5, int, 5),
        (5, float, 5.0),
        ("text", str, "text"),
        ("2", int, 2),
        (b"\xff", bytes, b"\xff"),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1], set[int], {1}),
        (None, int | None, None),
        (3, Annotated[int, Field(gt=2)], 3),
        (3, Annotated[int, ["metadata that cannot be hashed"]], 3),
    ],
)
def test_a_value_is_read_as_a_type(value: Any, type_: Any, expected: Any) -> None:
    check_type(type_)
    found = again(value, type_)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "type_",
    [5, [], {}, [int], object(), "Nobody", list["Nobody"]],  # type: ignore[name-defined]  # noqa: F821
)
def test_what_is_no_type_is_refused(type_: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="type must be"):
        check_type(type_)


def test_a_secret_is_kept_as_its_model_shows_it() -> None:
    class Login(BaseModel):
        password: SecretStr

    _, payload = encode_value(Login(password=SecretStr("the-secret")))
    assert b"the-secret" not in payload
