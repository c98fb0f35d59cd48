"""Bytes that stand where no value is: for one on its way, for one that has gone, for a delete.

None is ever handed to a service, or to a program that counts: to stores they are no counters. All
of them end by themselves.
"""

from __future__ import annotations

import secrets
import struct
from typing import Final

_HEAD: Final = b"\x00cm-platform-"
_COMING: Final = _HEAD + b"coming\x00"
_MOVED: Final = _HEAD + b"moved\x00\x00"
_DELETED: Final = _HEAD + b"deleted\x00"
_TOKEN: Final = 8
_ENDS: Final = struct.Struct(">Q")

LONGEST: Final = 3600.0
"""Seconds that a mark stands which says that nothing is here any more: longer than anybody acts
on what the ledger said before."""

UNDER_WAY: Final = 30 * 86_400.0
"""Seconds that a place, and what was given away to it, stand. So long somebody who was moving a
value may be dead before what he had begun is lost: whoever asks for the value ends it for him."""


def coming() -> bytes:
    """A place that is held for a value on its way. Nobody else has the same bytes: they are
    replaced by exactly who put them there, or by who goes on in his place."""
    return _COMING + secrets.token_bytes(_TOKEN)


def is_coming(data: bytes | None) -> bool:
    """Whether a place is held here."""
    return data is not None and data.startswith(_COMING)


def moved(place: bytes, value: bytes | None, ends: float | None = None) -> bytes:
    """That what was here belongs to that place on the other side.

    value: what it was, so that anybody can bring it there; None for nothing. ends: Unix seconds,
    None for never.
    """
    token = place[len(_COMING) :]
    if value is None:
        return _MOVED + token
    return _MOVED + token + _ENDS.pack(0 if ends is None else max(int(ends * 1000), 1)) + value


def is_moved(data: bytes | None) -> bool:
    """Whether this side has given the key away."""
    return data is not None and data.startswith(_MOVED)


def belongs(data: bytes | None, place: bytes | None) -> bool:
    """Whether what was given away belongs to just that place, and has not arrived yet."""
    if data is None or place is None or not is_moved(data) or not is_coming(place):
        return False
    at = len(_MOVED)
    return data[at : at + _TOKEN] == place[len(_COMING) :]


def carried(data: bytes | None, place: bytes | None) -> bytes | None:
    """The value that belongs to a place, where it is under way to just that."""
    at = len(_MOVED) + _TOKEN + _ENDS.size
    return data[at:] if data is not None and belongs(data, place) and len(data) >= at else None


def ends_of(data: bytes) -> float | None:
    """When a value ends that `carried` has found, in Unix seconds; None: never."""
    ends: int = _ENDS.unpack_from(data, len(_MOVED) + _TOKEN)[0]
    return None if ends == 0 else ends / 1000


def tombstone(now: float, seconds: float) -> bytes:
    """A delete: what the other side still shows under the key does not count.

    now: Unix seconds. seconds: that it stands, by its own word, whatever the store does. It has
    a revision of its own, as a write would have.
    """
    ends = int((now + seconds) * 1000).to_bytes(8, "big")
    return _DELETED + ends + secrets.token_bytes(_TOKEN)


def is_tombstone(data: bytes, now: float) -> bool:
    """Whether this is a delete that stands, at a Unix time in seconds."""
    if not data.startswith(_DELETED):
        return False
    at = len(_DELETED)
    return int.from_bytes(data[at : at + 8], "big") > now * 1000


def is_mark(data: bytes) -> bool:
    """Whether this is no value."""
    return data.startswith(_HEAD)


__all__ = [
    "LONGEST",
    "UNDER_WAY",
    "belongs",
    "carried",
    "coming",
    "ends_of",
    "is_coming",
    "is_mark",
    "is_moved",
    "is_tombstone",
    "moved",
    "tombstone",
]
