"""What obstore can say exactly. Its paths are not S3's keys, and it changes some in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# obstore strips one slash at either end, refuses empty segments and ASCII control characters
# (object_store 0.14: Path::parse). Lone surrogates cannot be encoded.
_SEGMENT: Final = r"(?!\.\.?(?:/|\Z))[^/\x00-\x1f\x7f\ud800-\udfff]+"
_SAYABLE: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")

# obstore takes user metadata of these names for the header of that name.
_AMBIGUOUS_NAMES: Final = frozenset(
    {
        "cache-control",
        "cachecontrol",
        "content-disposition",
        "contentdisposition",
        "content-encoding",
        "contentencoding",
        "content-language",
        "contentlanguage",
        "content-type",
        "contenttype",
        "storage-class",
        "storageclass",
    }
)


def says_key(key: str) -> bool:
    """Whether obstore stores and finds exactly this key."""
    return _SAYABLE.fullmatch(key) is not None


def says_metadata(metadata: Mapping[str, str]) -> bool:
    """Whether obstore sends all of this as user metadata."""
    return not metadata or _AMBIGUOUS_NAMES.isdisjoint(metadata)


__all__ = ["says_key", "says_metadata"]
