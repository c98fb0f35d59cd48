"""The suites pass on a store that shows its writes later, and has nothing but the least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cm_platform.testing import CacheConformance, CacheIsolation
from cm_platform.testing.cache import CacheFace

from .lagging import BACKEND, STALENESS, STORES


@pytest.fixture(scope="module")
def cache_backend() -> Mapping[str, Any]:
    return {"driver": BACKEND, "store": "lagging"}


class TestLagging(CacheConformance):
    disposable = True
    examples = 20

    @classmethod
    def settle(cls) -> None:
        STORES["lagging"].now += STALENESS

    def pass_time(self, face: CacheFace, seconds: float) -> None:
        super().pass_time(face, seconds)
        STORES["lagging"].now += seconds


class TestLaggingKeepsTenantsApart(CacheIsolation):
    layouts = ("{tenant}/{key}",)
    examples = 10

    @classmethod
    def settle(cls) -> None:
        STORES["lagging"].now += STALENESS
