"""`cache.redis` passes the conformance suite on Valkey."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cm_platform.testing import CacheConformance
from cm_platform.testing.servers.valkey import ValkeyServer

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("conformance-redis")]


@pytest.fixture(scope="module")
def cache_backend() -> Iterator[Mapping[str, Any]]:
    with ValkeyServer(password="the-password") as server:
        yield {"driver": "redis", "url": server.url}


class TestRedis(CacheConformance):
    disposable = True
    examples = 20
    # The server has no clock that could be moved.
    real_time = True
    moment = 0.3
