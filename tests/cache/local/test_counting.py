"""Counters of `cache.local`: exact to the last bit, in an entry and as plain text."""

from __future__ import annotations

import pytest

from cm_platform.cache.entry import HEADER, Encoding, Entry, decode, encode
from cm_platform.errors import InvalidArgumentError, PreconditionFailedError

from .opened import Opened

MOST = 2**63 - 1
LEAST = -(2**63)


def entry(amount: int, stamp: int, *, expires: int = 0, encoding: int = Encoding.COUNTER) -> bytes:
    return encode(Entry(encoding, stamp, expires, expires, b"%d" % amount))


def test_plain_counters_begin_at_zero_and_keep_their_time(local: Opened) -> None:
    assert local.count("n", 5, ttl=10) == (5, 0, [])
    local.clock.pass_(4)
    assert local.count("n", -7, ttl=100).value == -2
    assert (local.get("n"), local.ttl("n")) == (b"-2", 6)
    local.clock.pass_(6)
    assert local.count("n").value == 1
    assert local.ttl("n") is None


def test_plain_counters_go_on_with_what_another_program_kept(local: Opened) -> None:
    local.set("n", b"41")
    assert local.count("n").value == 42


@pytest.mark.parametrize(
    "value", [b"", b"x", b"1.5", b" 1", b"1 ", b"+1", b"01", b"-0", b"1_0", b"%d" % (MOST + 1)]
)
def test_what_is_no_number_is_no_counter(local: Opened, value: bytes) -> None:
    local.set("n", value)
    with pytest.raises(PreconditionFailedError, match="no counter") as failure:
        local.count("n")
    assert failure.value.not_sent
    assert local.get("n") == value


@pytest.mark.parametrize("in_entry", [False, True])
def test_the_bounds_of_64_bit_are_reached_and_not_passed(local: Opened, in_entry: bool) -> None:
    initial = entry(MOST, 1) if in_entry else None
    assert local.count("n", MOST, initial=initial).value == MOST
    with pytest.raises(InvalidArgumentError, match="stays as it is") as failure:
        local.count("n", 1, initial=entry(1, 1) if in_entry else None)
    assert failure.value.not_sent
    assert local.count("n", 0, initial=entry(0, 1) if in_entry else None).value == MOST
    assert local.count("n", LEAST, initial=entry(LEAST, 1) if in_entry else None).value == -1
    assert local.count("n", -MOST, initial=entry(-MOST, 1) if in_entry else None).value == LEAST
    with pytest.raises(InvalidArgumentError):
        local.count("n", -1, initial=entry(-1, 1) if in_entry else None)


@pytest.mark.parametrize("amount", [MOST + 1, LEAST - 1])
def test_an_amount_beyond_64_bit_is_refused(local: Opened, amount: int) -> None:
    with pytest.raises(InvalidArgumentError, match="integer from"):
        local.count("n", amount)
    assert local.get("n") is None


def test_an_entry_begins_with_the_initial_one(local: Opened) -> None:
    assert local.count("n", 5, initial=entry(5, 3), ttl=10) == (5, 3, [])
    assert (local.get("n"), local.ttl("n")) == (entry(5, 3), 10)


@pytest.mark.parametrize("stamp", [2, 3])
def test_an_entry_with_a_stamp_not_lower_keeps_header_and_time(local: Opened, stamp: int) -> None:
    local.count("n", 9, initial=entry(9, 3, expires=77), ttl=10)
    local.clock.pass_(1)
    assert local.count("n", 1, initial=entry(1, stamp, expires=88), ttl=50) == (10, 3, [])
    kept = local.get("n")
    assert kept is not None
    assert decode(kept) == Entry(Encoding.COUNTER, 3, 77, 77, b"10")
    assert local.ttl("n") == 9


def test_an_entry_with_a_lower_stamp_begins_anew(local: Opened) -> None:
    local.count("n", 9, initial=entry(9, 3), ttl=10)
    assert local.count("n", 2, initial=entry(2, 2**60), ttl=None) == (2, 2**60, [])
    assert (local.get("n"), local.ttl("n")) == (entry(2, 2**60), None)


def test_an_outdated_value_of_another_kind_is_replaced(local: Opened) -> None:
    local.set("n", entry(1, 3, encoding=Encoding.JSON))
    assert local.count("n", 2, initial=entry(2, 4)).value == 2


@pytest.mark.parametrize(
    "value",
    [
        b"5",
        b"\xc5",
        b"{}" * 20,
        entry(1, 3, encoding=Encoding.JSON),
        entry(1, 4, encoding=Encoding.STR),
        entry(1, 3)[: HEADER.size],
        entry(1, 3) + b"x",
    ],
    ids=["plain", "cut", "foreign", "json", "newer", "no-digits", "letters"],
)
def test_a_value_that_is_not_outdated_and_no_counter_is_refused(
    local: Opened, value: bytes
) -> None:
    local.set("n", value)
    with pytest.raises(PreconditionFailedError, match="no counter"):
        local.count("n", 1, initial=entry(1, 3))
    assert local.get("n") == value


def test_an_entry_is_no_plain_counter(local: Opened) -> None:
    local.set("n", entry(1, 3))
    with pytest.raises(PreconditionFailedError):
        local.count("n")
