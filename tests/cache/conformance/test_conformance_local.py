"""`cache.local` passes the conformance suite: in memory, as a file, and with less than it can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.testing import CacheConformance
from cm_platform.testing.cache import (
    ConditionsConformance,
    FlyingConformance,
    LoadingConformance,
    StaleConformance,
)


class TestMemory(CacheConformance):
    disposable = True
    shared = False

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls) -> Mapping[str, Any]:
        return {"driver": "local"}


@pytest.mark.suite
class TestFile(CacheConformance):
    examples = 20

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        return {"driver": "local", "path": str(tmp_path_factory.mktemp("cache") / "cache.db")}


class TestMemoryThatLacksEverything(
    ConditionsConformance, LoadingConformance, FlyingConformance, StaleConformance
):
    disposable = True
    shared = False

    @classmethod
    def settle(cls) -> None:
        """It is not as late as it says."""

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls) -> Mapping[str, Any]:
        return {"driver": "local", "lacks": [str(capability) for capability in CacheCapability]}
