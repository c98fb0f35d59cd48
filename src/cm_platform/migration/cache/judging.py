"""What bytes on a side count for, and how they are handed out.

An entry is judged by the generation of the side that it is on, and handed out under that of the
authority: else a flush of the target would make everything outdated that is still on the source.
"""

from __future__ import annotations

from typing import Final

from cm_platform.cache.entry import HEADER, MARK, STAMP, decode
from cm_platform.cache.generation import parse
from cm_platform.errors import IntegrityError
from cm_platform.migration.ledger import Side

from .marks import is_mark
from .pair import Pair
from .standing import Standing

_WIDTH: Final = STAMP.stop - STAMP.start


def version_of(data: bytes | None) -> int | None:
    """A version as a store has it; None where there is none. `integrity` for what is none."""
    return None if data is None or is_mark(data) else parse(data)


def own_generation(pair: Pair, standing: Standing, side: Side, kept: bytes | None) -> int | None:
    """Which generation an entry on a side must have; None where it was lost, and none counts.

    kept: what the side has as its generation.
    """
    found = version_of(kept)
    floor = standing.floor if side == "target" else 0
    if found is None or found < floor:
        # What is lower is of before the flush: as good as none.
        return None if pair.backend(side).evicts else floor
    return found


def is_entry(data: bytes) -> bool:
    """Whether this has the head of an entry."""
    return len(data) >= HEADER.size and data[0] == MARK


def counts(data: bytes, generation: int | None, now: float, scope: int) -> bool:
    """Whether an entry is neither outdated nor expired, at a Unix time in seconds.

    What is no entry of ours, or of another scope, counts: the service refuses it.
    """
    if not is_entry(data):
        return not is_mark(data)
    _, _, stamp, its_scope, _, expires = HEADER.unpack_from(data)
    if its_scope != scope:
        return True
    return generation is not None and stamp >= generation and not 0 < expires <= now * 1000


def restamped(data: bytes, generation: int | None, scope: int) -> bytes:
    """The entry under a generation, if its own is lower; what is of another scope as it is."""
    if generation is None or not is_entry(data):
        return data
    _, _, stamp, its_scope, _, _ = HEADER.unpack_from(data)
    if its_scope != scope or stamp >= generation:
        return data
    return stamped(data, generation)


def stamped(data: bytes, generation: int) -> bytes:
    """The entry under exactly this generation."""
    return data[: STAMP.start] + generation.to_bytes(_WIDTH, "big") + data[STAMP.stop :]


def copied(data: bytes) -> bytes:
    """A copy of an entry that counts nowhere: under a generation that is below all."""
    return stamped(data, 0)


def seconds_left(data: bytes, now: float) -> float | None:
    """Seconds until an entry ends; None: never, or it does not say."""
    if not is_entry(data):
        return None
    expires: int = HEADER.unpack_from(data)[5]
    return None if expires == 0 else max(expires / 1000 - now, 0.001)


def tags_of(data: bytes) -> tuple[str, ...]:
    """The tags of an entry; none for what is no entry."""
    try:
        return tuple(tag for tag, _ in decode(data).tags)
    except IntegrityError:
        return ()


__all__ = [
    "copied",
    "counts",
    "is_entry",
    "own_generation",
    "restamped",
    "seconds_left",
    "stamped",
    "tags_of",
    "version_of",
]
