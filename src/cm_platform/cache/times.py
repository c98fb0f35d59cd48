"""Times that callers hand over, checked before any I/O."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

from cm_platform.errors import InvalidArgumentError

# Ten years: beyond, somebody took milliseconds for seconds.
_LONGEST: Final = 10 * 366 * 86_400
SHORTEST: Final = 0.001
"""Seconds: a store counts milliseconds, and 0 of them is no time."""


class _Marker(Enum):
    DEFAULT = "default"

    def __repr__(self) -> str:
        return "DEFAULT"


Default = Literal[_Marker.DEFAULT]
DEFAULT: Final = _Marker.DEFAULT
"""The namespace's own ttl."""


def check_ttl(value: object, what: str) -> float | None:
    """More than 0 seconds and at most ten years, or None for ever."""
    if value is None:
        return None
    # True is 1 to Python; NaN compares as false with everything.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST:
        raise InvalidArgumentError(
            f"{what} must be a number of seconds, more than 0 and at most {_LONGEST} (ten years), "
            "or None for ever; to forget a value, delete it"
        )
    return max(float(value), SHORTEST)


def check_span(value: object, what: str) -> float:
    """0 seconds to ten years."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST:
        raise InvalidArgumentError(f"{what} must be a number of seconds from 0 to {_LONGEST}")
    return float(value)


def check_fraction(value: object, what: str) -> float:
    """From 0 up to, and not including, 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise InvalidArgumentError(f"{what} must be a fraction from 0 to below 1")
    return float(value)


__all__ = ["DEFAULT", "SHORTEST", "Default", "check_fraction", "check_span", "check_ttl"]
