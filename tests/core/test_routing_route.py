"""Routes: what they are written like, and why one cannot be taken."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_platform.errors import InvalidArgumentError
from cm_platform.routing import KINDS, Route, Stage, known_routes

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)


@given(NAMES, st.none() | st.sampled_from(Stage))
def test_a_route_survives_being_written_and_read(name: str, stage: Stage | None) -> None:
    text = name if stage is None else f"{name}:{stage}"
    route = Route.parse(text)
    assert str(route) == text
    assert Route.parse(str(route)) == route


@given(st.text(max_size=30))
def test_any_other_text_is_invalid_argument(text: str) -> None:
    with suppress(InvalidArgumentError):
        assert str(Route.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "S3", "s3\n", " s3", "to-r2:", ":live", "to-r2:live:live", "to-r2:LIVE", "a" * 64]
)
def test_what_is_no_route_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        Route.parse(text)


def test_a_misspelt_stage_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Route.parse("to-r2:shadwo")
    assert "did you mean 'shadow'" in str(caught.value)
    assert "off, dualwrite, shadow, live, rampdown, complete" in str(caught.value)


def test_a_message_does_not_repeat_what_looks_like_no_name() -> None:
    secret = "AKIA/Some+Secret=="
    with pytest.raises(InvalidArgumentError) as caught:
        Route.parse(f"to-r2:{secret}")
    assert secret not in str(caught.value)


def test_a_route_is_a_backend_or_a_migration_never_both_or_half() -> None:
    for wrong in ({}, {"backend": "a", "migration": "m", "stage": Stage.OFF}, {"migration": "m"}):
        with pytest.raises(InvalidArgumentError):
            Route(**wrong)  # type: ignore[arg-type]


def test_known_routes_says_why_a_route_cannot_be_taken() -> None:
    refusal = known_routes({"s3", "r2"}, {"to-r2"})
    assert refusal(Route.parse("s3")) is None
    assert refusal(Route.parse("to-r2:live")) is None
    assert "did you mean 's3'" in (refusal(Route.parse("s4")) or "")
    assert "did you mean 'to-r2'" in (refusal(Route.parse("to-r3:live")) or "")
    assert "name its stage" in (refusal(Route.parse("to-r2")) or "")
    assert "a backend has no stage" in (refusal(Route.parse("s3:live")) or "")


def test_storage_holds_data_and_has_a_flag() -> None:
    assert KINDS["storage"].holds_data
    assert KINDS["storage"].flag == "cm-platform.storage"
