"""The points of the protocol at which a process may die, by name.

Each stands between two effects of which only the first has happened. Tests stop a process at
each of them, alone and in pairs, and in every stage; here nothing happens unless they ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum


class Point(StrEnum):
    """Where the protocol is."""

    INTENT_BEGUN = "intent-begun"
    """The intent is recorded, nothing is changed."""
    AUTHORITY_CHANGED = "authority-changed"
    """The authority has the write, the other side has not."""
    AUTHORITY_FAILED = "authority-failed"
    """The authority refused or did not answer; the intent still stands."""
    OTHER_CHANGED = "other-changed"
    """Both sides have the write, nobody has compared them."""
    COMPARED = "compared"
    """Both sides are the same, the intent still stands."""
    STRAIGHT_CHANGED = "straight-changed"
    """Without an intent, in `off` or `complete`: the write happened."""
    CROSSED_STAGED = "crossed-staged"
    """An upload that a flip overtook is complete on the side that was the authority."""
    UPLOAD_REGISTERED = "upload-registered"
    """An intent stands for a signed URL that was not handed out yet."""
    READ_ANSWERED = "read-answered"
    """The store answered a read; whether that answer still counts is not checked."""
    COPY_BEGUN = "copy-begun"
    """Bytes of one side were read and not written to the other."""
    COPY_IN_PARTS = "copy-in-parts"
    """An upload on the other side has its parts and is not complete."""
    BACKFILL_BEGUN = "backfill-begun"
    """Intents stand for a page of keys, none is reconciled."""
    BACKFILL_DONE = "backfill-done"
    """A page is reconciled, the cursor still stands before it."""
    BACKFILL_NOTED = "backfill-noted"
    """The cursor stands behind the page."""
    REPAIR_CLAIMED = "repair-claimed"
    """Intents of the dead are ours, none is reconciled."""
    REPAIR_DONE = "repair-done"
    """They are reconciled and still stand."""
    FLIP_ANNOUNCED = "flip-announced"
    """No leases are granted any more."""
    FLIP_PAUSED = "flip-paused"
    """No write may begin."""
    FLIP_DRAINED = "flip-drained"
    """No intent is left, the stage is still the old one."""
    MOVED = "moved"
    """The ledger has the new stage, nobody was told."""
    VERIFIED = "verified"
    """Everything was compared, the evidence is not written."""


hook: Callable[[Point], Awaitable[None]] | None = None
"""Asked at each point, where a test has set it."""


async def reach(point: Point) -> None:
    """Say that the protocol is here."""
    if hook is not None:
        await hook(point)


__all__ = ["Point", "hook", "reach"]
