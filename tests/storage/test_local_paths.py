"""Keys as paths: injective, readable, never outside of the root."""

from __future__ import annotations

import os.path
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cm_platform.errors import InvalidArgumentError
from cm_platform.storage.local.paths import MAX_NAME, decode, directory_of, locate

TOP = "/store/objects"

nasty = st.text(alphabet=["a", "A", ".", "/", "%", "~", "=", "+", "\0", "\\", "é", "e", "\u0301"])
keys = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300),
    nasty.filter(bool),
    st.builds("{}{}".format, nasty, st.sampled_from(["é" * 200, "A" * 400, "x" * 700, "😀" * 90])),
)


@given(keys)
@example("..")
@example("../../etc/passwd")
@example("a/../../..")
@example("/etc/passwd")
@example("./.")
@example("a//b/")
def test_no_key_leads_outside_of_the_root(key: str) -> None:
    location = locate(TOP, key)
    for path in (location.sidecar, location.data("0" * 24), location.draft("0" * 24)):
        assert os.path.normpath(path) == path
        assert path.startswith(f"{TOP}/")
        names = path.removeprefix(f"{TOP}/").split("/")
        assert all(name not in ("", ".", "..") and "\0" not in name for name in names)
        assert all(len(name.encode()) <= 255 for name in names)


@given(keys)
def test_names_survive_file_systems_that_fold_case_or_normalise(key: str) -> None:
    path = locate(TOP, key).sidecar
    assert path.isascii()
    assert path == path.lower() == unicodedata.normalize("NFD", path)


@given(keys, keys)
@example("a/b", "a//b")
@example("A", "%41")
@example("a", "a~object.json")
@example("é", "e\u0301")
@example("a" * 201, "a" * 200 + "+/a")
def test_two_keys_never_share_a_path(one: str, other: str) -> None:
    assert (locate(TOP, one) == locate(TOP, other)) == (one == other)


@given(keys)
def test_every_name_is_decoded_to_what_it_stands_for(key: str) -> None:
    location = locate(TOP, key)
    names = location.directory.removeprefix(TOP).split("/")[1:]
    pieces: list[str] = []
    for name in names:
        piece = decode(name.removesuffix("+"))
        assert piece is not None
        pieces.append(piece if name.endswith("+") else f"{piece}/")
    last = decode(location.stem)
    assert last is not None
    assert "".join(pieces) + last == key


def test_a_person_finds_a_plain_key() -> None:
    location = locate(TOP, "photos/2024/cat-1_a.jpg")
    assert location.sidecar == f"{TOP}/photos/2024/cat-1_a.jpg~object.json"


def test_a_long_segment_goes_on_in_a_subdirectory() -> None:
    assert locate(TOP, "x" * MAX_NAME).directory == TOP
    longer = locate(TOP, "x" * MAX_NAME + "yz")
    assert (longer.directory, longer.stem) == (f"{TOP}/{'x' * MAX_NAME}+", "yz")


@pytest.mark.parametrize("name", ["UPPER", ".hidden", "%ZZ", "%61", "%ff", "a%2", "é", "a=", "%"])
def test_a_name_that_we_would_not_have_written_is_not_decoded(name: str) -> None:
    assert decode(name) is None


def test_half_of_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="surrogate"):
        locate(TOP, "a\ud800")
    with pytest.raises(InvalidArgumentError, match="surrogate"):
        directory_of(TOP, "\ud800/")
