"""Listing: a walk in the order of the keys' UTF-8 bytes, begun where a page ended. Blocking.

Strings compare here as their UTF-8 bytes do, because Python orders them by code point. A
directory sorts as its name and "/", so `a-b` < `a/b` < `a0`. A directory's own entries come
from the file system in no order: each page of one reads all its names, keeping a page of them.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nsmallest
from typing import Final, NamedTuple

from cm_platform.errors import IntegrityError, InvalidArgumentError
from cm_platform.storage.backend import BackendPage, ListedObject

from . import sidecar
from .paths import CONTINUED, SIDECAR, check_text, decode, directory_of

DAMAGED: Final = ""
"""The etag with which a damaged object is listed: no object has it."""

_BATCH: Final = 1001
_CHECK_SIZE: Final = 8


def page(
    top: str,
    prefix: str,
    *,
    delimiter: str | None,
    cursor: str | None,
    limit: int,
    check_there: Callable[[], None],
) -> BackendPage:
    """One page of the keys below the directory `top`; see `StorageBackend.list`."""
    check_text(prefix)
    after = "" if cursor is None else _read_cursor(cursor, prefix, delimiter)
    objects: list[ListedObject] = []
    prefixes: list[str] = []
    last = after
    for entry in _Walk(prefix, after, deep=delimiter is None).entries(top):
        if len(objects) + len(prefixes) == limit:
            return BackendPage(objects, prefixes, _make_cursor(last, prefix, delimiter))
        last = entry.name
        if entry.is_directory:
            prefixes.append(entry.name)
        elif (listed := _described(entry)) is not None:
            objects.append(listed)
    if not objects and not prefixes:
        check_there()
    return BackendPage(objects, prefixes)


def _described(entry: _Entry) -> ListedObject | None:
    try:
        info = sidecar.read(entry.path, entry.name)
    except IntegrityError:
        # Its name is all that is known, and enough to delete it or put it again. To raise would
        # hide everything that comes after it, and to pass it over would hide the damage.
        return ListedObject(entry.name, 0, DAMAGED)
    if info is None:
        return None  # Deleted since its directory was read.
    return ListedObject(info.key, info.size, info.etag, info.last_modified)


class _Entry(NamedTuple):
    name: str
    """The key; of a directory, what its keys begin with, up to and including the "/"."""
    is_directory: bool
    path: str
    """The sidecar; of a directory, itself."""


@dataclass(frozen=True, slots=True)
class _Walk:
    """In order, what starts with `prefix` and comes after `after`.

    deep: go into directories; else they are entries, unless nothing is in them.
    """

    prefix: str
    after: str
    deep: bool

    def entries(self, top: str) -> Iterator[_Entry]:
        begin = self.prefix[: self.prefix.rfind("/") + 1]
        # A stack, not recursion: a key can be a thousand directories deep.
        levels = [self._level(directory_of(top, begin), begin)]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif not entry.is_directory:
                yield entry
            elif self.deep:
                levels.append(self._level(entry.path, entry.name))
            elif _holds_object(entry.path):
                yield entry

    def _level(self, directory: str, begin: str) -> Iterator[_Entry]:
        beyond = ""
        while True:
            batch = nsmallest(
                _BATCH,
                (
                    entry
                    for entry in self._read(directory, begin)
                    if entry.name > beyond and self._is_wanted(entry)
                ),
            )
            for entry in batch:
                # A file system may tell a name twice that is replaced while it is read.
                if entry.name != beyond:
                    yield entry
                beyond = entry.name
            if len(batch) < _BATCH:
                return

    def _is_wanted(self, entry: _Entry) -> bool:
        if not entry.name.startswith(self.prefix):
            return False
        if entry.name > self.after:
            return True
        return self.deep and entry.is_directory and self.after.startswith(entry.name)

    def _may_hold(self, begin: str) -> bool:
        if not (begin.startswith(self.prefix) or self.prefix.startswith(begin)):
            return False
        return begin > self.after or self.after.startswith(begin)

    def _read(self, directory: str, begin: str) -> Iterator[_Entry]:
        unread = [(directory, begin)]
        while unread:
            path, begin = unread.pop()
            for file, is_directory in _names(path):
                if file.endswith(SIDECAR) and not is_directory:
                    if (piece := decode(file[: -len(SIDECAR)])) is not None:
                        yield _Entry(begin + piece, False, f"{path}/{file}")
                elif "~" in file or not is_directory:
                    continue
                elif not file.endswith(CONTINUED):
                    if (piece := decode(file)) is not None:
                        yield _Entry(f"{begin}{piece}/", True, f"{path}/{file}")
                elif (piece := decode(file[: -len(CONTINUED)])) is not None and self._may_hold(
                    begin + piece
                ):
                    unread.append((f"{path}/{file}", begin + piece))


def _names(directory: str) -> Iterator[tuple[str, bool]]:
    try:
        entries = os.scandir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return  # Pruned since, or a file that somebody else put here.
    with entries:
        for entry in entries:
            # A link is never ours, and could lead anywhere, also back to here.
            if not entry.is_symlink():
                yield entry.name, entry.is_dir(follow_symlinks=False)


def _holds_object(directory: str) -> bool:
    unread = [directory]
    while unread:
        path = unread.pop()
        for file, is_directory in _names(path):
            if file.endswith(SIDECAR) and not is_directory:
                return True
            if "~" not in file and is_directory:
                unread.append(f"{path}/{file}")
    return False


def _make_cursor(last: str, prefix: str, delimiter: str | None) -> str:
    name = last.encode()
    return base64.urlsafe_b64encode(_check(name, prefix, delimiter) + name).decode()


def _read_cursor(cursor: str, prefix: str, delimiter: str | None) -> str:
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        check, name = raw[:_CHECK_SIZE], raw[_CHECK_SIZE:]
        if check == _check(name, prefix, delimiter):
            return name.decode()
    except ValueError:
        pass
    raise InvalidArgumentError(
        "this cursor was not made by a listing with the same prefix and delimiter"
    )


def _check(name: bytes, prefix: str, delimiter: str | None) -> bytes:
    # Tells a cursor of another listing from ours. Not a secret: a cursor gives no access.
    question = f"{len(prefix)}:{prefix}{delimiter or ''}".encode()
    return blake2b(name, digest_size=_CHECK_SIZE, key=blake2b(question).digest()).digest()


__all__ = ["DAMAGED", "page"]
