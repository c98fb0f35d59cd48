"""`cache.workers_kv`: values at the edge, for what is read often and written rarely.

A read elsewhere may be a minute old, and a key takes one write a second. No atomics: counters,
locks and sessions belong into Durable Objects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from cm_platform.cache.backend import (
    CacheCapability,
    CacheLimits,
    Condition,
    Counted,
    Stored,
    StoredMany,
    Values,
)
from cm_platform.cloudflare.settings import BindingName, GatewaySettings, RestSettings
from cm_platform.errors import PlatformError, UnsupportedError
from cm_platform.limits import limits
from cm_platform.registry import Backend
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings

from .guard import WriteGuard

if TYPE_CHECKING:
    from .transports import Transport

CAPABILITIES: Final[frozenset[CacheCapability]] = frozenset()

MAX_REQUEST_LIFETIME: Final = 30.0


class KvGateway(GatewaySettings):
    """KV behind a gateway.

    binding: of the gateway's KV namespace.
    """

    product: ClassVar[str] = "kv"

    binding: BindingName = Field(default="KV")


class KvRest(RestSettings):
    """KV by the REST API.

    namespace_id: of the KV namespace, 32 hex digits.
    """

    namespace_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class WorkersKvConfig(Settings):
    """Workers KV, by one of two transports.

    transport: "gateway" is the one for an application; "rest" shares 1,200 requests in 5 minutes
        with everything else that uses the token.
    gateway, rest: the settings of the transport that is used.
    """

    transport: Literal["gateway", "rest"] = "gateway"
    gateway: KvGateway | None = None
    rest: KvRest | None = None

    @model_validator(mode="after")
    def _check_transport(self) -> Self:
        if (self.gateway if self.transport == "gateway" else self.rest) is None:
            other = "rest" if self.transport == "gateway" else "gateway"
            raise ValueError(
                f"transport is {self.transport!r}: add a table `{self.transport}`, or say "
                f'transport = "{other}"'
            )
        return self


class WorkersKvCache:
    """A `CacheBackend` over Workers KV."""

    capabilities = CAPABILITIES
    evicts = False
    max_request_lifetime = MAX_REQUEST_LIFETIME

    def __init__(self, config: WorkersKvConfig, runtime: Runtime) -> None:
        self.limits, interval = _limits()
        self._transport: Transport
        # Here, and not above: they bring httpx with them.
        from cm_platform.cloudflare.gateway import Gateway
        from cm_platform.cloudflare.rest import Rest

        from .transports import GatewayTransport, RestTransport

        if config.transport == "gateway" and config.gateway is not None:
            gateway = Gateway.open(config.gateway, runtime)
            self._transport = GatewayTransport(gateway, config.gateway.binding)
        else:
            assert config.rest is not None  # noqa: S101 - the model has seen to it
            rest = Rest.open(config.rest, runtime)
            self._transport = RestTransport(rest, config.rest.namespace_id, runtime)
            # A request more for each read would halve what the token allows; and what KV has of
            # the generation is as old anyway.
            self.limits = replace(self.limits, generation_age=self.limits.staleness)
        self.guard = WriteGuard(runtime, interval)

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """See `CacheBackend.get_many`."""
        return await self._transport.get_many(partition, keys)

    async def set(
        self,
        partition: str,
        key: str,
        value: bytes,
        *,
        ttl: float | None,
        only_if: Condition | None = None,
        along: Sequence[str] = (),
    ) -> Stored:
        """See `CacheBackend.set`."""
        if only_if is not None:
            raise _lacking(CacheCapability.CONDITIONAL_SET)
        seconds = self._seconds(ttl)

        async def put(latest: tuple[bytes, int | None]) -> None:
            last, time = latest
            for failure in (await self._transport.put(partition, {key: last}, time)).values():
                raise failure

        await self.guard.write(partition + key, (value, seconds), put)
        return Stored(True, await self._along(partition, along))

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        *,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> StoredMany:
        """See `CacheBackend.set_many`."""
        seconds = self._seconds(ttl)
        failures = await self.guard.together(
            [partition + key for key in values],
            lambda: self._transport.put(partition, values, seconds),
        )
        return StoredMany(failures, await self._along(partition, along))

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `CacheBackend.delete_many`."""
        return await self.guard.together(
            [partition + key for key in keys], lambda: self._transport.delete(partition, keys)
        )

    async def compare_and_set(
        self,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        *,
        ttl: float | None,
    ) -> bool:
        """KV has no atomics."""
        raise _lacking(CacheCapability.COMPARE_AND_SET)

    async def increment(
        self,
        partition: str,
        key: str,
        amount: int,
        *,
        initial: bytes | None,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> Counted:
        """KV has no atomics."""
        raise _lacking(CacheCapability.ATOMIC_INCREMENT)

    async def ttl(self, partition: str, key: str) -> float | None:
        """KV does not tell."""
        raise _lacking(CacheCapability.EXPIRE)

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        """KV cannot."""
        raise _lacking(CacheCapability.EXPIRE)

    def translate(self, error: Exception) -> PlatformError | None:
        """See `CacheBackend.translate`: the clients below have said it all."""
        return None

    async def ping(self) -> None:
        """See `CacheBackend.ping`."""
        await self._transport.ping()

    def native(self) -> Any:
        """The transport, whose `native()` is the client below."""
        return self._transport

    async def close(self) -> None:
        """See `CacheBackend.close`."""
        await self._transport.close()

    def _seconds(self, ttl: float | None) -> int | None:
        # KV keeps it for a minute at least; what stands in the entry ends it in time.
        return None if ttl is None else max(math.ceil(ttl), int(self.limits.min_ttl))

    async def _along(self, partition: str, along: Sequence[str]) -> Values:
        return await self._transport.get_many(partition, along) if along else ()


def _limits() -> tuple[CacheLimits, float]:
    """Those of the product, as a cache sees them; seconds between writes to one key."""
    found = limits("cloudflare", "kv")
    cache = CacheLimits(
        max_key=found["max_key"],
        max_value=found["max_value"],
        max_batch=found["max_bulk_get"],
        min_ttl=found["min_ttl"],
        staleness=found["staleness"],
    )
    return cache, 1.0 / found["max_writes_per_key"]


def _lacking(capability: CacheCapability) -> UnsupportedError:
    return UnsupportedError(f"Workers KV lacks the capability {str(capability)!r}", not_sent=True)


async def _open(config: WorkersKvConfig, runtime: Runtime) -> WorkersKvCache:
    return WorkersKvCache(config, runtime)


BACKEND: Final = Backend(
    name="cache.workers_kv",
    config=WorkersKvConfig,
    open=_open,
    capabilities=CAPABILITIES,
    extra="cloudflare",
)

__all__ = ["BACKEND", "WorkersKvCache", "WorkersKvConfig"]
