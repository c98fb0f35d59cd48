"""What a backend can keep, told before it is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from cm_platform.errors import IntegrityError, InvalidArgumentError, PlatformError
from cm_platform.executor import Endpoint

T = TypeVar("T")


def batched(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """The items, in order, at most so many at a time."""
    for start in range(0, len(items), most):
        yield items[start : start + most]


def check_accounted(failures: Mapping[str, PlatformError], asked: Collection[str]) -> None:
    """`integrity` for failures of keys that were not asked for: those may be anybody's."""
    if not failures.keys() <= set(asked):
        raise IntegrityError("the store answered with keys that it was not asked for")


def check_size(value: bytes, endpoint: Endpoint) -> None:
    """`invalid_argument` for what the backend cannot keep."""
    most: int = endpoint.backend.limits.max_value
    if len(value) > most:
        raise InvalidArgumentError(
            f"a value may have {most} bytes on this backend, {len(value) - most} fewer than this "
            "one needs; keep it in storage, and its key here"
        )


def check_raw_ttl(ttl: float | None, endpoint: Endpoint) -> None:
    """`invalid_argument` for a time that the store cannot keep, and nothing else could."""
    least: float = endpoint.backend.limits.min_ttl
    if ttl is not None and ttl < least:
        raise InvalidArgumentError(
            f"this backend keeps a value for {least:g} seconds at least, and a raw one ends with "
            "it: give a longer ttl, or use a namespace that is not raw"
        )


__all__ = ["batched", "check_accounted", "check_raw_ttl", "check_size"]
