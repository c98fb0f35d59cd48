"""Making everything outdated that the target has: always legal for a cache, and no scan.

The generations of all namespaces are raised there, above any under which something can have been
written; and the ledger notes the number, below which nothing counts, whatever the store says.
Namespaces are those that are configured and those that were ever seen; one that was not is under
the ledger's number all the same, as long as the migration is configured.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import UnavailableError

from .judging import version_of
from .names import generation_name
from .pair import Pair

Place = tuple[str, str]
"""A partition and a namespace."""

_ROUNDS: Final = 32


async def highest(pair: Pair, places: Iterable[Place]) -> int:
    """The highest generation of the target."""
    found = 0
    for partition, namespace in places:
        found = max(found, await _generation(pair, partition, namespace))
    return found


async def raise_all(pair: Pair, places: Iterable[Place], version: int) -> int:
    """Raise the target's generations to a version at least; of how many namespaces it was."""
    raised = 0
    for partition, namespace in places:
        raised += await _raise(pair, partition, namespace, version)
    return raised


async def lower(pair: Pair, places: Iterable[Place], version: int) -> list[Place]:
    """The namespaces whose generation on the target is below a version."""
    return [place for place in places if await _generation(pair, *place) < version]


async def _generation(pair: Pair, partition: str, namespace: str) -> int:
    name = generation_name(namespace)
    kept = (await pair.fetch("target", partition, [name]))[name]
    return version_of(kept) or 0


async def _raise(pair: Pair, partition: str, namespace: str, version: int) -> bool:
    name = generation_name(namespace)
    for _ in range(_ROUNDS):
        kept = (await pair.fetch("target", partition, [name]))[name]
        if (version_of(kept) or 0) >= version:
            return False
        if await _replaced(pair, partition, name, kept, b"%d" % version):
            return True
    raise UnavailableError("too many writers met on a generation; try again later", retryable=True)


async def _replaced(
    pair: Pair, partition: str, name: str, kept: bytes | None, value: bytes
) -> bool:
    if not pair.has("target", CacheCapability.COMPARE_AND_SET):
        # A `clear` at the same time raises it, too: to a time that is as late.
        await pair.on("target", lambda b: b.set(partition, name, value, ttl=None))
        return True
    return await pair.on(
        "target", lambda b: b.compare_and_set(partition, name, kept, value, ttl=None)
    )


__all__ = ["Place", "highest", "lower", "raise_all"]
