"""What S3's answers tell of an object that no write of ours can say.

HeadObject and GetObject tell the same (Amazon S3 API reference, read 2026-11): the storage class
unless it is STANDARD; the number of tags, the retention and the legal hold only to whoever may
read those. They tell nothing of access control lists, annotations and older versions. That an
object has a version, a lifecycle rule or a replica says something about its bucket, not about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cm_platform.storage.backend import Uncarried

_SSE: Final = "x-amz-server-side-encryption"

# The header, and the values with which it says that there is nothing.
_HEADERS: Final[Mapping[str, tuple[Uncarried, frozenset[str]]]] = {
    "x-amz-storage-class": (Uncarried.STORAGE_CLASS, frozenset({"STANDARD"})),
    "expires": (Uncarried.EXPIRES, frozenset[str]()),
    "x-amz-website-redirect-location": (Uncarried.WEBSITE_REDIRECT, frozenset[str]()),
    "x-amz-tagging-count": (Uncarried.TAGS, frozenset({"0"})),
    "x-amz-object-lock-mode": (Uncarried.OBJECT_LOCK, frozenset[str]()),
    "x-amz-object-lock-legal-hold": (Uncarried.OBJECT_LOCK, frozenset({"OFF"})),
    "x-amz-object-lock-event-hold": (Uncarried.OBJECT_LOCK, frozenset({"OFF"})),
    # With S3's own key, which every object has since 2023; the rest are keys of somebody's.
    _SSE: (Uncarried.ENCRYPTION, frozenset({"AES256"})),
    f"{_SSE}-customer-algorithm": (Uncarried.ENCRYPTION, frozenset[str]()),
    "x-amz-missing-meta": (Uncarried.METADATA, frozenset({"0"})),
}


def uncarried_in(headers: Mapping[str, str]) -> frozenset[str]:
    """The names of what these headers tell. headers: of an answer, by lower-case names."""
    return frozenset(
        name
        for header, (name, nothing) in _HEADERS.items()
        if (value := headers.get(header)) and value not in nothing
    )


__all__ = ["uncarried_in"]
