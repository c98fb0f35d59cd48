"""`cache.durable_objects`: strongly consistent values, one Durable Object for each key.

For counters, sessions and locks. Reached through the gateway, where an object serves about a
thousand requests a second; Cloudflare offers no other way in from outside a Worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field

from cm_platform.cloudflare.settings import BindingName, GatewaySettings
from cm_platform.errors import NotFoundError, PlatformError, UnavailableError
from cm_platform.limits import limits
from cm_platform.registry import Backend
from cm_platform.runtime import Runtime

from .backend import CacheCapability, CacheLimits, Condition, Counted, Stored, StoredMany, Values
from .gateway_batches import read_all, write_all

if TYPE_CHECKING:
    from cm_platform.cloudflare.outcome import Operation, Outcome

CAPABILITIES: Final = frozenset(CacheCapability)

# A Worker may run on for a while after its caller has gone; the object then answers within its
# own time for one request.
MAX_REQUEST_LIFETIME: Final = 30.0


class DurableObjectsConfig(GatewaySettings):
    """Values in Durable Objects, behind a gateway.

    binding: of the gateway's Durable Object namespace.
    """

    product: ClassVar[str] = "durable_object"

    binding: BindingName = Field(default="VALUES")


class DurableObjectsCache:
    """A `CacheBackend` over the gateway's Durable Objects."""

    capabilities = CAPABILITIES
    evicts = False
    max_request_lifetime = MAX_REQUEST_LIFETIME

    def __init__(self, config: DurableObjectsConfig, runtime: Runtime) -> None:
        # Here, and not above: it brings httpx with it.
        from cm_platform.cloudflare.gateway import Gateway

        self._gateway = Gateway.open(config, runtime)
        self._binding = config.binding
        self.limits = CacheLimits(**limits("cache", "durable_objects"))

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """See `CacheBackend.get_many`."""
        return await read_all(self._gateway, partition, [self._get(key) for key in keys])

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
        first, *others = await self._with(
            partition, self._op("do.set", key, value=value, ttl=ttl, only_if=only_if), along
        )
        return Stored(first.checked()["stored"], _values(others))

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        *,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> StoredMany:
        """See `CacheBackend.set_many`."""
        failures = await write_all(
            self._gateway,
            partition,
            {key: self._op("do.set", key, value=value, ttl=ttl) for key, value in values.items()},
        )
        seen = await self.get_many(partition, along) if along else ()
        return StoredMany(failures, seen)

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `CacheBackend.delete_many`."""
        operations = {key: self._op("do.delete", key) for key in keys}
        return await write_all(self._gateway, partition, operations)

    async def compare_and_set(
        self,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        *,
        ttl: float | None,
    ) -> bool:
        """See `CacheBackend.compare_and_set`."""
        operation = {
            **self._op("do.compare_and_set", key, ttl=ttl),
            # Here null has a meaning: absent, and forget it.
            "expected": expected,
            "value": value,
        }
        (outcome,) = await self._gateway.batch(partition, [operation])
        return bool(outcome.checked()["stored"])

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
        """See `CacheBackend.increment`."""
        first, *others = await self._with(
            partition,
            self._op("do.increment", key, amount=str(amount), initial=initial, ttl=ttl),
            along,
        )
        fields = first.checked()
        return Counted(int(fields["value"]), int(fields["stamp"] or 0), _values(others))

    async def ttl(self, partition: str, key: str) -> float | None:
        """See `CacheBackend.ttl`."""
        (outcome,) = await self._gateway.batch(partition, [self._get(key)])
        fields = outcome.checked()
        if fields["value"] is None:
            raise NotFoundError("there is no such value")
        left: float | None = fields["expires_in"]
        return left

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        """See `CacheBackend.expire`."""
        (outcome,) = await self._gateway.batch(partition, [self._op("do.expire", key, ttl=ttl)])
        return bool(outcome.checked()["existed"])

    def translate(self, error: Exception) -> PlatformError | None:
        """See `CacheBackend.translate`: the gateway's client has said it all."""
        return None

    async def ping(self) -> None:
        """See `CacheBackend.ping`."""
        await self._gateway.health()

    def native(self) -> Any:
        """A client of httpx that signs what it sends; the caller closes it."""
        return self._gateway.native()

    async def close(self) -> None:
        """See `CacheBackend.close`."""
        await self._gateway.close()

    def _get(self, key: str) -> Operation:
        return {"op": "do.get", "binding": self._binding, "key": key}

    def _op(self, name: str, key: str, **fields: Any) -> dict[str, Any]:
        operation: dict[str, Any] = {"op": name, "binding": self._binding, "key": key}
        operation |= {field: value for field, value in fields.items() if value is not None}
        return operation

    async def _with(
        self, partition: str, operation: Operation, along: Sequence[str]
    ) -> list[Outcome]:
        after = [{**self._get(key), "after": True} for key in along]
        return await self._gateway.batch(partition, [operation, *after])


def _values(outcomes: Sequence[Outcome]) -> Values:
    try:
        return [outcome.checked()["value"] for outcome in outcomes]
    except PlatformError as error:
        # Whatever it says of itself, such as that it was not sent: the write before it was.
        raise UnavailableError(
            "it was written, and what was to be read along was not answered", retryable=True
        ) from error


async def _open(config: DurableObjectsConfig, runtime: Runtime) -> DurableObjectsCache:
    return DurableObjectsCache(config, runtime)


BACKEND: Final = Backend(
    name="cache.durable_objects",
    config=DurableObjectsConfig,
    open=_open,
    capabilities=CAPABILITIES,
    extra="cloudflare",
)

__all__ = ["BACKEND", "DurableObjectsCache", "DurableObjectsConfig"]
