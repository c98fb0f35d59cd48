"""A Valkey for the tests of this folder, and a partition of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from cm_platform.testing.servers.valkey import ValkeyServer
from cm_platform.testing.servers.valkey_proxy import ValkeyProxy

from .redis_faces import FACES, Face

_numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def proxy(server: ValkeyServer) -> Iterator[ValkeyProxy]:
    with ValkeyProxy(server.port) as proxy:
        yield proxy


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    chosen: Face = request.param
    return chosen


@pytest.fixture
def partition() -> str:
    return f"tenant-{next(_numbers)}/"
