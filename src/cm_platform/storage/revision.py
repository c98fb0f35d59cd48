"""Under which condition a write happens, and how to know our own write again.

Every write carries a revision of its own in the metadata. When a reply is lost, a look at the
revision tells whether the write landed.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cm_platform.errors import InvalidArgumentError
from cm_platform.operation import NOT_LANDED, UNKNOWN, Outcome, Resolve

from .backend import (
    REVISION,
    SHA256,
    ObjectInfo,
    StorageBackend,
    StorageCapability,
    StorageLimits,
    Written,
)
from .keys import matches, metadata_size

# S3's signatures bind our clock and the store's to within 15 minutes of each other.
_SKEW: Final = 15 * 60.0

_ETAG: Final = re.compile(r"(?!W/|\*\Z)[!#-~]+")


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the target for a write to happen."""

    if_none_match: bool = False
    if_match: str | None = None

    @classmethod
    def of(cls, if_none_match: str | None, if_match: str | None) -> Condition:
        """From the caller's arguments; `invalid_argument` for what no store can do."""
        if if_none_match not in (None, "*"):
            raise InvalidArgumentError(
                'if_none_match takes "*" (write only if there is nothing) or None'
            )
        if if_none_match and if_match is not None:
            raise InvalidArgumentError("if_none_match and if_match exclude each other")
        check_etag(if_match)
        return (
            UNCONDITIONAL
            if not if_none_match and if_match is None
            else cls(bool(if_none_match), if_match)
        )

    @property
    def requires(self) -> StorageCapability | None:
        """The capability that a put under this condition needs."""
        if self.if_none_match:
            return StorageCapability.CONDITIONAL_CREATE
        return StorageCapability.CONDITIONAL_REPLACE if self.if_match is not None else None


UNCONDITIONAL: Final = Condition()


def check_etag(etag: str | None) -> None:
    """`invalid_argument` for what is not the etag of an `ObjectInfo`."""
    # It goes into a header, where a line break would begin another one.
    if etag is not None and not matches(_ETAG, etag):
        raise InvalidArgumentError(
            "if_match takes the etag of an ObjectInfo, as it is: without quotes, not '*'"
        )


def new_revision() -> str:
    """32 hex digits, unique per write; begins with the time, for people who look."""
    # Unique, not secret; re-seeded in a forked child by the standard library.
    return f"{time.time_ns():016x}{random.getrandbits(64):016x}"


def revised(
    given: Mapping[str, str], revision: str, sha256: str | None, limits: StorageLimits
) -> Mapping[str, str]:
    """The metadata with our own added; `invalid_argument` when that is too large."""
    metadata = {**given, REVISION: revision}
    if sha256 is not None:
        metadata[SHA256] = sha256
    if given and (size := metadata_size(metadata)) > limits.max_metadata:
        ours = metadata_size(metadata) - metadata_size(given)
        raise InvalidArgumentError(
            f"metadata may have {limits.max_metadata} bytes of names and encoded values on this "
            f"backend, {ours} of them ours; this has {size}"
        )
    return metadata


def landed(key: str, revision: str) -> Resolve:
    """Looks whether the object at the key is the write of that revision."""
    began = time.time()

    async def look(backend: StorageBackend) -> Any:
        found = await backend.head(key)
        if found.metadata.get(REVISION) == revision:
            return Written(found.etag, found.last_modified)
        return _by_age(found, began)

    return Resolve(look)


def removed(key: str) -> Resolve:
    """Looks whether there is nothing at the key, which is all that a deletion wants."""
    began = time.time()

    async def look(backend: StorageBackend) -> Any:
        return _by_age(await backend.head(key), began)

    return Resolve(look, absent=None)


def _by_age(found: ObjectInfo, began: float) -> Outcome:
    modified = found.last_modified
    if modified is not None and modified.timestamp() < began - _SKEW:
        # What is there is older than our request, so the request did nothing to it.
        return NOT_LANDED
    return UNKNOWN


__all__ = [
    "UNCONDITIONAL",
    "Condition",
    "check_etag",
    "landed",
    "new_revision",
    "removed",
    "revised",
]
