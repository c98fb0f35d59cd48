"""The listings of a simulated store, page by page, with cursors that are its own."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from typing import Literal

from cm_platform.errors import InvalidArgumentError
from cm_platform.storage.backend import BackendPage, ListedObject

from .store import SimulatedStore


def page(
    store: SimulatedStore,
    prefix: str,
    delimiter: Literal["/"] | None,
    cursor: str | None,
    limit: int,
) -> BackendPage:
    """A page of keys in order. limit: 0 gives an empty one, with a cursor if there is more."""
    # The order of code points is that of their UTF-8 bytes.
    keys = sorted(key for key in store.objects if key.startswith(prefix))
    last, index = "", 0
    if cursor is not None:
        last = _opened(store, prefix, delimiter, cursor)
        index = bisect_right(keys, last)
        if last and delimiter and last.find(delimiter, len(prefix)) == len(last) - 1:
            # The page before ended with a common prefix, and that tells all that is below it.
            index = _beyond(keys, last, index)
    objects: list[ListedObject] = []
    prefixes: list[str] = []
    while index < len(keys):
        if len(objects) + len(prefixes) >= limit:
            return BackendPage(objects, prefixes, _sealed(store, prefix, delimiter, last))
        last = keys[index]
        cut = -1 if delimiter is None else last.find(delimiter, len(prefix))
        if cut < 0:
            info = store.objects[last].info
            objects.append(ListedObject(last, info.size, info.etag, info.last_modified))
            index += 1
        else:
            last = last[: cut + 1]
            prefixes.append(last)
            index = _beyond(keys, last, index)
    return BackendPage(objects, prefixes)


def _beyond(keys: list[str], beginning: str, index: int) -> int:
    """The index of the first key after all that begin so."""
    return bisect_left(
        keys, True, index, key=lambda key: key > beginning and not key.startswith(beginning)
    )


def _sealed(store: SimulatedStore, prefix: str, delimiter: str | None, last: str) -> str:
    return f"{_seal(store, prefix, delimiter, last)}.{last}"


def _opened(store: SimulatedStore, prefix: str, delimiter: str | None, cursor: str) -> str:
    seal, _, last = cursor.partition(".")
    if seal != _seal(store, prefix, delimiter, last):
        raise InvalidArgumentError("this listing did not make that cursor")
    return last


def _seal(store: SimulatedStore, prefix: str, delimiter: str | None, last: str) -> str:
    told = "\x00".join((prefix, delimiter or "", last)).encode()
    return hashlib.blake2b(told, key=store.salt, digest_size=6).hexdigest()


__all__ = ["page"]
