"""The body of a batch: what we send, and that nothing the other side sends surprises us."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_platform.cloudflare.frame import MAX_BODY, MAX_OPERATIONS, encoded
from cm_platform.cloudflare.outcome import outcomes_of
from cm_platform.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
    UnsupportedError,
)

from .doubles import frame, unframed

GET = {"op": "kv.get", "key": "k"}


def reference(offset: Any, length: Any) -> dict[str, Any]:
    return {"offset": offset, "length": length}


def found(value: object) -> dict[str, Any]:
    return {"ok": True, "value": value, "metadata": None}


def test_values_are_sent_as_they_are_after_the_json_part() -> None:
    head, tail = unframed(
        encoded(
            [
                {"op": "kv.put", "key": "a", "value": b"\x00\xff"},
                {"op": "do.compare_and_set", "key": "b", "expected": b"", "value": b"xyz"},
                {"op": "do.compare_and_set", "key": "c", "expected": None, "value": b"!"},
            ]
        )
    )
    assert tail == b"\x00\xffxyz!"
    assert head == {
        "operations": [
            {"op": "kv.put", "key": "a", "value": reference(0, 2)},
            {
                "op": "do.compare_and_set",
                "key": "b",
                "expected": reference(2, 0),
                "value": reference(2, 3),
            },
            {"op": "do.compare_and_set", "key": "c", "expected": None, "value": reference(5, 1)},
        ]
    }


def test_what_was_given_is_not_changed() -> None:
    operation = {"op": "kv.put", "key": "a", "value": b"v"}
    encoded([operation])
    assert operation["value"] == b"v"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "kv.get", "key": "half \ud800"},
        {"op": "kv.put", "key": "k", "value": b"", "metadata": {"deep": b"bytes"}},
        {"op": "kv.put", "key": "k", "value": b"", "metadata": 1 << 70},
        {"op": "kv.put", "key": "k", "value": bytearray(b"v")},
    ],
)
def test_what_json_cannot_say_is_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="JSON") as caught:
        encoded([operation])
    assert caught.value.not_sent


def test_a_batch_of_too_many_operations_is_refused() -> None:
    encoded([GET] * MAX_OPERATIONS)
    with pytest.raises(InvalidArgumentError, match="at most 100"):
        encoded([GET] * (MAX_OPERATIONS + 1))


def test_a_batch_of_too_many_bytes_is_refused() -> None:
    put = {"op": "kv.put", "key": "k", "value": bytes(25 * 1024 * 1024)}
    assert len(encoded([put])) < MAX_BODY
    with pytest.raises(InvalidArgumentError, match="at most"):
        encoded([put, put])


@given(st.lists(st.none() | st.binary(max_size=50), max_size=20), st.randoms())
def test_values_come_back_as_they_were_in_whatever_order_they_lie(
    values: list[bytes | None], random: Any
) -> None:
    lying = list(range(len(values)))
    random.shuffle(lying)
    rows: dict[int, Any] = {}
    tail = b""
    for index in lying:
        value = values[index]
        rows[index] = found(None if value is None else reference(len(tail), len(value)))
        tail += value or b""
    body = frame({"outcomes": [rows[index] for index in range(len(values))]}, tail)
    outcomes = outcomes_of(body, [GET] * len(values))
    assert [outcome.checked()["value"] for outcome in outcomes] == values


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "less than the prefix": b"\0\0\0",
    "a JSON part beyond the end": b"\xff\xff\xff\xff{}",
    "no JSON": frame(b"{,}"),
    "JSON that is no UTF-8": frame(b'{"outcomes":["\xff"]}'),
    "a list": frame([]),
    "no outcomes": frame({}),
    "outcomes that are no list": frame({"outcomes": {}}),
    "too few outcomes": frame({"outcomes": []}),
    "too many outcomes": frame({"outcomes": [found(None)] * 2}),
    "an outcome that is no object": frame({"outcomes": [None]}),
    "an outcome that says nothing": frame({"outcomes": [{}]}),
    "an outcome that is nearly ok": frame({"outcomes": [{**found(None), "ok": 1}]}),
    "an outcome without its value": frame({"outcomes": [{"ok": True, "metadata": None}]}),
    "a value in place of a reference": frame({"outcomes": [found("text")]}),
    "half a reference": frame({"outcomes": [found({"offset": 0})]}),
    "more than a reference": frame({"outcomes": [found({**reference(0, 0), "more": 1})]}),
    "an offset below zero": frame({"outcomes": [found(reference(-1, 1))]}, b"v"),
    "a length below zero": frame({"outcomes": [found(reference(1, -1))]}, b"v"),
    "a fraction": frame({"outcomes": [found(reference(0.0, 1))]}, b"v"),
    "a flag for a number": frame({"outcomes": [found(reference(False, True))]}, b"v"),
    "text for a number": frame({"outcomes": [found(reference("0", 1))]}, b"v"),
    "a value beyond the end": frame({"outcomes": [found(reference(0, 2))]}, b"v"),
    "an offset beyond the end": frame({"outcomes": [found(reference(9, 0))]}, b"v"),
    "a huge value": frame({"outcomes": [found(reference(0, 2**62))]}, b"v"),
    "bytes that belong to none": frame({"outcomes": [found(None)]}, b"v"),
    "an unknown code": frame({"outcomes": [{"ok": False, "code": "ambiguous", "message": ""}]}),
    "no code": frame({"outcomes": [{"ok": False, "message": ""}]}),
    "no message": frame({"outcomes": [{"ok": False, "code": "internal"}]}),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_reply_is_an_internal_error(body: bytes) -> None:
    with pytest.raises(InternalError, match="malformed") as caught:
        outcomes_of(body, [GET])
    assert not caught.value.not_sent


def test_values_that_overlap_are_malformed() -> None:
    body = frame({"outcomes": [found(reference(0, 2)), found(reference(1, 2))]}, b"abc")
    with pytest.raises(InternalError, match="overlap"):
        outcomes_of(body, [GET, GET])


def test_a_short_reply_that_names_its_bytes_again_and_again_takes_no_memory() -> None:
    many = [reference(0, 1024 * 1024)] * 5000
    body = frame({"outcomes": [{"ok": True, "values": many}]}, bytes(1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(InternalError, match="overlap"):
            outcomes_of(body, [{"op": "kv.get_many", "keys": ["k"]}])
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=200), st.integers(0, 10))
def test_no_bytes_at_all_raise_anything_else(noise: bytes, where: int) -> None:
    good = frame({"outcomes": [found(reference(0, 3))]}, b"abc")
    for body in (noise, good[:where] + noise + good[where:], good[: -where or None] + noise):
        with contextlib.suppress(InternalError):
            outcomes_of(body, [GET])


SHAPES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"op": "kv.get_many", "keys": ["a", "b"]}, {"values": [None]}),
    ({"op": "kv.get_many", "keys": ["a"]}, {"values": None}),
    ({"op": "kv.get_many", "keys": ["a"]}, {"values": ["text"]}),
    ({"op": "kv.list"}, {"keys": [{"name": "a"}], "cursor": None}),
    ({"op": "kv.list"}, {"keys": ["a"], "cursor": None}),
    ({"op": "kv.list"}, {"keys": [{"key": "a", "expiration": "soon"}], "cursor": None}),
    ({"op": "kv.list"}, {"keys": [], "cursor": 7}),
    ({"op": "kv.list"}, {"keys": []}),
    ({"op": "do.get"}, {"value": None}),
    ({"op": "do.get"}, {"value": None, "expires_in": "soon"}),
    ({"op": "do.get"}, {"value": None, "expires_in": True}),
    ({"op": "do.set"}, {"stored": 1}),
    ({"op": "do.set"}, {}),
    ({"op": "do.compare_and_set"}, {"stored": None}),
    ({"op": "do.delete"}, {"existed": "yes"}),
    ({"op": "do.expire"}, {}),
    ({"op": "do.increment"}, {"value": 7, "stamp": None}),
    ({"op": "do.increment"}, {"value": "seven", "stamp": None}),
    ({"op": "do.increment"}, {"value": "7"}),
    ({"op": "do.increment"}, {"value": "7", "stamp": "now"}),
]


@pytest.mark.parametrize(("operation", "fields"), SHAPES)
def test_an_outcome_of_another_shape_than_its_operation_is_malformed(
    operation: dict[str, Any], fields: dict[str, Any]
) -> None:
    with pytest.raises(InternalError, match="malformed"):
        outcomes_of(frame({"outcomes": [{"ok": True, **fields}]}), [operation])


def test_each_operation_answers_in_its_own_shape() -> None:
    operations: list[dict[str, Any]] = [
        {"op": "kv.get_many", "keys": ["a", "b"]},
        {"op": "kv.list"},
        {"op": "do.get"},
        {"op": "do.increment"},
        {"op": "do.set"},
        {"op": "kv.put"},
    ]
    rows = [
        {"ok": True, "values": [reference(0, 1), None]},
        {"ok": True, "keys": [{"key": "a", "metadata": {"m": 1}}], "cursor": "next"},
        {"ok": True, "value": reference(1, 2), "expires_in": 1.5},
        {"ok": True, "value": "-9223372036854775808", "stamp": "18446744073709551615"},
        {"ok": True, "stored": True},
        {"ok": True},
    ]
    found = outcomes_of(frame({"outcomes": rows}, b"abc"), operations)
    assert [outcome.checked() for outcome in found] == [
        {"values": [b"a", None]},
        {"keys": [{"key": "a", "expiration": None, "metadata": {"m": 1}}], "cursor": "next"},
        {"value": b"bc", "expires_in": 1.5},
        {"value": "-9223372036854775808", "stamp": "18446744073709551615"},
        {"stored": True},
        {},
    ]


CODES: list[tuple[str, type[PlatformError], bool, bool]] = [
    ("invalid_argument", InvalidArgumentError, False, True),
    ("not_found", NotFoundError, False, False),
    ("precondition_failed", PreconditionFailedError, False, False),
    ("rate_limited", RateLimitedError, True, True),
    ("unavailable", UnavailableError, True, False),
    ("unsupported", UnsupportedError, False, True),
    ("internal", InternalError, False, False),
]


@pytest.mark.parametrize(("code", "kind", "retryable", "not_sent"), CODES)
def test_an_operation_fails_by_itself(
    code: str, kind: type[PlatformError], retryable: bool, not_sent: bool
) -> None:
    failed = {"ok": False, "code": code, "message": "why\n\x1b[31m", "retry_after": 1.0}
    first, second = outcomes_of(frame({"outcomes": [failed, found(None)]}), [GET, GET])
    assert second.checked()["value"] is None
    with pytest.raises(kind) as caught:
        first.checked()
    error = caught.value
    assert error.message == "the gateway says: why  [31m"
    assert (error.retryable, error.not_sent, error.retry_after) == (retryable, not_sent, 1.0)


def test_the_gateway_can_say_that_an_operation_had_no_effect() -> None:
    failed = {"ok": False, "code": "unavailable", "message": "why", "not_sent": True}
    (outcome,) = outcomes_of(frame({"outcomes": [failed]}), [GET])
    assert outcome.error is not None
    assert outcome.error.not_sent
