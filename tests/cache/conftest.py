"""Both faces over a store that other processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cm_platform.cache.sync import Cache
from cm_platform.testing.faces import FACES

from .doubles import World, world_of


@pytest.fixture(params=FACES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_of(request.param) as made:
        yield made


@pytest.fixture
def cache(world: World) -> Cache:
    """The cache of a tenant, in this process."""
    return world.cache()
