"""Keys shared with other programs: bytes as they are, the store's own times and counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from cm_platform.errors import (
    IntegrityError,
    InvalidArgumentError,
    PlatformError,
    PreconditionFailedError,
)
from cm_platform.executor import Endpoint, Executor
from cm_platform.operation import Operation

from . import operations
from .backend import CacheBackend, Condition, Stored, StoredMany, Values
from .keys import Names
from .sizes import batched, check_accounted, check_raw_ttl, check_size


def raw_value(value: Any) -> bytes:
    """The bytes of a value; `invalid_argument` for what other programs would have to decode."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(cast("bytearray", value))
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise InvalidArgumentError("a text must be valid Unicode: no lone surrogates") from None
    raise InvalidArgumentError(
        f"a raw namespace keeps bytes and text as they are, not {type(value).__name__}: encode it "
        "as the other programs do"
    )


async def read(
    executor: Executor,
    endpoint: Endpoint,
    names: Names,
    keys: Sequence[str],
    operation: Operation,
) -> list[bytes | None]:
    """The bytes of each key, None where there are none."""
    limits = endpoint.backend.limits
    physical = names.keys(keys, limits.max_key)
    found: list[bytes | None] = []
    for batch in batched(physical, limits.max_batch):

        async def fetch(backend: CacheBackend, batch: Sequence[str] = batch) -> Values:
            return await backend.get_many(names.partition, batch)

        values = await executor.run(operation, fetch, endpoint=endpoint)
        if len(values) != len(batch):
            raise IntegrityError("the store answered for another number of keys than asked")
        found += values
    return found


async def write(
    executor: Executor,
    endpoint: Endpoint,
    names: Names,
    key: str,
    value: bytes,
    ttl: float | None,
    only_if: Condition | None,
) -> bool:
    """Keep bytes; whether the condition held.

    A conditional write whose reply was lost is `ambiguous`: bytes as they are carry no token by
    which to know them again.
    """
    limits = endpoint.backend.limits
    name = names.key(key, limits.max_key)
    check_size(value, endpoint)
    check_raw_ttl(ttl, endpoint)

    async def store(backend: CacheBackend) -> Stored:
        stored = await backend.set(names.partition, name, value, ttl=ttl, only_if=only_if)
        if not stored.stored:
            raise PreconditionFailedError("the condition does not hold")
        return stored

    operation = operations.SET if only_if is None else operations.SET_IF_RAW
    try:
        await executor.run(operation, store, endpoint=endpoint)
    except PreconditionFailedError:
        return False
    return True


async def write_many(
    executor: Executor,
    endpoint: Endpoint,
    names: Names,
    values: Mapping[str, bytes],
    ttl: float | None,
) -> dict[str, PlatformError]:
    """Keep bytes under several keys; the failures by key.

    A batch that fails as a whole is the failure of each of its keys.
    """
    limits = endpoint.backend.limits
    keys = list(values)
    physical = dict(zip(names.keys(keys, limits.max_key), keys, strict=True))
    check_raw_ttl(ttl, endpoint)
    for value in values.values():
        check_size(value, endpoint)
    failures: dict[str, PlatformError] = {}
    for batch in batched(list(physical), limits.max_batch):
        data = {name: values[physical[name]] for name in batch}

        async def store(backend: CacheBackend, data: dict[str, bytes] = data) -> StoredMany:
            return await backend.set_many(names.partition, data, ttl=ttl)

        failed: Mapping[str, PlatformError]
        try:
            failed, _ = await executor.run(operations.SET_MANY, store, endpoint=endpoint)
        except PlatformError as error:
            failed = dict.fromkeys(batch, error)
        check_accounted(failed, batch)
        failures |= {physical[name]: error for name, error in failed.items()}
    return failures


async def increment(
    executor: Executor,
    endpoint: Endpoint,
    names: Names,
    key: str,
    amount: int,
    ttl: float | None,
) -> int:
    """Add to a decimal number that other programs may count up, too."""
    name = names.key(key, endpoint.backend.limits.max_key)
    value, _, _ = await executor.run(
        operations.INCREMENT,
        lambda backend: backend.increment(names.partition, name, amount, initial=None, ttl=ttl),
        endpoint=endpoint,
    )
    return int(value)


async def remaining(executor: Executor, endpoint: Endpoint, names: Names, key: str) -> float | None:
    """Seconds that are left, None for ever; `not_found`."""
    name = names.key(key, endpoint.backend.limits.max_key)
    left: float | None = await executor.run(
        operations.TTL_RAW, lambda backend: backend.ttl(names.partition, name), endpoint=endpoint
    )
    return left


async def touch(
    executor: Executor, endpoint: Endpoint, names: Names, key: str, ttl: float | None
) -> bool:
    """Give a value a new time; whether there was one."""
    name = names.key(key, endpoint.backend.limits.max_key)
    there: bool = await executor.run(
        operations.EXPIRE,
        lambda backend: backend.expire(names.partition, name, ttl),
        endpoint=endpoint,
    )
    return there


__all__ = ["increment", "raw_value", "read", "remaining", "touch", "write", "write_many"]
