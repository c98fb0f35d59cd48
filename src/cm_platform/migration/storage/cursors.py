"""Cursors of a listing that may go on at the other side.

A flip changes who is listed. A cursor of before says how far the listing had come, and the other
side is listed from its beginning up to there, unseen: pages may be empty.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import cast

from cm_platform.errors import InvalidArgumentError
from cm_platform.migration.ledger import Side
from cm_platform.storage.backend import BackendPage


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listing stands. cursor: that side's own. after: the last key that was answered."""

    side: Side
    cursor: str | None = None
    after: str = ""

    @classmethod
    def read(cls, text: str | None, side: Side) -> Place:
        """Where to go on, on that side; `invalid_argument` for what `text` did not make."""
        if text is None:
            return cls(side)
        try:
            found: object = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, list):
            parts = cast("list[object]", found)
            match parts:
                case ["source" | "target" as of, str() | None as cursor, str() as after]:
                    return cls(side, cursor if of == side else None, after)
                case _:
                    pass
        raise InvalidArgumentError("a listing has another cursor: begin it anew")

    def passed(self, page: BackendPage) -> BackendPage:
        """The page without what was answered before, its cursor saying where that leaves us."""
        # Text is ordered by code points, which is the order of its UTF-8 bytes.
        objects = [found for found in page.objects if found.key > self.after]
        prefixes = [found for found in page.prefixes if found > self.after]
        after = max([self.after, *(found.key for found in objects[-1:]), *prefixes[-1:]])
        cursor = None
        if page.cursor is not None:
            cursor = json.dumps([self.side, page.cursor, after])
        return BackendPage(objects, prefixes, cursor)


__all__ = ["Place"]
