"""What a cache does with a table, written once for memory and file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cm_platform.cache.backend import Condition, Counted, Stored, StoredMany, Values
from cm_platform.errors import NotFoundError, PlatformError

from . import counting
from .table import Table


def get_many(table: Table, keys: Sequence[bytes]) -> Values:
    """The values of the keys, in order; None where there is none."""
    return [None if (kept := table.get(key)) is None else kept.value for key in keys]


def set_one(
    table: Table,
    key: bytes,
    value: bytes,
    ttl: float | None,
    only_if: Condition | None,
    along: Sequence[bytes],
) -> Stored:
    """Keep a value, if its condition holds."""
    stored = only_if is None or (table.get(key) is not None) == (only_if == "present")
    if stored:
        table.put(key, value, _end(table, ttl))
    return Stored(stored, get_many(table, along))


def set_many(
    table: Table,
    values: Mapping[str, bytes],
    keys: Sequence[bytes],
    ttl: float | None,
    along: Sequence[bytes],
) -> StoredMany:
    """Keep values; the failures by name. keys: what the names of the values are in the table."""
    failures: dict[str, PlatformError] = {}
    for (name, value), key in zip(values.items(), keys, strict=True):
        try:
            table.put(key, value, _end(table, ttl))
        except PlatformError as error:
            failures[name] = error
    return StoredMany(failures, get_many(table, along))


def delete_many(table: Table, keys: Sequence[bytes]) -> None:
    """Forget what is there."""
    for key in keys:
        table.remove(key)


def compare_and_set(
    table: Table, key: bytes, expected: bytes | None, value: bytes | None, ttl: float | None
) -> bool:
    """Replace exactly what was expected; whether it was."""
    kept = table.get(key)
    if (None if kept is None else kept.value) != expected:
        return False
    if value is None:
        table.remove(key)
    else:
        table.put(key, value, _end(table, ttl))
    return True


def increment(
    table: Table,
    key: bytes,
    amount: int,
    initial: bytes | None,
    ttl: float | None,
    along: Sequence[bytes],
) -> Counted:
    """Add to a counter."""
    kept = table.get(key)
    count = counting.added(None if kept is None else kept.value, amount, initial)
    table.put(key, count.data, _end(table, ttl) if kept is None or count.anew else kept.expires)
    return Counted(count.value, count.stamp, get_many(table, along))


def ttl_of(table: Table, key: bytes) -> float | None:
    """Seconds that are left, None for ever; `not_found` for an absent key."""
    kept = table.get(key)
    if kept is None:
        raise NotFoundError("the cache has nothing under this key")
    return None if kept.expires is None else kept.expires - table.now


def expire(table: Table, key: bytes, ttl: float | None) -> bool:
    """Give a value a new time; whether there was one."""
    if table.get(key) is None:
        return False
    table.expire(key, _end(table, ttl))
    return True


def _end(table: Table, ttl: float | None) -> float | None:
    return None if ttl is None else table.now + ttl


__all__ = [
    "compare_and_set",
    "delete_many",
    "expire",
    "get_many",
    "increment",
    "set_many",
    "set_one",
    "ttl_of",
]
