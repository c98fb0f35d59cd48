"""The state of one simulated object store: what its server does, each thing at once.

As strict as the strictest of the stores that it stands for, and as little helpful: etags are no
MD5, differ from store to store, and are those of the bytes alone, so that the same bytes with
other metadata have the same etag. A write is not told when it happened.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from cm_platform.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
)
from cm_platform.storage.backend import (
    NO_METADATA,
    REVISION,
    Attributes,
    ObjectInfo,
    StorageLimits,
    Written,
)

from .uploads import Uploads

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class Stored:
    """A version of an object."""

    info: ObjectInfo
    body: bytes = field(repr=False)


class SimulatedStore:
    """A store, which any number of `SimulatedStorage` share.

    name: salts its etags and cursors. now: its clock, seconds since 1970-01-01 UTC.
    unique_etags: each write has an etag of its own, whatever its bytes.
    objects: what is stored, by key. uploads: what is under way. signed: what was presigned.
    uncarried: what else is kept with an object, by key; see `Uncarried`.
    made: how many versions, parts and uploads there were.
    """

    def __init__(
        self,
        name: str,
        now: Callable[[], float],
        *,
        limits: StorageLimits,
        unique_etags: bool = False,
    ) -> None:
        self.name = name
        self.limits = limits
        self.objects: dict[str, Stored] = {}
        self.uncarried: dict[str, frozenset[str]] = {}
        self.now = now
        self.salt = name.encode()[:64]
        self._unique = unique_etags
        self.made = 0
        self.uploads = Uploads(self)
        self.signed: list[tuple[str, str, float, Attributes]] = []

    def find(self, key: str) -> Stored:
        """The object; `not_found`."""
        found = self.objects.get(key)
        if found is None:
            self.check_key(key)
            raise NotFoundError("there is no object with this key")
        return found

    def head(self, key: str) -> ObjectInfo:
        """Its description; `not_found`."""
        return self.find(key).info

    def head_whole(self, key: str) -> ObjectInfo:
        """With what `Attributes` cannot carry."""
        return replace(self.find(key).info, uncarried=self.uncarried.get(key, frozenset()))

    def demand(self, key: str, etag: str | None, *, if_none_match: bool = False) -> None:
        """`precondition_failed` or `already_exists` when a condition does not hold."""
        found = self.objects.get(key)
        if if_none_match and found is not None:
            raise AlreadyExistsError("the key is taken")
        if etag is not None and (found is None or found.info.etag != etag):
            raise PreconditionFailedError("the object has another etag, or is not there")

    def put(
        self,
        key: str,
        body: bytes,
        attributes: Attributes,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
        etag: str | None = None,
    ) -> Written:
        """Store an object under conditions. etag: when it is not that of the body."""
        if if_none_match or if_match is not None:
            self.demand(key, if_match, if_none_match=if_none_match)
        info = ObjectInfo(
            key,
            len(body),
            self.etag(body) if etag is None else etag,
            # Headers have whole seconds.
            datetime.fromtimestamp(int(self.now()), UTC),
            attributes.content_type,
            attributes.cache_control,
            attributes.content_disposition,
            attributes.content_encoding,
            attributes.content_language,
            MappingProxyType(dict(attributes.metadata)) if attributes.metadata else NO_METADATA,
        )
        self.objects[key] = Stored(info, body)
        return Written(info.etag)

    def delete(self, key: str, if_match: str | None = None) -> None:
        """Remove an object under a condition."""
        if if_match is not None:
            self.demand(key, if_match)
        self.objects.pop(key, None)

    def copy(
        self, source: str, target: str, attributes: Attributes, etag: str, *, if_none_match: bool
    ) -> Written:
        """Copy one version of an object."""
        found = self.pinned(source, etag)
        return self.put(target, found.body, attributes, if_none_match=if_none_match)

    def pinned(self, key: str, etag: str) -> Stored:
        """The object in this version: `not_found`, `precondition_failed`."""
        found = self.find(key)
        if found.info.etag != etag:
            raise PreconditionFailedError("the source has another etag")
        return found

    def etag(self, body: bytes) -> str:
        """The etag of a body that is stored now."""
        self.made += 1
        made = b"%d" % self.made if self._unique else body
        return hashlib.blake2b(made, key=self.salt, digest_size=12).hexdigest()

    def check_key(self, key: str) -> None:
        """`invalid_argument` for one that the store cannot hold."""
        if not key or len(key) * 4 > self.limits.max_key < len(key.encode()):
            raise InvalidArgumentError(f"a key has 1 to {self.limits.max_key} bytes")

    def check_attributes(self, attributes: Attributes) -> None:
        """`invalid_argument` for metadata that the store cannot hold."""
        size = 0
        for name, value in attributes.metadata.items():
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
                raise InvalidArgumentError(f"the metadata {name!r} cannot be sent as it is")
            size += len(name) + len(value)
        if size > self.limits.max_metadata:
            raise InvalidArgumentError(f"metadata has {self.limits.max_metadata} bytes at most")


def differences(left: SimulatedStore, right: SimulatedStore) -> Mapping[str, str]:
    """The keys at which two stores differ, and in what.

    Etags and times are a store's own. What its users see must be the same, to the metadata; and
    the revision, where both have one.
    """
    different: dict[str, str] = {}
    for key in sorted({*left.objects, *right.objects}):
        one, other = left.objects.get(key), right.objects.get(key)
        if one is None or other is None:
            different[key] = f"only in {(left if other is None else right).name}"
        elif one.body != other.body:
            different[key] = "bytes"
        elif _told(one, other) != _told(other, one):
            different[key] = "attributes"
    return different


def _told(stored: Stored, other: Stored) -> tuple[object, ...]:
    info = stored.info
    headers = (info.content_type, info.cache_control, info.content_disposition)
    metadata = dict(info.metadata)
    if REVISION not in other.info.metadata:
        # What somebody else wrote has none; its copy is given one.
        metadata.pop(REVISION, None)
    return (*headers, info.content_encoding, info.content_language, metadata)


__all__ = ["SimulatedStore", "Stored", "differences"]
