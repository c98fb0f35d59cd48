"""Names: no two keys, namespaces or versions ever share one, and each fits the store."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_platform.cache.keys import MAX_TAG, MAX_TAGS, Names, check_tag
from cm_platform.errors import InvalidArgumentError

NAMESPACES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=8)
# Of the letters that mean something in a name, so that Hypothesis finds what meets.
KEYS = st.text("~!:glt-a0", min_size=1, max_size=12) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12
)
ROOM = 1000


def name_of(namespace: str, kind: str, key: str) -> str:
    names = Names("acme/", namespace)
    if kind == "value":
        return names.key(key, ROOM)
    if kind == "generation":
        return names.generation
    return (names.tag if kind == "tag" else names.lock) + key


PLACES = st.tuples(NAMESPACES, st.sampled_from(["value", "tag", "lock", "generation"]), KEYS).map(
    lambda place: (*place[:2], "") if place[1] == "generation" else place
)


@given(PLACES, PLACES)
def test_no_two_places_share_a_name(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (name_of(*one) == name_of(*other)) == (one == other)


@given(PLACES, KEYS)
def test_no_key_that_is_shared_with_others_is_a_name_of_ours(
    place: tuple[str, str, str], key: str
) -> None:
    raw = Names("acme/", "shared", raw=True)
    try:
        name = raw.key(key, ROOM)
    except InvalidArgumentError:
        assert key.startswith("~")
    else:
        assert name == key
        assert name != name_of(*place)


@given(st.lists(KEYS, max_size=5))
def test_many_keys_have_the_names_that_each_has(keys: list[str]) -> None:
    for names in (Names("acme/", "default"), Names("acme/", "default", raw=True)):
        try:
            expected = [names.key(key, ROOM) for key in keys]
        except InvalidArgumentError:
            with pytest.raises(InvalidArgumentError):
                names.keys(keys, ROOM)
        else:
            assert names.keys(keys, ROOM) == expected


@given(st.lists(st.text("aé🏖", min_size=1, max_size=60), min_size=1, max_size=5))
def test_every_key_fits_in_bytes_and_not_only_the_longest_in_characters(keys: list[str]) -> None:
    names, room = Names("acme/", "default"), 100
    overhead = len("acme/~default!l:")
    if any(len(key.encode()) + overhead > room for key in keys):
        with pytest.raises(InvalidArgumentError, match="84"):
            names.keys(keys, room)
    else:
        names.keys(keys, room)


def test_a_short_key_of_long_letters_does_not_hide_behind_a_long_one_of_short_letters() -> None:
    with pytest.raises(InvalidArgumentError):
        Names("acme/", "default").keys(["a" * 84, "🏖" * 22], 100)


@pytest.mark.parametrize("key", ["", "a\n", "\x00", "\x7f", "\x9f", "a\ud800", None, 5, b"a", []])
def test_what_is_no_key_is_refused_alone_and_among_others(key: Any) -> None:
    for names in (Names("acme/", "default"), Names("acme/", "default", raw=True)):
        with pytest.raises(InvalidArgumentError):
            names.key(key, ROOM)
        for keys in ([key], ["fine", key], [key, "fine"]):
            with pytest.raises(InvalidArgumentError):
                names.keys(keys, ROOM)


def test_a_layout_that_leaves_no_room_is_told() -> None:
    with pytest.raises(InvalidArgumentError, match="leaves 0"):
        Names("p" * 600, "default").key("a", 512)


@pytest.mark.parametrize("tags", ["tag", 5, None, [[]], ["a", 5], ["a\n"], [""], ["é" * 65]])
def test_what_are_no_tags_is_refused(tags: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        Names("acme/", "default").tags(tags)


def test_tags_are_bounded() -> None:
    names = Names("acme/", "default")
    most = [str(n) for n in range(MAX_TAGS)]
    assert names.tags([*most, "0", "1"]) == tuple(most)
    with pytest.raises(InvalidArgumentError, match="65"):
        names.tags([*most, "one more"])
    assert check_tag("é" * (MAX_TAG // 2)) == "é" * (MAX_TAG // 2)
