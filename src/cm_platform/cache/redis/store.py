"""Redis as a cache backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from cm_platform.cache.backend import (
    CacheCapability,
    CacheLimits,
    Condition,
    Counted,
    Stored,
    StoredMany,
    Values,
)
from cm_platform.errors import InvalidArgumentError, NotFoundError, PlatformError
from cm_platform.runtime import settle

from .connection import Address, AnyClient
from .errors import after_effect, lost, refused
from .link import Command, Link
from .scripts import COMPARE_AND_SET, INCREMENT, INCREMENT_TEXT, Script

_CONDITIONS: Final = {"absent": "NX", "present": "XX"}
_INT64: Final = 1 << 63
_LONGEST: Final = 9_000_000_000_000_000_000
"""Milliseconds. Redis adds the time of day, and the sum must fit into 64 bit."""
_EXECUTION: Final = 60.0
"""Seconds for a server that was stopped, or busy, to come to what it had received."""


class RedisCache:
    """One Redis, or a cluster. See `CacheBackend` for what each method promises."""

    def __init__(
        self,
        link: Link,
        address: Address,
        *,
        cluster: bool,
        is_async: bool,
        capabilities: frozenset[CacheCapability],
        limits: CacheLimits,
    ) -> None:
        self.capabilities = capabilities
        self.limits = limits
        self.evicts = True
        self.max_request_lifetime = address.read_timeout + _EXECUTION
        self._link = link
        self._run = link.run
        self._address = address
        self._cluster = cluster
        self._is_async = is_async
        self._client: AnyClient | None = None

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """See `CacheBackend.get_many`."""
        prefix = self._prefix(partition)
        [values] = await self._run(partition, [("MGET", *[prefix + key for key in keys])])
        if isinstance(values, Exception):
            raise refused(values)
        return values  # type: ignore[no-any-return]

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
        prefix = self._prefix(partition)
        condition = () if only_if is None else (_CONDITIONS[only_if],)
        command = ("SET", prefix + key, value, *_expiry(ttl), *condition)
        replies = await self._run(partition, [command, *_along(prefix, along)])
        if isinstance(replies[0], Exception):
            raise refused(replies[0])
        return Stored(replies[0] is not None, _read_along(replies))

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        *,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> StoredMany:
        """See `CacheBackend.set_many`."""
        prefix = self._prefix(partition)
        expiry = _expiry(ttl)
        commands: list[Command] = [
            ("SET", prefix + key, value, *expiry) for key, value in values.items()
        ]
        replies = await self._run(partition, [*commands, *_along(prefix, along)])
        failures = {
            key: refused(reply)
            for key, reply in zip(values, replies, strict=False)
            if isinstance(reply, Exception)
        }
        return StoredMany(failures, _read_along(replies, len(values)))

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `CacheBackend.delete_many`."""
        prefix = self._prefix(partition)
        [reply] = await self._run(partition, [("UNLINK", *[prefix + key for key in keys])])
        if isinstance(reply, Exception):
            raise refused(reply)
        return {}

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
        if expected is None:
            if value is not None:
                return (await self.set(partition, key, value, ttl=ttl, only_if="absent")).stored
            [there] = await self._run(partition, [("EXISTS", self._prefix(partition) + key)])
            if isinstance(there, Exception):
                raise refused(there)
            return not there
        replaced = "0" if value is None else "1"
        [reply] = await self._script(
            partition,
            COMPARE_AND_SET,
            key,
            (expected, replaced, value or b"", *_milliseconds_text(ttl)),
        )
        return bool(reply)

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
        if not -_INT64 <= amount < _INT64:
            raise InvalidArgumentError("the amount must be a signed integer of 64 bit")
        if initial is not None:
            arguments = (str(amount), initial, *_milliseconds_text(ttl))
            replies = await self._script(partition, INCREMENT, key, arguments, along)
            total, stamp = replies[0]
            return Counted(int(total), int.from_bytes(stamp, "big"), _read_along(replies))
        if ttl is not None:
            text = (str(amount), str(_milliseconds(ttl)))
            replies = await self._script(partition, INCREMENT_TEXT, key, text, along)
            return Counted(int(replies[0]), 0, _read_along(replies))
        prefix = self._prefix(partition)
        command = ("INCRBY", prefix + key, str(amount))
        replies = await self._run(partition, [command, *_along(prefix, along)])
        if isinstance(replies[0], Exception):
            raise refused(replies[0])
        return Counted(replies[0], 0, _read_along(replies))

    async def ttl(self, partition: str, key: str) -> float | None:
        """See `CacheBackend.ttl`."""
        [left] = await self._run(partition, [("PTTL", self._prefix(partition) + key)])
        if isinstance(left, Exception):
            raise refused(left)
        if left == -2:
            raise NotFoundError("there is nothing under this key")
        return None if left == -1 else left / 1000

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        """See `CacheBackend.expire`."""
        physical = self._prefix(partition) + key
        commands: list[Command] = (
            [("PERSIST", physical), ("EXISTS", physical)]
            if ttl is None
            else [("PEXPIRE", physical, _milliseconds(ttl))]
        )
        replies = await self._run(partition, commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise refused(reply)
        return any(replies)

    def translate(self, error: Exception) -> PlatformError | None:
        """See `CacheBackend.translate`.

        The link classifies what it meets. What comes here is the work of `native()`.
        """
        import redis.exceptions as sdk

        if isinstance(error, sdk.ResponseError | sdk.AuthenticationError | sdk.BusyLoadingError):
            return refused(error)
        if isinstance(error, sdk.ConnectionError | sdk.TimeoutError):
            return lost(error)
        return None

    async def ping(self) -> None:
        """See `CacheBackend.ping`."""
        [reply] = await self._run("ping", [("PING",)])
        if isinstance(reply, Exception):
            raise refused(reply)

    def native(self) -> AnyClient:
        """A client of the SDK, made on first need; its retries are off."""
        if self._client is None:
            self._client = self._address.client(is_async=self._is_async, cluster=self._cluster)
        return self._client

    async def close(self) -> None:
        """See `CacheBackend.close`."""
        await self._link.close()
        client: Any
        client, self._client = self._client, None
        if client is not None:
            close: Callable[[], Awaitable[None] | None]
            close = client.aclose if self._is_async else client.close
            await settle(close())

    def _prefix(self, partition: str) -> str:
        # The braces make the partition the hash tag: all its keys are on one node.
        return f"{{{partition}}}" if self._cluster else partition

    async def _script(
        self,
        partition: str,
        script: Script,
        key: str,
        arguments: Sequence[str | bytes],
        along: Sequence[str] = (),
    ) -> list[Any]:
        from redis.exceptions import NoScriptError

        prefix = self._prefix(partition)
        tail = _along(prefix, along)
        replies = await self._run(partition, [script.call(prefix + key, *arguments), *tail])
        if isinstance(replies[0], NoScriptError):
            # It was not executed: the server, a new one perhaps, has not seen it yet.
            replies = await self._run(partition, [script.whole(prefix + key, *arguments), *tail])
        if isinstance(replies[0], Exception):
            raise refused(replies[0])
        return replies


def _milliseconds(ttl: float) -> int:
    return min(max(round(ttl * 1000), 1), _LONGEST)


def _milliseconds_text(ttl: float | None) -> tuple[str]:
    return ("" if ttl is None else str(_milliseconds(ttl)),)


def _expiry(ttl: float | None) -> tuple[str | int, ...]:
    return () if ttl is None else ("PX", _milliseconds(ttl))


def _along(prefix: str, along: Sequence[str]) -> list[Command]:
    return [("MGET", *[prefix + key for key in along])] if along else []


def _read_along(replies: Sequence[Any], after: int = 1) -> Values:
    if len(replies) == after:
        return ()
    if isinstance(replies[after], Exception):
        raise after_effect(refused(replies[after]))
    values: Values = replies[after]
    return values


__all__ = ["RedisCache"]
