"""Sealed text comes back as it was, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_platform.errors import ConfigInvalidError, InvalidArgumentError
from cm_platform.signing import Signer

OLD, NEW = b"o" * 32, b"n" * 32
SIGNER = Signer({"k1": OLD}, "k1")
CONTEXT = ["storage", "s3", "acme/"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def refused(signer: Signer, sealed: object, context: list[str]) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        signer.open(sealed, context)  # type: ignore[arg-type]
    return caught.value.message


@given(TEXT, st.lists(TEXT, max_size=4))
def test_what_was_sealed_opens(payload: str, context: list[str]) -> None:
    assert SIGNER.open(SIGNER.seal(payload, context), context) == payload


def test_sealed_text_needs_no_quoting_in_a_url() -> None:
    sealed = SIGNER.seal("\xff?&=/" * 20, CONTEXT)
    assert set(sealed) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


@given(TEXT, st.data())
def test_any_altered_character_is_refused(payload: str, data: st.DataObject) -> None:
    sealed = SIGNER.seal(payload, CONTEXT)
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.characters().filter(lambda c: c != sealed[at]))
    refused(SIGNER, sealed[:at] + other + sealed[at + 1 :], CONTEXT)


@given(TEXT, st.data())
def test_anything_cut_or_added_is_refused(payload: str, data: st.DataObject) -> None:
    sealed = SIGNER.seal(payload, CONTEXT)
    at = data.draw(st.integers(0, len(sealed) - 1))
    refused(SIGNER, sealed[:at] + sealed[at + 1 :], CONTEXT)
    refused(SIGNER, sealed + data.draw(st.characters()), CONTEXT)


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4))
def test_another_context_is_refused(one: list[str], other: list[str]) -> None:
    if one != other:
        refused(SIGNER, SIGNER.seal("p", one), other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a", "bc"], ["ab", "c"]),
        (["ab"], ["a", "b"]),
        (["a"], ["a", ""]),
        ([], [""]),
        (["a", "b"], ["b", "a"]),
    ],
)
def test_fields_do_not_run_into_each_other(one: list[str], other: list[str]) -> None:
    refused(SIGNER, SIGNER.seal("p", one), other)


def test_payload_and_context_do_not_run_into_each_other() -> None:
    forged = SIGNER.seal("pa", ["b"]).split(".")
    honest = SIGNER.seal("p", ["ab"]).split(".")
    refused(SIGNER, ".".join([honest[0], honest[1], forged[2]]), ["ab"])


def test_what_an_older_key_signed_opens_until_that_key_is_gone() -> None:
    sealed = SIGNER.seal("p", CONTEXT)
    rotated = Signer({"k1": OLD, "k2": NEW}, "k2")
    assert rotated.open(sealed, CONTEXT) == "p"
    assert rotated.seal("p", CONTEXT).startswith("k2.")
    refused(Signer({"k2": NEW}, "k2"), sealed, CONTEXT)


def test_a_key_id_that_changed_its_secret_is_refused() -> None:
    refused(Signer({"k1": NEW}, "k1"), SIGNER.seal("p", CONTEXT), CONTEXT)


def test_the_key_id_is_signed_too() -> None:
    twins = Signer({"k1": OLD, "k2": OLD}, "k1")
    sealed = twins.seal("p", CONTEXT)
    refused(twins, "k2" + sealed.removeprefix("k1"), CONTEXT)


@pytest.mark.parametrize(
    "sealed",
    ["", ".", "..", "k1..", "k1.cA.", "k9.cA.cA", "k1.!.!", "k1.cA==.cA", "é.é.é", "k1.\ud800.x"],
)
def test_every_refusal_has_the_same_message(sealed: str) -> None:
    wrong_tenant = refused(SIGNER, SIGNER.seal("p", CONTEXT), ["storage", "s3", "other/"])
    assert refused(SIGNER, sealed, CONTEXT) == wrong_tenant


@pytest.mark.parametrize("sealed", [None, 7, b"k1.cA.cA", ["k1"]])
def test_what_is_not_text_is_refused_alike(sealed: object) -> None:
    assert refused(SIGNER, sealed, CONTEXT) == refused(SIGNER, "x", CONTEXT)


def test_the_other_base64_alphabet_is_refused() -> None:
    sealed = SIGNER.seal("\xff\xfe?>" * 9, CONTEXT)
    swapped = sealed.replace("-", "+").replace("_", "/")
    assert swapped != sealed
    refused(SIGNER, swapped, CONTEXT)


def test_a_signer_without_its_key_is_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigInvalidError, match="no signing key has the id 'k2'"):
        Signer({"k1": OLD}, "k2")


def test_repr_shows_no_key() -> None:
    assert repr(SIGNER) == "Signer(current='k1')"
