"""A Postgres, and a world in which data moves, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cm_platform.testing.servers import PostgresServer

from .doubles import World


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of a process. Who kills it, takes one of its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database of the test's own."""
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two local stores, a ledger in memory and a driven clock."""
    found = World(tmp_path)
    yield found
    found.close()
