"""The two ways to KV: through the gateway, and by Cloudflare's REST API.

Both keep the same bytes under the same keys, so a tenant may change from one to the other.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cm_platform.cache.backend import Values
from cm_platform.cache.gateway_batches import read_all, write_all
from cm_platform.cache.packing import packed
from cm_platform.cloudflare.gateway import Gateway
from cm_platform.cloudflare.rest import Rest
from cm_platform.errors import InternalError, NotFoundError, PlatformError, RateLimitedError
from cm_platform.limits import limits
from cm_platform.runtime import Runtime, settle

# A second's worth of the API's rate, at a time.
_CONCURRENCY = 4


class Transport(Protocol):
    """What KV can do, as far as a cache needs it. ttl: whole seconds, 60 or more."""

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """The values, in order."""
        ...

    async def put(
        self, partition: str, values: Mapping[str, bytes], ttl: int | None
    ) -> Mapping[str, PlatformError]:
        """Keep values; the failures by key."""
        ...

    async def delete(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """Forget values; the failures by key."""
        ...

    async def ping(self) -> None:
        """Reach KV, as cheaply as it can be done."""
        ...

    async def native(self) -> Any:
        """The client below."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class GatewayTransport:
    """Through the gateway Worker's binding."""

    def __init__(self, gateway: Gateway, binding: str) -> None:
        self._gateway = gateway
        self._binding = binding

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """See `Transport.get_many`."""
        operations = [{"op": "kv.get", "binding": self._binding, "key": key} for key in keys]
        return await read_all(self._gateway, partition, operations)

    async def put(
        self, partition: str, values: Mapping[str, bytes], ttl: int | None
    ) -> Mapping[str, PlatformError]:
        """See `Transport.put`."""
        time = {} if ttl is None else {"ttl": ttl}
        operations = {
            key: {"op": "kv.put", "binding": self._binding, "key": key, "value": value, **time}
            for key, value in values.items()
        }
        return await write_all(self._gateway, partition, operations)

    async def delete(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `Transport.delete`."""
        operations = {
            key: {"op": "kv.delete", "binding": self._binding, "key": key} for key in keys
        }
        return await write_all(self._gateway, partition, operations)

    async def ping(self) -> None:
        """See `Transport.ping`."""
        await self._gateway.health()

    async def native(self) -> Any:
        """See `Transport.native`."""
        return self._gateway.native()

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._gateway.close()


class RestTransport:
    """By the `cloudflare` SDK, at four requests a second for all that use the token."""

    def __init__(self, rest: Rest, namespace_id: str, runtime: Runtime) -> None:
        self._rest = rest
        self._runtime = runtime
        self._place = {"account_id": rest.account_id, "namespace_id": namespace_id}

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """See `Transport.get_many`. One request each: the bulk read knows text only."""
        if len(keys) == 1:
            return [await self._get(partition + keys[0])]
        return await self._runtime.gather(
            (self._get(partition + key) for key in keys), limit=_CONCURRENCY
        )

    async def _get(self, name: str) -> bytes | None:
        try:
            reply: Any = await self._rest.call(
                lambda sdk: sdk.kv.namespaces.values.get(name, **self._place)
            )
        except NotFoundError:
            return None
        data: bytes = await settle(reply.read())
        return data

    async def put(
        self, partition: str, values: Mapping[str, bytes], ttl: int | None
    ) -> Mapping[str, PlatformError]:
        """See `Transport.put`."""
        time = {} if ttl is None else {"expiration_ttl": ttl}
        if len(values) == 1:
            ((key, value),) = values.items()
            await self._rest.call(
                lambda sdk: sdk.kv.namespaces.values.update(
                    partition + key, value=value, **time, **self._place
                )
            )
            return {}
        failures: dict[str, PlatformError] = {}
        room: int = limits("cloudflare", "kv")["max_bulk_body"]
        for keys in packed(_sizes(values), room=room):
            pairs = [
                {
                    "key": partition + key,
                    "value": base64.b64encode(values[key]).decode(),
                    "base64": True,
                    **time,
                }
                for key in keys
            ]

            async def put(pairs: Sequence[Mapping[str, Any]] = pairs) -> Any:
                return await self._rest.call(
                    lambda sdk: sdk.kv.namespaces.bulk_update(body=pairs, **self._place)
                )

            failures |= _failures(partition, keys, await put())
        return failures

    async def delete(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `Transport.delete`."""
        if len(keys) == 1:
            (key,) = keys
            await self._rest.call(
                lambda sdk: sdk.kv.namespaces.values.delete(partition + key, **self._place)
            )
            return {}
        names = [partition + key for key in keys]
        reply: Any = await self._rest.call(
            lambda sdk: sdk.kv.namespaces.bulk_delete(body=names, **self._place)
        )
        return _failures(partition, keys, reply)

    async def ping(self) -> None:
        """See `Transport.ping`."""
        await self._rest.call(
            lambda sdk: sdk.kv.namespaces.get(
                self._place["namespace_id"], account_id=self._place["account_id"]
            )
        )

    async def native(self) -> Any:
        """See `Transport.native`."""
        return await self._rest.native()

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._rest.close()


def _sizes(values: Mapping[str, bytes]) -> dict[str, int]:
    """Bytes of each pair in a bulk write."""
    # In base64; a name is escaped, and has its braces, quotes and options.
    return {
        key: len(value) * 4 // 3 + 2 * len(key.encode()) + 1024 for key, value in values.items()
    }


def _failures(partition: str, keys: Sequence[str], reply: Any) -> dict[str, PlatformError]:
    """What a bulk reply says of each key: it names those that failed, and counts the others."""
    named: Sequence[str] = getattr(reply, "unsuccessful_keys", None) or ()
    failed = {name.removeprefix(partition) for name in named if name.startswith(partition)}
    unknown = getattr(reply, "successful_key_count", None) != len(keys) - len(failed)
    failures: dict[str, PlatformError] = {}
    for key in keys:
        if key in failed:
            failures[key] = RateLimitedError(
                "KV did not take this key: it takes one write a second for each", retryable=True
            )
        elif unknown:
            failures[key] = InternalError("KV did not say what became of this key")
    return failures


__all__ = ["GatewayTransport", "RestTransport", "Transport"]
