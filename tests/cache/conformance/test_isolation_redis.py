"""`cache.redis` keeps tenants, and namespaces, apart on Valkey."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cm_platform.testing import CacheIsolation
from cm_platform.testing.servers.valkey import ValkeyServer

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("isolation-redis")]


@pytest.fixture(scope="module")
def cache_backend() -> Iterator[Mapping[str, Any]]:
    with ValkeyServer(password="the-password") as server:
        yield {"driver": "redis", "url": server.url}


class TestRedis(CacheIsolation):
    # In memory all of them are attacked; what differs here is how names reach the server.
    layouts = ("{tenant}/{key}",)
    examples = 10
