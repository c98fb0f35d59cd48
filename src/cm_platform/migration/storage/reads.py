"""Reading from the side that is right, while which one that is may change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cm_platform.migration.lease import StageLease
from cm_platform.migration.ledger import Side
from cm_platform.migration.points import Point, reach

from .shadow import Shadow

T = TypeVar("T")

Read = Callable[[Side], Awaitable[T]]


class Reader:
    """Asks the authority, and sees afterwards whether it still was that."""

    __slots__ = ("_shadow", "_stage")

    def __init__(self, stage: StageLease, shadow: Shadow) -> None:
        self._stage = stage
        self._shadow = shadow

    async def read(self, read: Read[T], key: str | None = None) -> T:
        """Read from the authority; the answer counts only if it was that all the while."""
        # An old answer will do to begin with: whether it still held is seen afterwards.
        view = self._stage.last() or await self._stage.ask()
        while True:
            failure: Exception | None = None
            result: Any = None
            try:
                result = await read(view.authority)
            except Exception as error:  # noqa: BLE001 - a failure needs a right side as well
                failure = error
            await reach(Point.READ_ANSWERED)
            held = self._stage.held()
            if held is None:
                try:
                    held = await self._stage.ask()
                except BaseException:
                    await _closed(result)
                    raise
            if held.epoch != view.epoch:
                await _closed(result)
                view = held
                continue
            if key is not None:
                self._shadow.offer(view, key, failure)
            if failure is not None:
                raise failure
            found: T = result
            return found


async def _closed(result: object) -> None:
    """Let go of a reply that does not count."""
    close = getattr(result, "close", None)
    if close is not None:
        await close()


__all__ = ["Reader"]
