"""That both stores are equal whenever no intent is open: looked at while a migration is on its way.

It holds from the end of a backfill to the next step to off: whatever may make the sides differ,
a request that is late as well, has an intent that stands for it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from cm_platform.migration import points
from cm_platform.migration.ledger import is_mirrored
from cm_platform.migration.points import Point
from cm_platform.migration.stages import BACKFILL, mirrored_since
from cm_platform.runtime import drive
from cm_platform.testing.simulation.store import differences

from .world import SUBJECT, World

# Where it matters most, and nobody's intent stands as a rule.
_LOOKS: Final = frozenset({Point.FLIP_DRAINED, Point.MOVED, Point.VERIFIED})


class Balance:
    """Looks at both stores, at some points of the protocol.

    looks: how often there was something to see. found: what was not equal, in words.
    """

    def __init__(self, world: World) -> None:
        self.looks = 0
        self.found: list[str] = []
        self._world = world

    @contextmanager
    def watched(self) -> Generator[None, None, None]:
        """Look, for as long as the block lasts; then whoever else is at the point goes on."""
        before = points.hook

        async def look(point: Point) -> None:
            if point in _LOOKS:
                self._look(point)
            if before is not None:
                await before(point)

        points.hook = look
        try:
            yield
        finally:
            points.hook = before

    def _look(self, point: Point) -> None:
        # Only methods that note nothing in the ledger: what is watched must not change by it.
        ledger, world = self._world.ledger, self._world
        [(_, state)] = drive(ledger.subjects())
        if not is_mirrored(state.stage) or drive(ledger.pending(SUBJECT)).count:
            return
        note, began = drive(ledger.notes(SUBJECT)).get(BACKFILL), drive(ledger.log(SUBJECT))
        since = mirrored_since(began)
        if note is None or since is None:
            return
        if not note.body.get("complete") or note.body.get("since") != since.epoch:
            return
        self.looks += 1
        for key, how in differences(world.source, world.target).items():
            text = f"divergent: {key!r} ({how}) at {point} in {state.stage}, without an intent"
            world.simulation.note(text)
            self.found.append(text)


__all__ = ["Balance"]
