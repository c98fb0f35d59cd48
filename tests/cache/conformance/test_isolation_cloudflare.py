"""Durable Objects and KV keep tenants, and namespaces, apart in real workerd.

`make test` has samples: namespaces, mixed up entries, and names that are alike.
`make prove` attacks them with everything, as the stores that are fast are attacked every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from cm_platform.runtime import Clock
from cm_platform.testing import CacheIsolation
from cm_platform.testing.cache import LeapingClock
from cm_platform.testing.cloudflare import LocalCloudflare
from cm_platform.testing.isolation.cache import (
    CrossingIsolation,
    IsolationHarness,
    MixingIsolation,
    ReachingIsolation,
)

from .cloudflare_stores import STALENESS, OnCloudflare, gateway_table

pytestmark = pytest.mark.suite


class DurableObjects(OnCloudflare, IsolationHarness):
    # In memory all of them are attacked; what differs here is how names reach the store.
    layouts = ("{tenant}/{key}",)
    examples = 5

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls, cloudflare: LocalCloudflare) -> Mapping[str, Any]:
        return {"driver": "durable_objects", **gateway_table(cloudflare)}


class Kv(OnCloudflare, IsolationHarness):
    layouts = ("{tenant}/{key}",)
    examples = 5
    running: ClassVar[LocalCloudflare]

    @classmethod
    def backend_clock(cls) -> Clock:
        return LeapingClock(cls.running.clock.advance)

    @classmethod
    def settle(cls) -> None:
        cls.running.clock.advance(STALENESS)

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls, cloudflare: LocalCloudflare) -> Mapping[str, Any]:
        cls.running = cloudflare
        return {"driver": "workers_kv", "gateway": gateway_table(cloudflare)}


class SampleIsolation(CrossingIsolation, MixingIsolation):
    """Of `ReachingIsolation`, what is refused, and keys of which each is close to another."""

    test_what_is_no_key_is_refused = ReachingIsolation.test_what_is_no_key_is_refused
    test_keys_that_are_alike_are_two = ReachingIsolation.test_keys_that_are_alike_are_two


@pytest.mark.xdist_group("isolation-durable-objects")
class TestDurableObjects(DurableObjects, SampleIsolation):
    pass


@pytest.mark.xdist_group("isolation-kv")
class TestKv(Kv, SampleIsolation):
    pass


@pytest.mark.prove
@pytest.mark.xdist_group("isolation-durable-objects")
class TestDurableObjectsWhole(DurableObjects, CacheIsolation):
    pass


@pytest.mark.prove
@pytest.mark.xdist_group("isolation-kv")
class TestKvWhole(Kv, CacheIsolation):
    pass
