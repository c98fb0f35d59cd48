"""The form in which a value is kept: its expiry, its generation, its tags, then its bytes.

    byte 0        0xC5, the mark of this form
    byte 1        bits 0-3 the encoding of the value, bit 4 has tags, bit 5 has a token,
                  bit 6 is stale before it expires
    bytes 2-9     stamp: the generation of its namespace when it was written
    bytes 10-17   scope: whose entry it is; see `scope_of`
    bytes 18-25   fresh until: Unix milliseconds, 0 for ever
    bytes 26-33   expires: Unix milliseconds, 0 never
    then          the token (8 bytes), the tags (a count, then name and version of each), the value

Numbers are unsigned and big endian, so that entries of one key compare by stamp as bytes do:
counters are kept by scripts inside the stores, which know bytes 0-33 and no more.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import Final, NamedTuple

from cm_platform.errors import IntegrityError

MARK: Final = 0xC5
HEADER: Final = struct.Struct(">BBQQQQ")
STAMP: Final = slice(2, 10)
HEAD: Final = struct.Struct(">BBQQ")
"""Mark, flags, stamp and scope: what entries of one kind and generation begin with."""
TOKEN_SIZE: Final = 8

_ENCODING: Final = 0x0F
_TAGS: Final = 0x10
_TOKEN: Final = 0x20
_STALE: Final = 0x40
_VERSION: Final = struct.Struct(">Q")

_unpack = HEADER.unpack_from


class Encoding(IntEnum):
    """How the value became bytes."""

    BYTES = 0
    STR = 1
    JSON = 2
    COUNTER = 3
    """A decimal integer, as text."""


class Entry(NamedTuple):
    """A value as it is kept.

    stamp: a hit needs one that is not below the namespace's generation.
    fresh_until, expires: Unix milliseconds; 0: for ever. In between, the value is stale.
    tags: names, with the version that each had when the value was written.
    token: tells this write from any other with the same value.
    scope: of the tenant and the namespace that it belongs to.
    """

    encoding: int
    stamp: int
    fresh_until: int
    expires: int
    payload: bytes
    tags: tuple[tuple[str, int], ...] = ()
    token: bytes = b""
    scope: int = 0

    def is_stale(self, now: float) -> bool:
        """Whether, at a Unix time in seconds, it is past its ttl and not yet expired.

        Without a stale time its end is its end: the store, or the reading of it, sees to that.
        """
        return self.fresh_until != self.expires and self.fresh_until <= now * 1000


def encode(entry: Entry) -> bytes:
    """The bytes of an entry."""
    encoding, stamp, fresh_until, expires, payload, tags, token, scope = entry
    flags = encoding if fresh_until == expires else encoding | _STALE
    if not tags and not token:
        return HEADER.pack(MARK, flags, stamp, scope, fresh_until, expires) + payload
    flags |= (_TAGS if tags else 0) | (_TOKEN if token else 0)
    parts = [HEADER.pack(MARK, flags, stamp, scope, fresh_until, expires), token]
    if tags:
        parts.append(bytes((len(tags),)))
        for name, version in tags:
            encoded = name.encode()
            parts += (bytes((len(encoded),)), encoded, _VERSION.pack(version))
    parts.append(payload)
    return b"".join(parts)


def decode(data: bytes) -> Entry:
    """The entry; `integrity` for bytes that are none: some other program's, or cut."""
    try:
        mark, flags, stamp, scope, fresh_until, expires = _unpack(data)
    except struct.error:
        raise not_an_entry() from None
    if (
        mark != MARK
        or flags & _ENCODING > Encoding.COUNTER
        or flags & 0x80
        or (flags & _STALE != 0) != (fresh_until != expires)
    ):
        raise not_an_entry()
    if not flags & (_TAGS | _TOKEN):
        encoding, payload = flags & _ENCODING, data[HEADER.size :]
        return Entry(encoding, stamp, fresh_until, expires, payload, scope=scope)
    payload, tags, token = _parted(data, flags)
    return Entry(flags & _ENCODING, stamp, fresh_until, expires, payload, tags, token, scope)


def scope_of(partition: str, namespace: str) -> int:
    """Whose an entry is, in 64 bits.

    A store, a proxy or a client that mixes up its replies could hand one tenant another's value.
    It stands in the entry, so that it is noticed.
    """
    # The length keeps the two apart. Not a secret: it is no protection from who can write.
    text = f"{len(partition)}:{partition}{namespace}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


_Parts = tuple[bytes, tuple[tuple[str, int], ...], bytes]


def _parted(data: bytes, flags: int) -> _Parts:
    """Value, tags and token of an entry that has more than a value."""
    at = HEADER.size
    token = b""
    tags: list[tuple[str, int]] = []
    try:
        if flags & _TOKEN:
            token = data[at : at + TOKEN_SIZE]
            at += TOKEN_SIZE
        if flags & _TAGS:
            count = data[at]
            at += 1
            for _ in range(count):
                end = at + 1 + data[at]
                tags.append((data[at + 1 : end].decode(), _VERSION.unpack_from(data, end)[0]))
                at = end + _VERSION.size
    except (IndexError, struct.error, UnicodeDecodeError):
        raise not_an_entry() from None
    if at > len(data):
        raise not_an_entry()
    return data[at:], tuple(tags), token


def not_an_entry() -> IntegrityError:
    """The error for bytes that some other program wrote, or that were cut."""
    return IntegrityError(
        "what is kept under this key was not written by this library: share keys with other "
        'programs in a namespace with encoding = "raw"'
    )


__all__ = [
    "HEAD",
    "HEADER",
    "MARK",
    "STAMP",
    "TOKEN_SIZE",
    "Encoding",
    "Entry",
    "decode",
    "encode",
    "not_an_entry",
    "scope_of",
]
