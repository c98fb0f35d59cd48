"""The time of an entry: how much is left, and giving it another."""

from __future__ import annotations

from cm_platform.errors import NotFoundError
from cm_platform.executor import Endpoint, Executor

from . import operations
from .entries import ROUNDS, Entries, contended
from .entry import Entry, encode


async def remaining(
    entries: Entries, executor: Executor, endpoint: Endpoint, key: str
) -> float | None:
    """Seconds until it is stale; None for ever. `not_found` where there is nothing that counts."""
    entry = await entries.read(executor, endpoint, key, operations.TTL)
    if entry is not None and entry.fresh_until == 0:
        return None
    now = endpoint.runtime.clock.wall()
    if entry is None or entry.is_stale(now):
        raise executor.placed(NotFoundError("there is no such value"), operations.TTL, endpoint)
    return max(entry.fresh_until / 1000 - now, 0.0)


async def touch(
    entries: Entries, executor: Executor, endpoint: Endpoint, key: str, ttl: float | None
) -> bool:
    """Give it a new time from now, what it may be stale included; whether it is there."""
    for _ in range(ROUNDS):
        data, entry = await entries.look(executor, endpoint, key)
        if entry is None or entry.is_stale(endpoint.runtime.clock.wall()):
            return False
        stale = (entry.expires - entry.fresh_until) / 1000 if entry.fresh_until else 0.0
        hard = None if ttl is None else ttl + stale
        again = _timed(entry, ttl, hard, endpoint.runtime.clock.wall())
        if await entries.replace(
            executor,
            endpoint,
            entries.names.value + key,
            data,
            encode(again),
            hard,
            operations.TOUCH,
        ):
            return True
    raise contended()


def _timed(entry: Entry, ttl: float | None, hard: float | None, now: float) -> Entry:
    if ttl is None or hard is None:
        return entry._replace(fresh_until=0, expires=0)
    return entry._replace(fresh_until=int((now + ttl) * 1000), expires=int((now + hard) * 1000))


__all__ = ["remaining", "touch"]
