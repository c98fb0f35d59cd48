"""What reads and writes in one: counters, conditions, times. Done on the authority only, after
the value was brought there and taken from the other side; and never twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cm_platform.cache.backend import CacheBackend, CacheCapability, Condition, Counted, Stored
from cm_platform.errors import UnsupportedError

from .judging import own_generation, stamped, version_of
from .moving import Moving
from .names import Kept, Name, read_name
from .pair import Pair
from .reads import Reader
from .standing import Stand, Standing, capabilities_in
from .writes import Writer

T = TypeVar("T")


class Atomics:
    """Linearizable as long as nothing changes sides, `ambiguous` for what does so meanwhile."""

    __slots__ = ("_moving", "_pair", "_reader", "_stand", "_writer")

    def __init__(
        self, pair: Pair, stand: Stand, reader: Reader, moving: Moving, writer: Writer
    ) -> None:
        self._pair = pair
        self._stand = stand
        self._reader = reader
        self._moving = moving
        self._writer = writer

    async def set_if(
        self,
        partition: str,
        key: str,
        value: bytes,
        ttl: float | None,
        only_if: Condition,
        along: Sequence[str],
    ) -> Stored:
        """See `CacheBackend.set`."""
        name = read_name(key)
        standing = await self._begun(CacheCapability.CONDITIONAL_SET, name)
        if name.is_version:
            stored = await self._set_version_if(standing, partition, key, name, value, only_if)
        else:
            await self._brought(standing, partition, key, name)
            answer = await self._on(
                standing, lambda b: b.set(partition, key, value, ttl=ttl, only_if=only_if)
            )
            stored = answer.stored
        await self._writer.confirm(standing, stored)
        return Stored(stored, await self._writer.along(standing, partition, along, ()))

    async def compare_and_set(
        self,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        ttl: float | None,
    ) -> bool:
        """See `CacheBackend.compare_and_set`. expected: as it was handed out."""
        name = read_name(key)
        standing = await self._begun(CacheCapability.COMPARE_AND_SET, name)
        if name.is_version and value is not None:
            swapped = await self._raise(standing, partition, key, name, value)
        elif self._reader.is_plain(standing) or name.kept is Kept.LOCK:
            swapped = await self._swap(standing, partition, key, expected, value, ttl)
        else:
            await self._brought(standing, partition, key, name)
            here = (await self._reader.here(standing, partition, {key: name}))[key]
            swapped = here.value == expected and await self._swap(
                standing, partition, key, here.stored, value, ttl
            )
        return await self._writer.confirm(standing, swapped) if swapped else False

    async def increment(
        self,
        partition: str,
        key: str,
        amount: int,
        initial: bytes | None,
        ttl: float | None,
        along: Sequence[str],
    ) -> Counted:
        """See `CacheBackend.increment`."""
        name = read_name(key)
        standing = await self._begun(CacheCapability.ATOMIC_INCREMENT, name)
        is_plain = self._reader.is_plain(standing)
        told = None
        if not is_plain:
            await self._brought(standing, partition, key, name)
            if initial is not None and name.kept is Kept.VALUE:
                told, initial = await self._begins(standing, partition, name, initial)
        counted = await self._on(
            standing,
            lambda b: b.increment(
                partition, key, amount, initial=initial, ttl=ttl, along=along if is_plain else ()
            ),
        )
        await self._writer.confirm(standing, counted)
        if is_plain:
            return counted
        seen = await self._writer.along(standing, partition, along, ())
        return Counted(counted.value, max(counted.stamp, told or 0), seen)

    async def _begins(
        self, standing: Standing, partition: str, name: Name, initial: bytes
    ) -> tuple[int | None, bytes]:
        """How a counter begins on the authority, and what the service is told of its generation.

        Stores compare generations by themselves, and the service may know a higher one, of the
        other side: a counter must not begin anew because of that.
        """
        generation = name.generation
        stored = (await self._pair.fetch(standing.authority, partition, [generation]))[generation]
        own = own_generation(self._pair, standing, standing.authority, stored)
        told = self._reader.told(standing, partition, name.namespace, own)
        return told, initial if own is None else stamped(initial, own)

    async def ttl(self, partition: str, key: str) -> float | None:
        """See `CacheBackend.ttl`."""
        name = read_name(key)
        standing = await self._begun(CacheCapability.EXPIRE, name)
        await self._brought(standing, partition, key, name)
        return await self._on(standing, lambda b: b.ttl(partition, key))

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        """See `CacheBackend.expire`."""
        name = read_name(key)
        standing = await self._begun(CacheCapability.EXPIRE, name)
        await self._brought(standing, partition, key, name)
        there = await self._on(standing, lambda b: b.expire(partition, key, ttl))
        return await self._writer.confirm(standing, there)

    async def _begun(self, capability: CacheCapability, name: Name) -> Standing:
        standing = await self._stand.current()
        if capability not in capabilities_in(standing, self._pair) and not (
            # What versions need, the authority can do whatever the other side can.
            name.is_version and self._pair.has(standing.authority, capability)
        ):
            raise UnsupportedError(
                f"this tenant's cache is moving ({standing.stage}), and has not the capability "
                f"{str(capability)!r} any more, which cannot be made up for: give what needs it a "
                "namespace that stays, or moves to Durable Objects, or roll the migration back",
                not_sent=True,
            )
        return standing

    async def _brought(self, standing: Standing, partition: str, key: str, name: Name) -> None:
        """Bring the key over, and take it from where it was left: it counts in one place."""
        if standing.is_plain or name.is_version or name.kept is Kept.LOCK:
            return
        await self._moving.settle(standing, partition, key)
        for failure in (await self._writer.take(standing, partition, (key,))).values():
            raise failure

    async def _set_version_if(
        self,
        standing: Standing,
        partition: str,
        key: str,
        name: Name,
        value: bytes,
        only_if: Condition,
    ) -> bool:
        """What is there may be of before a flush, and then it is not there."""
        here = (await self._reader.here(standing, partition, {key: name}))[key]
        if (here.value is not None) != (only_if == "present"):
            return False
        return await self._swap(standing, partition, key, here.stored, value, None)

    async def _raise(
        self, standing: Standing, partition: str, key: str, name: Name, value: bytes
    ) -> bool:
        """Raise a version to that at least, and above what it is: what was expected may be the
        other side's, so that nobody knows whether somebody else has raised it since."""
        here = (await self._reader.here(standing, partition, {key: name}))[key]
        version = max(version_of(value) or 0, (version_of(here.value) or 0) + 1)
        side = standing.left
        if side is not None:
            await self._pair.on(side, lambda b: b.set(partition, key, b"%d" % version, ttl=None))
        return await self._swap(standing, partition, key, here.stored, b"%d" % version, None)

    async def _swap(
        self,
        standing: Standing,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        ttl: float | None,
    ) -> bool:
        return await self._on(
            standing, lambda b: b.compare_and_set(partition, key, expected, value, ttl=ttl)
        )

    async def _on(self, standing: Standing, call: Callable[[CacheBackend], Awaitable[T]]) -> T:
        return await self._pair.on(standing.authority, call)


__all__ = ["Atomics"]
