"""Whole numbers that many add to at once: the store does it, and we see that it counts."""

from __future__ import annotations

from cm_platform.errors import IntegrityError, PreconditionFailedError
from cm_platform.executor import Endpoint, Executor

from . import operations
from .backend import CacheBackend, CacheCapability, Counted
from .entries import ROUNDS, Draft, Entries, check_along, contended
from .entry import Encoding, encode


async def increment(
    entries: Entries,
    executor: Executor,
    endpoint: Endpoint,
    key: str,
    amount: int,
    ttl: float | None,
) -> int:
    """Add to a counter, which starts at 0 where there is none that counts."""
    backend: CacheBackend = endpoint.backend
    name = entries.names.key(key, backend.limits.max_key)
    versions = entries.versions.on(endpoint)
    draft = Draft(Encoding.COUNTER, b"%d" % amount, ttl)
    for _ in range(ROUNDS):
        now = endpoint.runtime.clock.wall()
        initial = encode(draft.entry(versions.generation, entries.names.scope, {}, now))
        try:
            value, stamp, seen = await _count(
                entries, executor, endpoint, name, amount, initial, ttl
            )
        except PreconditionFailedError:
            if await _is_there(entries, executor, endpoint, key):
                raise
            continue
        # A counter of before a `clear` was counted up for nothing, and does not count.
        if await entries.still(executor, endpoint, stamp, {}, (), seen):
            return int(value)
    raise contended()


async def _is_there(entries: Entries, executor: Executor, endpoint: Endpoint, key: str) -> bool:
    """Whether there is something that counts; what does not is forgotten.

    The stores' scripts cannot judge tags and stale times: to them it is there.
    """
    try:
        data, entry = await entries.look(executor, endpoint, key)
    except IntegrityError:
        return True
    if entry is not None and not entry.is_stale(endpoint.runtime.clock.wall()):
        return True
    if CacheCapability.COMPARE_AND_SET not in endpoint.backend.capabilities:
        return True
    if data is not None:
        await entries.replace(executor, endpoint, entries.names.value + key, data, None, None)
    return False


async def _count(
    entries: Entries,
    executor: Executor,
    endpoint: Endpoint,
    name: str,
    amount: int,
    initial: bytes,
    ttl: float | None,
) -> Counted:
    partition, along = entries.names.partition, [entries.names.generation]
    counted: Counted = await executor.run(
        operations.INCREMENT,
        lambda backend: backend.increment(
            partition, name, amount, initial=initial, ttl=ttl, along=along
        ),
        endpoint=endpoint,
    )
    check_along(counted.along, along)
    return counted


__all__ = ["increment"]
