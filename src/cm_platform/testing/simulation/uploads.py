"""The uploads in parts of a simulated store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from cm_platform.errors import InvalidArgumentError, NotFoundError
from cm_platform.storage.backend import Attributes, Part, StorageLimits, Written

if TYPE_CHECKING:
    from .store import SimulatedStore


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload under way; its parts by number, with their etags."""

    key: str
    attributes: Attributes
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict[int, tuple[str, bytes]])


class Uploads:
    """Those of one store, by id."""

    def __init__(self, store: SimulatedStore) -> None:
        self.running: dict[str, Upload] = {}
        self._store = store

    def begin(self, key: str, attributes: Attributes) -> str:
        """A new upload's id."""
        store = self._store
        store.made += 1
        upload_id = f"{store.name}-upload-{store.made}"
        self.running[upload_id] = Upload(key, attributes)
        return upload_id

    def put(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        """Store a part; replaces an earlier one of that number."""
        upload = self._find(key, upload_id)
        etag = self._store.etag(body)
        upload.parts[number] = (etag, body)
        return Part(number, etag)

    def copy(
        self, key: str, upload_id: str, number: int, source: str, start: int, end: int, etag: str
    ) -> Part:
        """Fill a part from one version of an object."""
        self._find(key, upload_id)
        found = self._store.pinned(source, etag)
        if end > len(found.body):
            raise InvalidArgumentError("the range ends beyond the source's end")
        return self.put(key, upload_id, number, found.body[start:end])

    def complete(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        if_none_match: bool,
        if_match: str | None,
    ) -> Written:
        """Make the parts one object. The upload stays when this fails."""
        upload = self._find(key, upload_id)
        store = self._store
        if not parts:
            raise InvalidArgumentError("an object needs a part at least")
        if any(left.number >= right.number for left, right in pairwise(parts)):
            raise InvalidArgumentError("parts must be given in ascending order")
        bodies: list[bytes] = []
        for part in parts:
            etag, body = upload.parts.get(part.number, ("", b""))
            if etag != part.etag:
                raise InvalidArgumentError(f"part {part.number} is missing or has another etag")
            bodies.append(body)
        _check_sizes([len(body) for body in bodies], store.limits)
        told = "".join(part.etag for part in parts).encode()
        # Not what the same bytes in one piece would have.
        digest = hashlib.blake2b(told, key=store.salt, digest_size=12).hexdigest()
        written = store.put(
            key,
            b"".join(bodies),
            upload.attributes,
            if_none_match=if_none_match,
            if_match=if_match,
            etag=f"{digest}-{len(parts)}",
        )
        del self.running[upload_id]
        return written

    def abort(self, key: str, upload_id: str) -> None:
        """Forget an upload."""
        upload = self.running.get(upload_id)
        if upload is not None and upload.key == key:
            del self.running[upload_id]

    def _find(self, key: str, upload_id: str) -> Upload:
        upload = self.running.get(upload_id)
        if upload is None or upload.key != key:
            raise NotFoundError("the upload is unknown, was completed or was aborted")
        return upload


def _check_sizes(sizes: list[int], limits: StorageLimits) -> None:
    if any(size < limits.min_part for size in sizes[:-1]):
        raise InvalidArgumentError(f"a part but the last has {limits.min_part} bytes at least")
    if limits.equal_parts and len(sizes) > 1:
        first = sizes[0]
        if any(size != first for size in sizes[:-1]) or sizes[-1] > first:
            raise InvalidArgumentError("all parts but the last must have one size")


__all__ = ["Upload", "Uploads"]
