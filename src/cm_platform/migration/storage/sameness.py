"""When two objects on two backends are the same: by revision, never by etag or time alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Final

from cm_platform.migration.ledger import Side
from cm_platform.storage.attributes import attributes_of
from cm_platform.storage.backend import REVISION, SHA256, Attributes, ObjectInfo
from cm_platform.storage.keys import word

FOREIGN: Final = "foreign-"
"""What revisions begin with that we gave to objects which others wrote."""


def revision_of(side: Side, info: ObjectInfo) -> str:
    """The revision of an object: its own, or one made of all that its store says of it.

    Objects that other programs wrote carry none. Theirs is different on each side and changes
    with whatever anybody can see of the object, so two of them are never the same by accident.
    A copy carries its original's.
    """
    if (found := info.metadata.get(REVISION)) is not None:
        return found
    modified = None if info.last_modified is None else info.last_modified.isoformat()
    told = (
        side,
        info.etag,
        info.size,
        modified,
        info.content_type,
        info.cache_control,
        info.content_disposition,
        info.content_encoding,
        info.content_language,
        sorted(info.metadata.items()),
    )
    return FOREIGN + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:40]


def same(one: ObjectInfo | None, other: ObjectInfo | None) -> bool:
    """Whether the source's object and the target's are the same write, or both are absent."""
    if one is None or other is None:
        return one is other
    return (
        one.size == other.size
        and one.metadata.get(SHA256) == other.metadata.get(SHA256)
        and revision_of("source", one) == revision_of("target", other)
    )


def carried(side: Side, info: ObjectInfo) -> Attributes:
    """What a copy of an object on that side has to say of itself.

    Raises `invalid_argument` for what cannot be carried unchanged.
    """
    attributes = attributes_of(info)
    if REVISION in attributes.metadata:
        return attributes
    marked = {**attributes.metadata, REVISION: revision_of(side, info)}
    return replace(attributes, metadata=marked)


def difference(one: ObjectInfo | None, other: ObjectInfo | None) -> str | None:
    """In which way the source's object differs from the target's, in a word; None if it does
    not. Stricter than `same`: attributes count, too."""
    if one is None or other is None:
        if one is other:
            return None
        return "missing on the source" if one is None else "missing on the target"
    if one.size != other.size:
        return "size"
    if one.metadata.get(SHA256) != other.metadata.get(SHA256):
        return "digest"
    if revision_of("source", one) != revision_of("target", other):
        return "revision"
    if _told(one) != _told(other):
        return "metadata"
    return None


def _told(info: ObjectInfo) -> tuple[object, ...]:
    # As `carried` says it: what others stored in another encoding, a copy has in words.
    metadata = {
        name: value if value.isascii() else word(value)
        for name, value in info.metadata.items()
        if name != REVISION
    }
    return (
        # Where nothing was said, a store says something of its own.
        info.content_type or "application/octet-stream",
        info.cache_control,
        info.content_disposition,
        info.content_encoding,
        info.content_language,
        metadata,
    )


__all__ = ["FOREIGN", "carried", "difference", "revision_of", "same"]
