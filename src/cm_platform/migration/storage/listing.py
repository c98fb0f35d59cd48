"""All keys of a tenant on one side, page by page, from where somebody stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from cm_platform.errors import InvalidArgumentError
from cm_platform.migration.ledger import Side
from cm_platform.migration.persistence import persist
from cm_platform.storage.backend import BackendPage, ListedObject

from .pair import Pair

PAGE: Final = 500
_ANEW: Final = 3


@dataclass(frozen=True, slots=True)
class Listed:
    """Objects of a page. cursor: where the next begins, None after the last."""

    objects: tuple[ListedObject, ...]
    cursor: str | None


async def pages(
    pair: Pair, side: Side, prefix: str, cursor: str | None = None, *, size: int = PAGE
) -> AsyncIterator[Listed]:
    """A side's pages. A cursor that the store does not know any more begins anew, three times."""
    limit = min(size, pair.backend(side).limits.max_page)

    async def page(at: str | None) -> BackendPage:
        return await pair.on(
            side, lambda backend: backend.list(prefix, delimiter=None, cursor=at, limit=limit)
        )

    begun = 0
    while True:
        at = cursor
        try:
            found = await persist(pair.runtime, page, at)
        except InvalidArgumentError:
            begun += 1
            if cursor is None or begun > _ANEW:
                raise
            cursor = None
            continue
        yield Listed(tuple(found.objects), found.cursor)
        cursor = found.cursor
        if cursor is None:
            return


async def keys(pair: Pair, side: Side, prefix: str) -> AsyncIterator[ListedObject]:
    """A side's objects, one by one, in order, also where the listing was begun anew."""
    last = ""
    async for page in pages(pair, side, prefix):
        for found in page.objects:
            if found.key > last:
                last = found.key
                yield found


async def merged(pair: Pair, prefix: str) -> AsyncIterator[tuple[str, int | None, int | None]]:
    """The keys of both sides, each once, in order, with the source's size and the target's."""
    left, right = keys(pair, "source", prefix), keys(pair, "target", prefix)
    one, other = await anext(left, None), await anext(right, None)
    while True:
        if one is not None and (other is None or one.key < other.key):
            yield one.key, one.size, None
            one = await anext(left, None)
        elif one is not None and other is not None and one.key == other.key:
            yield one.key, one.size, other.size
            one, other = await anext(left, None), await anext(right, None)
        elif other is not None:
            yield other.key, None, other.size
            other = await anext(right, None)
        else:
            return


__all__ = ["PAGE", "Listed", "keys", "merged", "pages"]
