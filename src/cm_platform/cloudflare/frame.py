"""The body of a batch: a JSON part, and the bytes of its values after it.

4 bytes, big endian: the length of the JSON part | that part, UTF-8 | the values, one after
another. In the JSON a value is `{"offset": o, "length": l}` into what follows it, so that bytes
are sent as they are: base64 would add a third, and the time to make it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import orjson

from cm_platform.errors import InternalError, InvalidArgumentError

CONTENT_TYPE: Final = b"application/vnd.cm-platform.batch"

# Of protocol 1, request and response alike; see the gateway's own limits.
MAX_OPERATIONS: Final = 100
MAX_BODY: Final = 26 * 1024 * 1024

_PREFIX: Final = 4


def encoded(operations: Sequence[Mapping[str, Any]]) -> bytes:
    """The body that asks for these operations.

    operations: JSON-able, save that a field (of the operation itself, not deeper) may be bytes.

    Raises `invalid_argument` for too many of them, for what JSON cannot say, and for more than
    26 MiB.
    """
    if len(operations) > MAX_OPERATIONS:
        raise InvalidArgumentError(
            f"a batch has at most {MAX_OPERATIONS} operations, and this has {len(operations)}",
            not_sent=True,
        )
    values: list[bytes] = []
    offset = 0
    rows: list[dict[str, Any]] = []
    for operation in operations:
        row: dict[str, Any] = dict(operation)
        for name, value in row.items():
            if isinstance(value, bytes):
                row[name] = {"offset": offset, "length": len(value)}
                values.append(value)
                offset += len(value)
        rows.append(row)
    try:
        head = orjson.dumps({"operations": rows})
    except TypeError as error:
        raise InvalidArgumentError(
            "an operation of this batch holds what JSON cannot say: keys are Unicode text, and "
            "metadata is text, numbers, booleans, null, lists and tables of these",
            not_sent=True,
        ) from error
    size = _PREFIX + len(head) + offset
    if size > MAX_BODY:
        raise InvalidArgumentError(
            f"a batch has at most {MAX_BODY} bytes, and this has {size}", not_sent=True
        )
    return b"".join((len(head).to_bytes(_PREFIX, "big"), head, *values))


class Values:
    """The bytes after the JSON part, handed out by reference; each byte belongs to one value."""

    __slots__ = ("_data", "_left", "_start", "_taken")

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = start
        self._left = len(data) - start
        self._taken: list[tuple[int, int]] = []

    def take(self, reference: object) -> bytes:
        """The value that `{"offset": o, "length": l}` names; `internal` for anything else."""
        if not is_table(reference) or reference.keys() != {"offset", "length"}:
            raise malformed("a value is no reference")
        offset: object = reference["offset"]
        length: object = reference["length"]
        if type(offset) is not int or type(length) is not int or offset < 0 or length < 0:
            raise malformed("a reference is not made of two natural numbers")
        begin = self._start + offset
        if begin + length > len(self._data):
            raise malformed("a value lies beyond the end")
        # At once: a short reply could name the same bytes any number of times.
        self._left -= length
        if self._left < 0:
            raise malformed("values overlap")
        self._taken.append((offset, length))
        return self._data[begin : begin + length]

    def check_all_taken(self) -> None:
        """Raise `internal` unless the references cover every byte once."""
        end = 0
        for offset, length in sorted(self._taken):
            if offset != end:
                raise malformed("values overlap, or bytes belong to none")
            end += length
        if self._start + end != len(self._data):
            raise malformed("bytes after the last value")


def decoded(body: bytes) -> tuple[list[Any], Values]:
    """The outcomes as JSON has them, and what their references point into.

    Raises `internal` for what is no frame.
    """
    if len(body) < _PREFIX:
        raise malformed("shorter than its prefix")
    start = _PREFIX + int.from_bytes(body[:_PREFIX], "big")
    if start > len(body):
        raise malformed("its JSON part is cut off")
    try:
        head: object = orjson.loads(memoryview(body)[_PREFIX:start])
    except orjson.JSONDecodeError:
        # Its text quotes the document.
        raise malformed("its JSON part is not JSON") from None
    outcomes: object = head.get("outcomes") if is_table(head) else None
    if not is_list(outcomes):
        raise malformed("there is no list of outcomes")
    return outcomes, Values(body, start)


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is an object of JSON's."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether this is a list of JSON's."""
    return isinstance(value, list)


def malformed(why: str) -> InternalError:
    """The error for a reply that is not what the protocol says. What was asked may have happened,
    which `internal` leaves open: the executor makes `ambiguous` of it for a write."""
    return InternalError(f"the gateway's reply is malformed: {why}")


__all__ = [
    "CONTENT_TYPE",
    "MAX_BODY",
    "MAX_OPERATIONS",
    "Values",
    "decoded",
    "encoded",
    "is_list",
    "is_table",
    "malformed",
]
