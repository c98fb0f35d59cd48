"""Bringing a key to the authority from the side on which it was left: exactly, or not at all.

A key belongs to one side at any time, and who changes that leaves a trace of it in one atomic
step on each:

    authority     other side           whose it is
    -             value                the other side's
    place p       value                the other side's; somebody is about to fetch it
    place p       moved to p, value    the authority's, under that place: anybody may put it there
    value         moved to p           the authority's

So a counter is added to where it is, or the addition fails; a value is never in two places; and
nobody who acts by what the ledger said before can do harm: he finds a mark where he looked for a
value. What dies on the way is taken on by whoever asks next.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import NotFoundError, PlatformError, UnavailableError
from cm_platform.migration.ledger import Side

from .judging import is_entry, seconds_left, version_of
from .marks import UNDER_WAY, belongs, carried, coming, ends_of, is_coming, is_moved, moved
from .names import Kept, Name, read_name
from .pair import Pair
from .reads import Here, Reader
from .stand import Stand
from .standing import Standing

logger = logging.getLogger("cm_platform.migration")

_ROUNDS: Final = 32


class Moving:
    """Brings values over, one key at a time. act: seconds that one may take."""

    __slots__ = ("_act", "_pair", "_stand", "reader")

    reader: Reader

    def __init__(self, pair: Pair, stand: Stand, *, act: float) -> None:
        self._pair = pair
        self._stand = stand
        self._act = act

    def can(self, standing: Standing) -> bool:
        """Whether a value can be brought exactly: where both sides can compare and set, and show
        what they have."""
        return standing.left is not None and self._pair.is_exact

    def brought(self, standing: Standing, partition: str, keys: Sequence[str]) -> None:
        """Bring over in the background what a read has found where it was left."""
        if not self.can(standing):
            # Nothing could keep an older value from landing upon a newer one.
            return

        async def bring() -> None:
            for key in keys:
                try:
                    # It may have waited for its turn for long, and what is left behind is looked
                    # after only for as long as somebody may rightly ask for it.
                    if (await self._stand.current()).epoch != standing.epoch:
                        return
                    async with self._pair.runtime.timeout(self._act):
                        await self.settle(standing, partition, key)
                except (PlatformError, TimeoutError) as error:
                    code = getattr(error, "code", "timeout")
                    logger.debug("a value stays where it was left: %s", code)

        self._pair.runtime.spawn(bring())

    async def settle(self, standing: Standing, partition: str, key: str) -> Here:
        """See to it that the key belongs to the authority; what it has under it then."""
        name = read_name(key)
        if name.is_version:
            return await self._raise(standing, partition, key, name)
        side = standing.authority
        for _ in range(_ROUNDS):
            here = await self.reader.one(standing, partition, key, name)
            if here.value is not None or not self.can(standing):
                return here
            place = here.stored
            if not is_coming(place):
                if await self._is_settled(standing, partition, key, here.stored):
                    return here
                place = coming()
                if not await self._swap(side, partition, key, here.stored, place, UNDER_WAY):
                    continue
            assert place is not None  # noqa: S101 - held, or found held
            found, given = await self._take(standing, partition, key, name, place, here.told)
            if not given:
                continue
            value, left = found
            if await self._swap(side, partition, key, place, value, left):
                return Here(value, value, here.told)
        raise _met_too_many()

    async def _is_settled(
        self, standing: Standing, partition: str, key: str, stored: bytes | None
    ) -> bool:
        """Whether the other side has given the key away already: then, where the authority has
        nothing, there is nothing.

        stored: what the authority has. What it has given away itself, and is not there yet, is
        brought there first: nothing else tells what it was.
        """
        side = standing.left
        assert side is not None  # noqa: S101 - who asks has looked
        there = (await self._pair.fetch(side, partition, [key]))[key]
        if stored is not None and belongs(stored, there):
            value, left = self._under_way(stored, there)
            await self._swap(side, partition, key, there, value, left)
            return False
        return stored is None and is_moved(there)

    async def _take(
        self,
        standing: Standing,
        partition: str,
        key: str,
        name: Name,
        place: bytes,
        told: int | None,
    ) -> tuple[tuple[bytes | None, float | None], bool]:
        """Take what counts from the other side, for that place: the value and its seconds, and
        whether it was taken, now or before."""
        side = standing.left
        assert side is not None  # noqa: S101 - as above
        stored, value = await self.reader.left(standing, partition, key, name, told)
        if stored is not None and belongs(stored, place):
            return self._under_way(stored, place), True
        left: float | None = None
        now = self._pair.runtime.clock.wall()
        if value is not None:
            left = seconds_left(value, now)
            if not (name.kept is Kept.VALUE and is_entry(value)):
                value, left = await self._raw(side, partition, key, value)
        mark = moved(place, value, None if left is None else now + left)
        given = await self._swap(side, partition, key, stored, mark, UNDER_WAY)
        return (value, left), given

    def _under_way(self, stored: bytes, place: bytes | None) -> tuple[bytes | None, float | None]:
        """What was given away to a place, and its seconds."""
        value = carried(stored, place)
        ends = None if value is None else ends_of(stored)
        if ends is None:
            return value, None
        left = ends - self._pair.runtime.clock.wall()
        return (value, left) if left > 0 else (None, None)

    async def _raw(
        self, side: Side, partition: str, key: str, value: bytes
    ) -> tuple[bytes | None, float | None]:
        """A value that does not say how long it is to live."""
        if not self._pair.has(side, CacheCapability.EXPIRE):
            return None, None
        try:
            return value, await self._pair.on(side, lambda b: b.ttl(partition, key))
        except NotFoundError:
            return None, None

    async def _raise(self, standing: Standing, partition: str, key: str, name: Name) -> Here:
        """Bring over a version, unless the authority's is as high."""
        for _ in range(_ROUNDS):
            here = await self.reader.one(standing, partition, key, name)
            if not self.can(standing):
                return here
            if name.kept is Kept.GENERATION:
                theirs, _ = await self.reader.generation(standing, partition, name)
                here = here._replace(value=here.stored)
            else:
                stored, _ = await self.reader.left(standing, partition, key, name, None)
                theirs = version_of(stored)
            if theirs is None or (version_of(here.value) or -1) >= theirs:
                return here
            value = b"%d" % theirs
            if await self._swap(standing.authority, partition, key, here.stored, value, None):
                return Here(value, value, None)
        raise _met_too_many()

    async def _swap(
        self,
        side: Side,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        ttl: float | None,
    ) -> bool:
        return await self._pair.on(
            side, lambda b: b.compare_and_set(partition, key, expected, value, ttl=ttl)
        )


def _met_too_many() -> UnavailableError:
    return UnavailableError(
        "too many writers met on one key of a cache that moves; try again later", retryable=True
    )


__all__ = ["Moving"]
