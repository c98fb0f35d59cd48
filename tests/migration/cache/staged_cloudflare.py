"""A migration from Valkey to the local Cloudflare, held at one stage: to Durable Objects with all
that Valkey can do, to Workers KV with what is left of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from cm_platform.routing import Stage
from cm_platform.runtime import Clock
from cm_platform.testing.cache import CacheFace, CacheHarness, LeapingClock
from cm_platform.testing.cloudflare import LocalCloudflare
from cm_platform.testing.servers.valkey import ValkeyServer

from .staged import staged

# As late as production's KV may be, but not for so long that a value's minimal life passes.
STALENESS = 1.0


@pytest.fixture(scope="module")
def cloudflare() -> Iterator[LocalCloudflare]:
    with LocalCloudflare(kv_staleness=STALENESS) as cloudflare:
        yield cloudflare


@pytest.fixture(scope="module")
def valkey() -> Iterator[Mapping[str, Any]]:
    with ValkeyServer(password="the-password") as server:
        yield {"driver": "redis", "url": server.url}


def gateway_table(cloudflare: LocalCloudflare) -> dict[str, Any]:
    """The settings of the gateway."""
    return {
        "url": cloudflare.gateway_url,
        "key_id": cloudflare.gateway_key_id,
        "secret": cloudflare.gateway_secret,
    }


class ToObjects(CacheHarness):
    """Both go by the machine's clock."""

    way: ClassVar[Sequence[Stage]]
    disposable = True
    examples = 3
    real_time = True
    moment = 0.5

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(
        cls,
        cloudflare: LocalCloudflare,
        valkey: Mapping[str, Any],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Mapping[str, Any]:
        objects = {"driver": "durable_objects", **gateway_table(cloudflare)}
        return staged(valkey, objects, cls.way, tmp_path_factory.mktemp("ledger") / "ledger.db")


class ToKv(CacheHarness):
    """KV's clock is moved; nothing waits for a second between two writes of a key."""

    way: ClassVar[Sequence[Stage]]
    disposable = True
    examples = 3
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

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(
        cls,
        cloudflare: LocalCloudflare,
        valkey: Mapping[str, Any],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Mapping[str, Any]:
        cls.running = cloudflare
        kv = {"driver": "workers_kv", "transport": "gateway", "gateway": gateway_table(cloudflare)}
        return staged(valkey, kv, cls.way, tmp_path_factory.mktemp("ledger") / "ledger.db")


__all__ = ["ToKv", "ToObjects", "cloudflare", "valkey"]
