"""Bringing a key to the authority from the side on which it was left: exactly, or not at all.

A place is held on the authority first, by bytes that nobody else has; then the value is read
where it was left; then it takes exactly that place. Whoever writes or deletes the key meanwhile
takes the place away, and whoever does so before it was held has taken the value from the other
side before. So nothing older ever comes upon something newer, and no clock is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import NotFoundError, PlatformError, UnavailableError

from .judging import is_entry, seconds_left, version_of
from .marks import COMING_TTL, coming
from .names import Kept, Name, read_name
from .pair import Pair
from .reads import Here, Reader
from .standing import Standing

logger = logging.getLogger("cm_platform.migration")

_ROUNDS: Final = 32


class Moving:
    """Brings values over, one key at a time."""

    __slots__ = ("_pair", "reader")

    reader: Reader

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def can(self, standing: Standing) -> bool:
        """Whether a value can be brought exactly: where the authority can compare and set, and
        the other side shows what it has."""
        return (
            standing.left is not None
            and not standing.late
            and self._pair.has(standing.authority, CacheCapability.COMPARE_AND_SET)
        )

    def brought(self, standing: Standing, partition: str, keys: Sequence[str]) -> None:
        """Bring over in the background what a read has found where it was left."""
        if not self.can(standing):
            # Nothing could keep an older value from landing upon a newer one.
            return

        async def bring() -> None:
            for key in keys:
                try:
                    await self.settle(standing, partition, key)
                except PlatformError as error:
                    logger.debug("a value stays where it was left: %s", error.code)

        self._pair.runtime.spawn(bring())

    async def settle(self, standing: Standing, partition: str, key: str) -> Here:
        """See to it that what counts under a key is on the authority; what is there then."""
        name = read_name(key)
        if name.is_version:
            return await self._raise(standing, partition, key, name)
        for _ in range(_ROUNDS):
            here = (await self.reader.here(standing, partition, {key: name}))[key]
            if here.value is not None or not self.can(standing):
                return here
            place = coming()
            if not await self._swap(standing, partition, key, here.stored, place, COMING_TTL):
                continue
            value, left = await self._left_there(standing, partition, key, name, here.told)
            if await self._swap(standing, partition, key, place, value, left):
                return Here(value, value, here.told)
        raise _met_too_many()

    async def _left_there(
        self, standing: Standing, partition: str, key: str, name: Name, told: int | None
    ) -> tuple[bytes | None, float | None]:
        """The value that was left and its seconds, where it has any."""
        value = (await self.reader.there(standing, partition, {key: name}, {key: told})).get(key)
        if value is None:
            return None, None
        if name.kept is Kept.VALUE and is_entry(value):
            return value, seconds_left(value, self._pair.runtime.clock.wall())
        side = standing.left
        assert side is not None  # noqa: S101 - it was found there
        if not self._pair.has(side, CacheCapability.EXPIRE):
            # Nobody knows how long it is to live.
            return None, None
        try:
            return value, await self._pair.on(side, lambda b: b.ttl(partition, key))
        except NotFoundError:
            return None, None

    async def _raise(self, standing: Standing, partition: str, key: str, name: Name) -> Here:
        """Bring over the version of a tag, unless the authority's is as high."""
        for _ in range(_ROUNDS):
            here = (await self.reader.here(standing, partition, {key: name}))[key]
            if name.kept is Kept.GENERATION or not self.can(standing):
                return here
            left = await self.reader.there(standing, partition, {key: name}, {key: None})
            theirs = version_of(left.get(key))
            if theirs is None or (version_of(here.value) or -1) >= theirs:
                return here
            value = b"%d" % theirs
            if await self._swap(standing, partition, key, here.stored, value, None):
                return Here(value, value, None)
        raise _met_too_many()

    async def _swap(
        self,
        standing: Standing,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        ttl: float | None,
    ) -> bool:
        return await self._pair.on(
            standing.authority,
            lambda b: b.compare_and_set(partition, key, expected, value, ttl=ttl),
        )


def _met_too_many() -> UnavailableError:
    return UnavailableError(
        "too many writers met on one key of a cache that moves; try again later", retryable=True
    )


__all__ = ["Moving"]
