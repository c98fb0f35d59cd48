"""The form of an entry: what goes in comes out, and what is none is `integrity`, nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_platform.cache.entry import HEADER, MARK, STAMP, TOKEN_SIZE, Encoding, Entry, decode, encode
from cm_platform.errors import IntegrityError

NUMBERS = st.integers(0, 2**64 - 1)
TAGS = st.lists(
    st.tuples(st.text(min_size=1, max_size=20), NUMBERS), max_size=64, unique_by=lambda tag: tag[0]
).map(tuple)
ENTRIES = st.builds(
    Entry,
    encoding=st.sampled_from(Encoding).map(int),
    stamp=NUMBERS,
    fresh_until=NUMBERS,
    expires=NUMBERS,
    payload=st.binary(max_size=50),
    tags=TAGS,
    token=st.just(b"") | st.binary(min_size=TOKEN_SIZE, max_size=TOKEN_SIZE),
    scope=NUMBERS,
)
LONGEST = ((("é" * 63 + "ab"), 2**64 - 1),) * 64


@given(ENTRIES)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert decode(encode(entry)) == entry


def test_64_tags_of_128_bytes_fit() -> None:
    entry = Entry(Encoding.JSON, 1, 2, 3, b"payload", LONGEST, b"12345678")
    assert decode(encode(entry)) == entry


@given(ENTRIES, st.data())
def test_a_cut_entry_is_one_that_is_shorter_or_none(entry: Entry, data: st.DataObject) -> None:
    whole = encode(entry)
    cut = data.draw(st.integers(0, len(whole) - 1)) if whole else 0
    head = len(whole) - len(entry.payload)
    if cut < head:
        with pytest.raises(IntegrityError):
            decode(whole[:cut])
    else:
        # The length of a value stands nowhere.
        assert decode(whole[:cut]) == entry._replace(payload=entry.payload[: cut - head])


@given(ENTRIES, st.data())
def test_a_garbled_entry_is_another_one_or_none(entry: Entry, data: st.DataObject) -> None:
    garbled = bytearray(encode(entry))
    for _ in range(data.draw(st.integers(1, 4))):
        garbled[data.draw(st.integers(0, len(garbled) - 1))] = data.draw(st.integers(0, 255))
    none_or_another(bytes(garbled))


@given(st.binary(max_size=100) | st.binary(max_size=100).map(lambda rest: bytes((MARK,)) + rest))
def test_any_bytes_are_an_entry_or_none(data: bytes) -> None:
    none_or_another(data)


def none_or_another(data: bytes) -> None:
    try:
        entry = decode(data)
    except IntegrityError as error:
        assert error.__cause__ is None
        assert "raw" in str(error)
    else:
        assert encode(entry).endswith(entry.payload)
        assert entry.encoding in list(Encoding)


@given(st.lists(NUMBERS, min_size=2, max_size=2))
def test_stamps_compare_as_bytes(stamps: list[int]) -> None:
    first, second = (encode(Entry(Encoding.COUNTER, stamp, 0, 0, b"1"))[STAMP] for stamp in stamps)
    assert (first < second) == (stamps[0] < stamps[1])


@pytest.mark.parametrize(
    ("more", "is_plain"),
    [
        ({}, True),
        ({"fresh_until": 9, "expires": 9}, True),
        ({"fresh_until": 8, "expires": 9}, False),
        ({"tags": (("tag", 1),)}, False),
        ({"token": b"12345678"}, False),
    ],
)
def test_only_a_plain_number_is_a_counter_to_the_stores_scripts(
    more: dict[str, Any], is_plain: bool
) -> None:
    """They know the header alone: its second byte must not be a counter's where more follows."""
    data = encode(Entry(Encoding.COUNTER, 7, 0, 0, b"41")._replace(**more))
    assert (data[1] == Encoding.COUNTER) == is_plain
    if is_plain:
        assert data[HEADER.size :] == b"41"


@pytest.mark.parametrize(
    ("fresh_until", "expires", "now", "is_stale"),
    [
        (0, 0, 1e12, False),
        (1000, 1000, 5.0, False),
        (1000, 2000, 0.999, False),
        (1000, 2000, 1.0, True),
        (1000, 2000, 9.0, True),
    ],
)
def test_an_entry_is_stale_between_its_ttl_and_its_end(
    fresh_until: int, expires: int, now: float, is_stale: bool
) -> None:
    assert Entry(Encoding.STR, 0, fresh_until, expires, b"").is_stale(now) is is_stale


def test_an_error_says_nothing_of_what_is_kept() -> None:
    with pytest.raises(IntegrityError) as caught:
        decode(b"the-secret")
    assert "the-secret" not in str(caught.value)
