"""`cache.local` keeps tenants, and namespaces, apart: in memory and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cm_platform.testing import CacheIsolation


class TestMemory(CacheIsolation):
    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls) -> Mapping[str, Any]:
        return {"driver": "local"}


@pytest.mark.suite
class TestFile(CacheIsolation):
    # In memory all of them are attacked; what differs here is how names are kept.
    layouts = ("{tenant}/{key}",)
    examples = 10

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        return {"driver": "local", "path": str(tmp_path_factory.mktemp("cache") / "cache.db")}
