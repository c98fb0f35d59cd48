"""What reads and writes in one: counters, conditions, times.

Done where the key belongs to (`moving.py`), by the store's own atomic step. It fails where the
key was given away, and is then done where it went: so nothing is lost or gained by a change of
sides, and nobody has to stand still for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from cm_platform.cache.backend import CacheBackend, CacheCapability, Condition, Counted, Stored
from cm_platform.errors import (
    NotFoundError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedError,
)

from .judging import stamped, version_of
from .marks import is_mark
from .moving import Moving
from .names import Kept, Name, read_name
from .pair import Pair
from .reads import Here, Reader
from .stand import Stand
from .standing import Standing, capabilities_in
from .writes import Writer

T = TypeVar("T")

_ROUNDS: Final = 32


class Atomics:
    """Linearizable, with all who use the same key, in all stages."""

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
        for _ in range(_ROUNDS):
            if self._is_direct(standing) and not name.is_version:
                answer = await self._on(
                    standing, lambda b: b.set(partition, key, value, ttl=ttl, only_if=only_if)
                )
                stored = answer.stored
                break
            here, standing = await self._mine(standing, partition, key, name)
            if name.is_version and standing.left is not None and only_if == "absent":
                # What is there is not to count any more than what is here.
                await self._raise_left(standing, partition, key, value)
            stored = (here.value is not None) == (only_if == "present")
            if not stored or await self._swap(standing, partition, key, here.stored, value, ttl):
                break
        else:
            raise _met_too_many()
        if stored:
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
            return await self._raised(standing, partition, key, name, value)
        if self._reader.is_plain(standing) or name.kept is Kept.LOCK:
            swapped = await self._swap(standing, partition, key, expected, value, ttl)
            if not swapped and expected is None:
                # Perhaps what is there is no value.
                here, standing = await self._mine(standing, partition, key, name)
                swapped = here.value is None and await self._swap(
                    standing, partition, key, here.stored, value, ttl
                )
        else:
            here, standing = await self._mine(standing, partition, key, name)
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
        for _ in range(_ROUNDS):
            is_plain = self._reader.is_plain(standing)
            asked = along if is_plain else ()
            beginning = initial
            if not is_plain:
                here, standing = await self._mine(standing, partition, key, name)
                if here.value is None and here.stored is not None:
                    await self._swap(standing, partition, key, here.stored, None, None)
                if initial is not None and name.kept is Kept.VALUE:
                    own, _ = await self._reader.generation(standing, partition, name)
                    # Stores compare generations by themselves, and the service may know a higher
                    # one, the other side's: a counter must not begin anew because of that.
                    beginning = initial if own is None else stamped(initial, own)
            try:
                counted = await self._added(standing, partition, key, amount, beginning, ttl, asked)
            except PreconditionFailedError:
                if not await self._is_given(standing, partition, key):
                    raise
                _, standing = await self._mine(standing, partition, key, name, anew=True)
                continue
            await self._writer.confirm(standing, counted)
            if self._reader.is_plain(standing):
                return counted
            return await self._told(standing, partition, name, counted, along)
        raise _met_too_many()

    async def ttl(self, partition: str, key: str) -> float | None:
        """See `CacheBackend.ttl`."""
        name = read_name(key)
        standing = await self._begun(CacheCapability.EXPIRE, name)
        if not self._is_direct(standing):
            here, standing = await self._mine(standing, partition, key, name)
            if here.value is None:
                raise NotFoundError("there is no such value")
        return await self._on(standing, lambda b: b.ttl(partition, key))

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        """See `CacheBackend.expire`."""
        name = read_name(key)
        standing = await self._begun(CacheCapability.EXPIRE, name)
        if not self._is_direct(standing):
            here, standing = await self._mine(standing, partition, key, name)
            if here.value is None:
                return False
        there = await self._on(standing, lambda b: b.expire(partition, key, ttl))
        return await self._writer.confirm(standing, there)

    # Parts of it ---------------------------------------------------------------------------

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

    def _is_direct(self, standing: Standing) -> bool:
        """Whether nobody may have given the key away."""
        return self._reader.is_plain(standing) and not standing.copies

    async def _mine(
        self, standing: Standing, partition: str, key: str, name: Name, *, anew: bool = False
    ) -> tuple[Here, Standing]:
        """What the authority has of a key that belongs to it, and by what standing.

        anew: ask the ledger again first.
        """
        if anew:
            standing = await self._stand.refreshed()
        here = await self._moving.settle(standing, partition, key)
        if here.value is None and standing.left is None and here.stored is not None:
            # It was given away, to a side of which this process knows nothing yet, or which was
            # left behind since.
            now = await self._stand.refreshed()
            if now.epoch != standing.epoch:
                return await self._mine(now, partition, key, name)
        return here, standing

    async def _is_given(self, standing: Standing, partition: str, key: str) -> bool:
        stored = (await self._pair.fetch(standing.authority, partition, [key]))[key]
        return stored is None or is_mark(stored)

    async def _added(
        self,
        standing: Standing,
        partition: str,
        key: str,
        amount: int,
        initial: bytes | None,
        ttl: float | None,
        along: Sequence[str],
    ) -> Counted:
        return await self._on(
            standing,
            lambda b: b.increment(partition, key, amount, initial=initial, ttl=ttl, along=along),
        )

    async def _told(
        self,
        standing: Standing,
        partition: str,
        name: Name,
        counted: Counted,
        along: Sequence[str],
    ) -> Counted:
        """What the service is told of a sum: under which generation it counts, if it does."""
        stamp = counted.stamp
        if name.kept is Kept.VALUE:
            own, told = await self._reader.generation(standing, partition, name)
            if own is not None and told is not None and stamp >= own:
                stamp = max(stamp, told)
        seen = await self._writer.along(standing, partition, along, ())
        return Counted(counted.value, stamp, seen)

    async def _raised(
        self, standing: Standing, partition: str, key: str, name: Name, value: bytes
    ) -> bool:
        """Raise a version to that at least, and above what it is.

        What was expected may be the other side's, so that nobody knows whether somebody else has
        raised it since; and what was raised before the sides changed is raised once more, above
        whatever was brought over meanwhile.
        """
        version = version_of(value) or 0
        for _ in range(_ROUNDS):
            here = await self._reader.one(standing, partition, key, name)
            version = max(version, (version_of(here.value) or 0) + 1)
            if not await self._raise(standing, partition, key, here.stored, version):
                continue
            now = await self._writer.sure(standing)
            if standing.same_way(now):
                return True
            standing = now
            version += 1
        raise _met_too_many()

    async def _raise(
        self, standing: Standing, partition: str, key: str, stored: bytes | None, version: int
    ) -> bool:
        value = b"%d" % version
        await self._raise_left(standing, partition, key, value)
        return await self._swap(standing, partition, key, stored, value, None)

    async def _raise_left(self, standing: Standing, partition: str, key: str, value: bytes) -> None:
        side = standing.left
        if side is not None:
            await self._pair.on(side, lambda b: b.set(partition, key, value, ttl=None))

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


def _met_too_many() -> UnavailableError:
    return UnavailableError(
        "too many writers met on one key of a cache that moves; try again later", retryable=True
    )


__all__ = ["Atomics"]
