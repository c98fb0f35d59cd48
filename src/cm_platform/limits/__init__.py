"""Limits and prices of the stores: data with a date and a source, never constants in code."""

from __future__ import annotations

import tomllib
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def limits(kind: str, driver: str) -> dict[str, Any]:
    """The table of a backend, without its source and date. KeyError when there is none."""
    table = dict(_tables()[kind][driver])
    del table["source"], table["as_of"]
    return table


def provenance() -> list[tuple[str, str, date]]:
    """For each backend: its name, where its limits come from, and when they were read."""
    return [
        (f"{kind}.{driver}", table["source"], table["as_of"])
        for kind, drivers in _tables().items()
        for driver, table in drivers.items()
    ]


@cache
def _tables() -> dict[str, dict[str, dict[str, Any]]]:
    text = files("cm_platform.limits").joinpath("limits.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


__all__ = ["limits", "provenance"]
