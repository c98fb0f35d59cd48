"""Bytes that stand where no value is: for a value on its way, and for one that was deleted.

Neither is ever handed to a service. Both end by themselves, within minutes.
"""

from __future__ import annotations

import secrets
from typing import Final

_HEAD: Final = b"\x00cm-platform-"
_COMING: Final = _HEAD + b"coming\x00"
_GONE: Final = _HEAD + b"gone\x00"

COMING_TTL: Final = 60.0
"""Seconds that a value may take from one side to the other; who takes longer has not moved it."""


def coming() -> bytes:
    """A place that is held for a value on its way. Nobody else has the same bytes: they are
    replaced by exactly who put them there, and only if nobody wrote or deleted meanwhile."""
    return _COMING + secrets.token_bytes(8)


def tombstone(now: float, seconds: float) -> bytes:
    """A delete: what the other side still shows under the key does not count.

    now: Unix seconds. seconds: that it stands, by its own word, whatever the store does.
    """
    return _GONE + int((now + seconds) * 1000).to_bytes(8, "big") + secrets.token_bytes(8)


def is_mark(data: bytes) -> bool:
    """Whether this is no value."""
    return data.startswith(_HEAD)


def is_tombstone(data: bytes, now: float) -> bool:
    """Whether this is a delete that stands, at a Unix time in seconds."""
    if not data.startswith(_GONE):
        return False
    at = len(_GONE)
    return int.from_bytes(data[at : at + 8], "big") > now * 1000


__all__ = ["COMING_TTL", "coming", "is_mark", "is_tombstone", "tombstone"]
