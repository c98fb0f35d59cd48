"""What of a described object a write can carry to another key or another store."""

from __future__ import annotations

from cm_platform.errors import InvalidArgumentError

from .backend import Attributes, ObjectInfo
from .keys import word


def attributes_of(info: ObjectInfo) -> Attributes:
    """The attributes with which this object is written again.

    info: as a backend told it, so that our own metadata is among it. What it names in
    `uncarried` is not in the answer.

    Raises `invalid_argument` for a header that is not ASCII.
    """
    # Other programs store headers that are not ASCII. Sent as they are they would arrive as
    # something else: metadata has a way to say them, headers have none that is sure.
    headers = {
        "content_type": info.content_type,
        "cache_control": info.cache_control,
        "content_disposition": info.content_disposition,
        "content_encoding": info.content_encoding,
        "content_language": info.content_language,
    }
    for name, value in headers.items():
        if value is not None and not value.isascii():
            raise InvalidArgumentError(
                f"the {name} of the object to copy is not ASCII, and a copy could not carry it "
                "unchanged: put the object again with one that is"
            )
    metadata = {
        name: value if value.isascii() else word(value) for name, value in info.metadata.items()
    }
    return Attributes(**headers, metadata=metadata)


__all__ = ["attributes_of"]
