"""Etags that say which side they are of, so that a condition outlives a flip.

The source's are as they always were: who has one from before the migration can use it. The
target's begin with a mark.
"""

from __future__ import annotations

from typing import Final

from cm_platform.errors import PreconditionFailedError
from cm_platform.migration.ledger import Side

from .pair import Pair
from .sameness import same

_TARGET: Final = "t-"
_SOURCE: Final = "s-"


def marked(side: Side, etag: str) -> str:
    """A side's etag as callers see it."""
    if side == "target":
        return _TARGET + etag if etag else etag
    # Else it would be taken for the target's.
    return _SOURCE + etag if etag.startswith((_TARGET, _SOURCE)) else etag


def unmarked(etag: str) -> tuple[Side, str]:
    """The side that a caller's etag is of, and the etag as that side knows it."""
    if etag.startswith(_TARGET):
        return "target", etag[len(_TARGET) :]
    if etag.startswith(_SOURCE):
        return "source", etag[len(_SOURCE) :]
    return "source", etag


async def etag_on(pair: Pair, side: Side, key: str, given: str | None) -> str | None:
    """A caller's etag as that side knows it.

    One of the other side counts where both have the same object: that is how a condition
    outlives a flip. Else it is `precondition_failed`.
    """
    if given is None:
        return None
    of, etag = unmarked(given)
    if of == side:
        return etag
    source, target = await pair.heads(key)
    here, there = (source, target) if side == "source" else (target, source)
    if here is None or there is None or there.etag != etag or not same(source, target):
        raise PreconditionFailedError(
            "the object has another version, or is not there", not_sent=True
        )
    return here.etag


__all__ = ["etag_on", "marked", "unmarked"]
