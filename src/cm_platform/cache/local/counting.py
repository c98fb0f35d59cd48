"""Counters: signed numbers of 64 bit as decimal text, by themselves or in an entry."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from cm_platform.cache.entry import HEADER, MARK, STAMP, Encoding
from cm_platform.errors import InvalidArgumentError, PreconditionFailedError

LEAST: Final = -(2**63)
MOST: Final = 2**63 - 1

# As strict as Redis: "+1", "01" and " 1" are no counters.
_NUMBER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")


class Count(NamedTuple):
    """A counter after an addition.

    data: the bytes to keep. stamp: of the entry; 0 without one. anew: it has begun again.
    """

    data: bytes
    value: int
    stamp: int
    anew: bool


def added(current: bytes | None, amount: int, initial: bytes | None) -> Count:
    """The counter with an amount more.

    current: what is kept, None for nothing. initial: see `CacheBackend.increment`.

    `precondition_failed` for what is no counter; `invalid_argument` for a sum beyond 64 bit.
    """
    if initial is None:
        value = _sum(0 if current is None else _number(current), amount)
        return Count(b"%d" % value, value, 0, anew=False)
    if current is None or _is_outdated(current, initial):
        return Count(initial, amount, _stamp(initial), anew=True)
    if not _is_entry(current) or current[1] != Encoding.COUNTER:
        raise _no_counter()
    value = _sum(_number(current[HEADER.size :]), amount)
    return Count(current[: HEADER.size] + b"%d" % value, value, _stamp(current), anew=False)


def check_amount(amount: int) -> None:
    """`invalid_argument` unless it fits 64 bit."""
    if not LEAST <= amount <= MOST:
        raise InvalidArgumentError(
            f"a counter is changed by an integer from {LEAST} to {MOST}", not_sent=True
        )


def _is_entry(data: bytes) -> bool:
    return len(data) >= HEADER.size and data[0] == MARK


def _is_outdated(current: bytes, initial: bytes) -> bool:
    return _is_entry(current) and current[STAMP] < initial[STAMP]


def _stamp(entry: bytes) -> int:
    return int.from_bytes(entry[STAMP], "big")


def _number(text: bytes) -> int:
    if _NUMBER.fullmatch(text) is None or not LEAST <= (value := int(text)) <= MOST:
        raise _no_counter()
    return value


def _sum(value: int, amount: int) -> int:
    total = value + amount
    if not LEAST <= total <= MOST:
        raise InvalidArgumentError(
            f"the counter would leave its range, which is from {LEAST} to {MOST}; it stays as it "
            "is",
            not_sent=True,
        )
    return total


def _no_counter() -> PreconditionFailedError:
    return PreconditionFailedError(
        "what is kept under this key is no counter; delete it first, or count under another key",
        not_sent=True,
    )


__all__ = ["LEAST", "MOST", "Count", "added", "check_amount"]
