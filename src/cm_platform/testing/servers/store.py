"""The objects of the S3 and R2 test servers: in memory, in key order, changed under one lock.

Keys are compared and listed exactly as they were sent: nothing is normalised.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from cm_platform.testing.servers.properties import ORDINARY, Properties
from cm_platform.testing.servers.wire import S3Error

MIN_PART_BYTES = 5 << 20


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object. `etag` has no quotes; `headers` are those that a GET gives back."""

    body: bytes = field(repr=False)
    etag: str
    modified: datetime
    headers: tuple[tuple[str, str], ...]
    metadata: tuple[tuple[str, str], ...]
    checksum: tuple[str, str] | None = None
    properties: Properties = ORDINARY


@dataclass(frozen=True, slots=True)
class Part:
    """One uploaded part of a multipart upload."""

    body: bytes = field(repr=False)
    etag: str
    modified: datetime


@dataclass(slots=True)
class Upload:
    """A multipart upload that is under way."""

    key: str
    started: datetime
    headers: tuple[tuple[str, str], ...]
    metadata: tuple[tuple[str, str], ...]
    properties: Properties
    parts: dict[int, Part] = field(default_factory=dict[int, Part])


@dataclass(slots=True)
class Bucket:
    """One bucket: objects by key, the keys in order, and the uploads by id.

    Code point order of `str` is the byte order of its UTF-8, which is S3's order.
    """

    owner: str
    created: datetime
    objects: dict[str, StoredObject] = field(default_factory=dict[str, StoredObject])
    keys: list[str] = field(default_factory=list[str])
    uploads: dict[str, Upload] = field(default_factory=dict[str, Upload])

    def put(self, key: str, stored: StoredObject) -> None:
        """Store or replace an object."""
        if key not in self.objects:
            insort(self.keys, key)
        self.objects[key] = stored

    def remove(self, key: str) -> None:
        """Remove an object; a key that does not exist is fine."""
        if self.objects.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]

    def upload(self, upload_id: str, key: str) -> Upload:
        """The upload under way for this key, or NoSuchUpload."""
        found = self.uploads.get(upload_id)
        if found is None or found.key != key:
            raise S3Error(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return found


class Page(NamedTuple):
    """One page of a listing; `last` is the item after which the next page begins."""

    keys: list[str]
    prefixes: list[str]
    truncated: bool
    last: str


class Store:
    """All buckets of one server. Hold `lock` around whatever must be seen as one step."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.buckets: dict[str, Bucket] = {}

    def bucket(self, name: str, owner: str) -> Bucket:
        """The bucket, if this account may use it."""
        found = self.buckets.get(name)
        if found is None:
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist")
        if found.owner != owner:
            raise S3Error(403, "AccessDenied", "Access Denied")
        return found

    def create(self, name: str, owner: str) -> None:
        """Create a bucket; names are shared by all accounts."""
        found = self.buckets.get(name)
        if found is None:
            self.buckets[name] = Bucket(owner, now())
        elif found.owner == owner:
            raise S3Error(409, "BucketAlreadyOwnedByYou", "You already own this bucket.")
        else:
            raise S3Error(409, "BucketAlreadyExists", "The bucket name is not available.")


def list_page(bucket: Bucket, prefix: str, delimiter: str, after: str, limit: int) -> Page:
    """The keys and common prefixes with `prefix` that follow the item `after`."""
    keys: list[str] = []
    prefixes: list[str] = []
    last = after
    index = bisect_left(bucket.keys, prefix)
    if after >= prefix:
        index = max(index, bisect_right(bucket.keys, after))
        cut = after.find(delimiter, len(prefix)) if delimiter else -1
        if after.startswith(prefix) and 0 <= cut == len(after) - len(delimiter):
            # The last item was a common prefix: everything below it has been told.
            index = max(index, _end_of(bucket.keys, after))
    while index < len(bucket.keys) and bucket.keys[index].startswith(prefix):
        if len(keys) + len(prefixes) >= limit:
            return Page(keys, prefixes, limit > 0, last)
        key = bucket.keys[index]
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            keys.append(key)
            last = key
            index += 1
        else:
            last = key[: cut + len(delimiter)]
            prefixes.append(last)
            index = _end_of(bucket.keys, last)
    return Page(keys, prefixes, False, last)


def assemble(upload: Upload, chosen: list[tuple[int, str]], *, equal_parts: bool) -> StoredObject:
    """The object that these (part number, etag) make. Raises S3's errors for a bad list."""
    if not chosen:
        raise S3Error(400, "MalformedXML", "You must specify at least one part")
    numbers = [number for number, _ in chosen]
    if any(left >= right for left, right in pairwise(numbers)):
        raise S3Error(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    parts: list[Part] = []
    for number, etag in chosen:
        part = upload.parts.get(number)
        if part is None or part.etag != etag.strip('"'):
            raise S3Error(
                400, "InvalidPart", f"Part {number} could not be found or its ETag did not match."
            )
        parts.append(part)
    if any(len(part.body) < MIN_PART_BYTES for part in parts[:-1]):
        raise S3Error(
            400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"
        )
    if equal_parts and len(parts) > 1:
        sizes = {len(part.body) for part in parts[:-1]}
        if len(sizes) > 1 or len(parts[-1].body) > sizes.pop():
            raise S3Error(400, "InvalidPart", "All non-trailing parts must have the same length.")
    digest = md5(b"".join(bytes.fromhex(part.etag) for part in parts))
    body = b"".join(part.body for part in parts)
    etag = f"{digest}-{len(parts)}"
    return StoredObject(
        body, etag, now(), upload.headers, upload.metadata, properties=upload.properties
    )


def new_upload_id() -> str:
    """An upload id that cannot be guessed."""
    return secrets.token_hex(24)


def md5(data: bytes) -> str:
    """S3's ETag of bytes that were sent in one piece."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def now() -> datetime:
    """The time of a change."""
    return datetime.now(UTC)


def _end_of(keys: list[str], prefix: str) -> int:
    """The index of the first key after all keys with this prefix."""
    return bisect_left(keys, True, key=lambda key: key > prefix and not key.startswith(prefix))
