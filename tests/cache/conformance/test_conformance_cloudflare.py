"""`cache.durable_objects` and `cache.workers_kv` pass the conformance suite in real workerd.

Where there are many cases of one kind, a few are in `make test`; see `conftest.py`. KV by REST
differs from KV by the gateway below the backend's methods alone: `make test` has what goes there
in each of its forms. `make prove` has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from cm_platform.runtime import Clock
from cm_platform.testing import CacheConformance
from cm_platform.testing.cache import (
    BatchesConformance,
    CacheFace,
    CacheHarness,
    ClearingConformance,
    ContractConformance,
    ExpiryConformance,
    KeysConformance,
    LeapingClock,
    ValuesConformance,
)
from cm_platform.testing.cloudflare import LocalCloudflare

from .cloudflare_stores import STALENESS, OnCloudflare, gateway_table, rest_table

pytestmark = pytest.mark.suite


@pytest.mark.xdist_group("conformance-durable-objects")
class TestDurableObjects(OnCloudflare, CacheConformance):
    disposable = True
    examples = 5
    # Durable Objects go by the machine's clock.
    real_time = True
    moment = 0.5

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls, cloudflare: LocalCloudflare) -> Mapping[str, Any]:
        return {"driver": "durable_objects", **gateway_table(cloudflare)}


class KvConformance(OnCloudflare, CacheHarness):
    """KV's clock is moved; nothing waits for a second between two writes of a key."""

    disposable = True
    examples = 5
    running: ClassVar[LocalCloudflare]

    @classmethod
    def backend_clock(cls) -> Clock:
        return LeapingClock(cls.running.clock.advance)

    @classmethod
    def settle(cls) -> None:
        cls.running.clock.advance(STALENESS)

    def pass_time(self, face: CacheFace, seconds: float) -> None:
        super().pass_time(face, seconds)
        self.running.clock.advance(seconds)


@pytest.mark.xdist_group("conformance-kv")
class TestKvByGateway(KvConformance, CacheConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls, cloudflare: LocalCloudflare) -> Mapping[str, Any]:
        cls.running = cloudflare
        return {
            "driver": "workers_kv",
            "transport": "gateway",
            "gateway": gateway_table(cloudflare),
        }


class ByRest(KvConformance):
    leaping: ClassVar[LeapingClock]

    @classmethod
    def backend_clock(cls) -> Clock:
        cls.leaping = LeapingClock(cls.running.clock.advance, calendar=True)
        return cls.leaping

    @pytest.fixture(autouse=True)
    def _rested(self, face: CacheFace) -> None:
        # Each test may use up what the token allows in five minutes.
        self.leaping.sleep(301)

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(
        cls, cloudflare: LocalCloudflare, tmp_path_factory: pytest.TempPathFactory
    ) -> Mapping[str, Any]:
        cls.running = cloudflare
        counts = str(tmp_path_factory.mktemp("limiter"))
        return {
            "driver": "workers_kv",
            "transport": "rest",
            "rest": {**rest_table(cloudflare), "limiter_directory": counts},
        }


@pytest.mark.xdist_group("conformance-kv-by-rest")
class TestKvByRest(
    ByRest,
    ValuesConformance,
    ExpiryConformance,
    ClearingConformance,
    BatchesConformance,
    KeysConformance,
    ContractConformance,
):
    pass


@pytest.mark.prove
@pytest.mark.xdist_group("conformance-kv-by-rest")
class TestKvByRestWhole(ByRest, CacheConformance):
    pass
