"""Limits and prices of the stores: data with a date and a source, never constants in code."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Final

LIMITS_AGE: Final = 180
"""Days after which a limit ought to be read again."""

_OF_THE_TABLE: Final = frozenset({"source", "as_of", "drivers"})


@dataclass(frozen=True, slots=True)
class Limit:
    """One entry: how much of what, for what, and where and when that was read.

    name: with its table, as `cloudflare.kv.min_ttl`. unit: of the value. scope: what has so much.
    """

    name: str
    value: Any
    unit: str
    scope: str
    source: str
    as_of: date

    def is_old(self, today: date) -> bool:
        """Whether it was read more than `LIMITS_AGE` days ago."""
        return (today - self.as_of).days > LIMITS_AGE


def limits(kind: str, driver: str) -> dict[str, Any]:
    """The values of a table: of a backend, or `limits("cloudflare", product)`.

    KeyError when there is none.
    """
    return {limit.name.rpartition(".")[2]: limit.value for limit in entries(f"{kind}.{driver}")}


def entries(table: str) -> list[Limit]:
    """The entries of a table, such as `cloudflare.kv`. KeyError when there is none."""
    return list(_tables()[table])


def provenance() -> list[tuple[str, str, date]]:
    """For each table: its name, where its limits come from, and when the oldest was read."""
    return [
        (name, own[0].source, min(limit.as_of for limit in own)) for name, own in _tables().items()
    ]


def products_of(driver: str) -> list[str]:
    """The tables of products that bind a backend: of `cache.workers_kv`, `cloudflare.kv`."""
    return [
        f"{kind}.{name}"
        for kind, tables in _document().items()
        for name, table in tables.items()
        if driver in table.get("drivers", ())
    ]


@cache
def _tables() -> Mapping[str, tuple[Limit, ...]]:
    return {
        f"{kind}.{name}": tuple(_read(f"{kind}.{name}", table))
        for kind, tables in _document().items()
        for name, table in tables.items()
    }


def _read(name: str, table: Mapping[str, Any]) -> Iterator[Limit]:
    for key, entry in table.items():
        if key not in _OF_THE_TABLE:
            yield Limit(
                name=f"{name}.{key}",
                value=entry["value"],
                unit=entry["unit"],
                scope=entry["scope"],
                source=entry.get("source", table["source"]),
                as_of=entry.get("as_of", table["as_of"]),
            )


@cache
def _document() -> dict[str, dict[str, dict[str, Any]]]:
    text = files("cm_platform.limits").joinpath("limits.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


__all__ = ["LIMITS_AGE", "Limit", "entries", "limits", "products_of", "provenance"]
