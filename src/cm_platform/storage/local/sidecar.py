"""The sidecar: a JSON file that names an object's current version and describes it."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from typing import Any, Final, cast

from cm_platform.errors import IntegrityError
from cm_platform.storage.backend import Attributes, ObjectInfo

from .files import read_file

FORMAT: Final = 1


def new_version() -> str:
    """A name for a version that no other has: etag, file name and upload id at once."""
    return os.urandom(12).hex()


def is_version(text: object) -> bool:
    """Whether `new_version` may have made it, so that it is safe in a path."""
    return isinstance(text, str) and _VERSION.fullmatch(text) is not None


def describe(
    key: str, *, size: int, version: str, last_modified: datetime, attributes: Attributes
) -> ObjectInfo:
    """What is known of a version."""
    return ObjectInfo(
        key=key,
        size=size,
        etag=version,
        last_modified=last_modified,
        **attribute_fields(attributes),
    )


def attribute_fields(stored: Attributes | ObjectInfo) -> dict[str, Any]:
    """The fields of `Attributes` as JSON-ready data."""
    fields = {name: getattr(stored, name) for name in _ATTRIBUTES}
    return {**fields, "metadata": dict(stored.metadata)}


def encode(info: ObjectInfo) -> bytes:
    """The sidecar's bytes. `last_modified` must be known."""
    assert info.last_modified is not None  # noqa: S101 - for the type checker: we always set it
    fields: dict[str, Any] = {
        "format": FORMAT,
        "key": info.key,
        "version": info.etag,
        "size": info.size,
        "last_modified": info.last_modified.isoformat(),
        "attributes": attribute_fields(info),
    }
    return json.dumps(fields).encode()


def read(path: str, key: str) -> ObjectInfo | None:
    """The object whose sidecar this is; None without one, `integrity` for a damaged one."""
    try:
        text = read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fields = json.loads(text)
        if fields["format"] == FORMAT and fields["key"] == key and is_version(fields["version"]):
            return describe(
                key,
                size=_size(fields["size"]),
                version=fields["version"],
                last_modified=_time(fields["last_modified"]),
                attributes=attributes_of(fields["attributes"]),
            )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged() from error
    raise _damaged()


def attributes_of(fields: Any) -> Attributes:
    """What `attribute_fields` made; TypeError for anything else."""
    attributes = Attributes(**fields)
    if not all(_is_text_or_none(getattr(attributes, name)) for name in _ATTRIBUTES):
        raise TypeError("an attribute is text or nothing")
    metadata: object = attributes.metadata
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in cast("dict[str, object]", metadata).values()
    ):
        raise TypeError("metadata is text by name")
    return attributes


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _size(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("a size is a number of bytes")
    return value


def _time(value: str) -> datetime:
    found = datetime.fromisoformat(value)
    if found.utcoffset() is None:
        raise ValueError("a time without its zone")
    return found


_VERSION: Final = re.compile(r"[0-9a-f]{24}")
_ATTRIBUTES: Final = (
    "content_type",
    "cache_control",
    "content_disposition",
    "content_encoding",
    "content_language",
)


def _damaged() -> IntegrityError:
    return IntegrityError(
        "an object's sidecar is damaged or belongs to another key; put the object again, "
        "or delete it"
    )


__all__ = [
    "FORMAT",
    "attribute_fields",
    "attributes_of",
    "describe",
    "encode",
    "is_version",
    "new_version",
    "read",
]
