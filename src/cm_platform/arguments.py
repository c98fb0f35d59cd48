"""Numbers and callbacks that callers hand over: checked by one rule, before any I/O."""

from __future__ import annotations

from typing import Final

from .errors import InvalidArgumentError

# As the configuration's own `timeout`. "No deadline" is no choice: a call would hang unseen.
_DAY: Final = 86_400


def whole(value: object, what: str, least: int, most: int) -> int:
    """An integer from `least` to `most`; `invalid_argument` for anything else.

    what: the argument's name, with its unit.
    """
    # True is 1 to Python, and never what somebody meant.
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgumentError(f"{what} must be an integer from {least} to {most}")
    return value


def seconds(value: object, what: str) -> float:
    """A time of more than 0 and at most 86,400 seconds; `invalid_argument` for anything else."""
    # NaN compares as false with everything.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _DAY:
        raise InvalidArgumentError(
            f"{what} must be a number of seconds, more than 0 and at most {_DAY}"
        )
    return float(value)


def callback(value: object, what: str) -> None:
    """A callable or None; `invalid_argument` for anything else."""
    if value is not None and not callable(value):
        raise InvalidArgumentError(f"{what} must be callable or None, not {type(value).__name__}")


__all__ = ["callback", "seconds", "whole"]
