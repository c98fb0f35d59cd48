"""Worlds for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .world import World

WHOLE = "test_whole_"
"""How files begin that hold nothing but whole suites."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave them out where they are not to run: they are ten thousand tests and more, and to
    collect them takes longer than to run the others."""
    if collection_path.name.startswith(WHOLE) and "not prove" in config.option.markexpr:
        return True
    return None


Make = Callable[..., World]


@pytest.fixture
def make() -> Iterator[Make]:
    """Worlds of any kind, closed in the end."""
    made: list[World] = []

    def world(**options: Any) -> World:
        made.append(World(**options))
        return made[-1]

    yield world
    for one in made:
        one.close()


@pytest.fixture
def world(make: Make) -> World:
    """Two caches that can do everything."""
    return make()
