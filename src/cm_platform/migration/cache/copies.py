"""Writing to the target as well, for a rehearsal: whether it takes what this tenant writes.

A copy never counts as a value, so nothing depends on whether it arrives, or when. It must not
come upon a value, though: a target that can compare and set is asked to.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.entry import STAMP
from cm_platform.errors import PlatformError

from .judging import copied, is_entry
from .marks import is_mark
from .mix import Mix
from .names import Kept, read_name
from .pair import Pair
from .standing import Standing

logger = logging.getLogger("cm_platform.migration")

_LONGEST: Final = 86_400.0
"""Seconds that a copy is kept: those of values without an end would stay behind for ever."""


class Copies:
    """Copies what is written, in the background."""

    __slots__ = ("_mix", "_pair")

    def __init__(self, pair: Pair, mix: Mix) -> None:
        self._pair = pair
        self._mix = mix

    def offer(
        self, standing: Standing, partition: str, values: Mapping[str, bytes], ttl: float | None
    ) -> None:
        """Copy these values. Never raises, never waits."""
        if not standing.copies:
            return
        entries = {
            key: copied(value)
            for key, value in values.items()
            if is_entry(value) and read_name(key).kept is Kept.VALUE
        }
        if not entries:
            return
        seconds = _LONGEST if ttl is None else min(ttl, _LONGEST)

        async def copy() -> None:
            for key, value in entries.items():
                try:
                    await self._copy(standing, partition, key, value, seconds)
                except PlatformError as error:
                    logger.debug("a copy was not written: %s", error.code)
                    self._mix.not_copied(partition, key, error.code)

        if not self._pair.runtime.spawn(copy()):
            for key in entries:
                self._mix.not_copied(partition, key, "too many at once")

    async def _copy(
        self, standing: Standing, partition: str, key: str, value: bytes, ttl: float
    ) -> None:
        limits = self._pair.target.limits
        if not self._pair.fits("target", partition, key) or len(value) > limits.max_value:
            self._mix.not_copied(partition, key, "too large")
            return
        if not self._pair.has("target", CacheCapability.COMPARE_AND_SET):
            await self._pair.on("target", lambda b: b.set(partition, key, value, ttl=ttl))
            return
        found = (await self._pair.fetch("target", partition, [key]))[key]
        if found is None or _is_old(found, standing.since):
            # Else it is a value by now: the tenant has moved on.
            await self._pair.on(
                "target", lambda b: b.compare_and_set(partition, key, found, value, ttl=ttl)
            )


def _is_old(data: bytes, since: int) -> bool:
    return is_entry(data) and not is_mark(data) and int.from_bytes(data[STAMP], "big") < since


__all__ = ["Copies"]
