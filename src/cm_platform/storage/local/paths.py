"""How a key becomes a path: injective, readable, and never outside of its root.

Each segment of a key is a directory, the last one a stem that several files share:

    photos/2024/cat.jpg   ->  photos/2024/cat.jpg~object.json     the sidecar
                              photos/2024/cat.jpg~<version>.data  the bytes

`[a-z0-9._-]` stays as it is; every other byte of UTF-8 is written `%xx`. So names survive file
systems that fold case or normalise accents. Four characters that are always escaped are free to
mean something: `~` begins what only files have, `=` is an empty segment, a trailing `+` says
that a long segment goes on in the directory's entries, and `%` escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cm_platform.errors import InvalidArgumentError

SIDECAR: Final = "~object.json"
CONTINUED: Final = "+"
MAX_NAME: Final = 200
"""Characters of an encoded name before it goes on in a subdirectory. File systems allow 255
bytes; escaped dots (4) and the longest suffix (30) must fit as well."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where an object's files are. directory, stem: the stem lies in the directory."""

    directory: str
    stem: str

    @property
    def sidecar(self) -> str:
        """Names the version that counts; replaced atomically."""
        return f"{self.directory}/{self.stem}{SIDECAR}"

    def data(self, version: str) -> str:
        """The bytes of one version; written once, never changed."""
        return f"{self.directory}/{self.stem}~{version}.data"

    def draft(self, version: str) -> str:
        """The sidecar of a version that is not committed yet."""
        return f"{self.directory}/{self.stem}~{version}.draft"


def locate(top: str, key: str) -> Location:
    """Where the files of a key are, below the directory `top`."""
    check_text(key)
    *directories, stem = _components(key.split("/"))
    return Location("/".join((top, *directories)), stem)


def directory_of(top: str, begin: str) -> str:
    """The directory of the keys that start with `begin`, which is empty or ends with "/"."""
    check_text(begin)
    return "/".join((top, *_components(begin.split("/")[:-1])))


def decode(name: str) -> str | None:
    """The piece of a segment that a name stands for; None for a name that is not ours."""
    if _PLAIN.fullmatch(name) is not None:
        return name
    if name == _EMPTY:
        return ""
    try:
        raw = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), name).encode("latin-1")
        piece = raw.decode()
    except UnicodeError:
        return None
    return piece if _escape(piece) == name else None


def check_text(text: str) -> None:
    """`invalid_argument` for a key or prefix that has no UTF-8 form."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            "a key must be text that UTF-8 can say; this one holds half of a surrogate pair"
        ) from None


_EMPTY: Final = "="
_PLAIN: Final = re.compile(r"[a-z0-9_-](?:[a-z0-9._-]*[a-z0-9_-])?")
_ESCAPE: Final = re.compile(r"%([0-9a-f]{2})")
_SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")


def _components(segments: Iterable[str]) -> list[str]:
    found: list[str] = []
    for segment in segments:
        if len(segment) <= MAX_NAME and _PLAIN.fullmatch(segment) is not None:
            found.append(segment)
        else:
            found += _split(segment)
    return found


def _split(segment: str) -> list[str]:
    names: list[str] = []
    begin, length = 0, 0
    for at, character in enumerate(segment):
        cost = 1 if character in _SAFE else 3 * len(character.encode())
        if length + cost > MAX_NAME:
            names.append(_escape(segment[begin:at]) + CONTINUED)
            begin, length = at, 0
        length += cost
    names.append(_escape(segment[begin:]))
    return names


def _escape(piece: str) -> str:
    if not piece:
        return _EMPTY
    last = len(piece) - 1
    return "".join(
        # A name never begins or ends with a dot: `..` leaves the directory, `.x` is hidden, and
        # some file systems drop a trailing one.
        character
        if character in _SAFE and not (character == "." and at in (0, last))
        else "".join(f"%{byte:02x}" for byte in character.encode())
        for at, character in enumerate(piece)
    )


__all__ = [
    "CONTINUED",
    "MAX_NAME",
    "SIDECAR",
    "Location",
    "check_text",
    "decode",
    "directory_of",
    "locate",
]
