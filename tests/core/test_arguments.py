"""What callers hand over: numbers that are none, and times without an end."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform import arguments
from cm_platform.errors import InvalidArgumentError


@pytest.mark.parametrize("value", [1, 5, 10])
def test_an_integer_within_its_bounds_is_kept(value: int) -> None:
    assert arguments.whole(value, "limit", 1, 10) == value


@pytest.mark.parametrize("value", [0, 11, -1, 10**400, True, 1.0, float("nan"), "5", None, []])
def test_another_integer_is_refused_with_the_bounds(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^limit must be an integer from 1 to 10$"):
        arguments.whole(value, "limit", 1, 10)


@pytest.mark.parametrize("value", [1e-3, 1, 2.5, 86_400])
def test_a_time_is_a_float_of_seconds(value: float) -> None:
    found = arguments.seconds(value, "a timeout")
    assert (found, type(found)) == (value, float)


@pytest.mark.parametrize(
    "value", [0, -1, 86_401, 10**400, float("inf"), float("nan"), True, "1", None]
)
def test_another_time_is_refused_with_the_bounds(value: Any) -> None:
    rule = "^a timeout must be a number of seconds, more than 0 and at most 86400$"
    with pytest.raises(InvalidArgumentError, match=rule):
        arguments.seconds(value, "a timeout")


def test_a_callback_is_callable_or_none() -> None:
    arguments.callback(None, "progress")
    arguments.callback(print, "progress")
    with pytest.raises(InvalidArgumentError, match=r"^progress must be callable or None, not int$"):
        arguments.callback(5, "progress")
