"""A storage backend from outside of cm_platform: objects in this process's memory.

It is one class, written once for both faces, and it keeps the whole contract of
`cm_platform.storage.backend.StorageBackend`: tests/examples/test_custom_backend.py subclasses
the public conformance suite to prove it. A package of its own would register it so:

    [project.entry-points."cm_platform.backends"]
    "storage.memory" = "custom_backend:BACKEND"

Run it: python examples/custom_backend.py
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from cm_platform.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    UnsupportedError,
)
from cm_platform.registry import Backend
from cm_platform.runtime import Runtime
from cm_platform.storage.backend import (
    Attributes,
    BackendPage,
    ListedObject,
    ObjectInfo,
    Part,
    Presigned,
    StorageCapability,
    StorageLimits,
    Written,
)

# What it cannot do is not declared, and refused before it is asked: nobody can reach a URL here.
CAPABILITIES: Final = frozenset(StorageCapability) - {StorageCapability.PRESIGN}


class MemoryConfig(BaseModel):
    """store: its name; backends of one name, in one process, see the same objects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    store: str = "default"


class Store:
    """The objects of one name, the uploads under way, and the lock that makes writes atomic."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self.uploads: dict[str, tuple[str, Attributes, dict[int, bytes]]] = {}
        self.lock = threading.Lock()
        self.versions = itertools.count()


STORES: Final[dict[str, Store]] = {}


class MemoryReply:
    """An answered `get`. A reply of a real store would hold a connection."""

    def __init__(self, info: ObjectInfo, body: bytes) -> None:
        self.info = info
        self._body = body

    async def read(self) -> bytes:
        """The rest of the body."""
        body, self._body = self._body, b""
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces of 1 MiB."""
        body = await self.read()
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    async def close(self) -> None:
        """Let go of the bytes."""
        self._body = b""


class MemoryStorage:
    """A `StorageBackend` over a dictionary. Nothing waits, so nothing is awaited."""

    def __init__(self, store: Store) -> None:
        self.capabilities = CAPABILITIES
        self.limits = StorageLimits(min_part=1, equal_parts=False)
        self.max_request_lifetime = 0.0
        self._store = store

    async def head(self, key: str, *, uncarried: bool = False) -> ObjectInfo:
        """See `StorageBackend.head`. Nothing is kept here that `Attributes` cannot say."""
        info = self._found(key)[0]
        return replace(info, uncarried=frozenset()) if uncarried else info

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, if_match: str | None = None
    ) -> MemoryReply:
        """See `StorageBackend.get`."""
        info, body = self._found(key)
        if if_match not in (None, info.etag):
            raise PreconditionFailedError("the object has another etag")
        first = max(0, info.size + start) if start < 0 else start
        if first >= info.size and (start, end) != (0, None):
            raise InvalidArgumentError(f"the range starts at or beyond the {info.size} bytes")
        return MemoryReply(info, body[first:end])

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        attributes: Attributes,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """See `StorageBackend.put`."""
        with self._store.lock:
            self._check(key, if_none_match, if_match)
            return self._write(key, bytes(data), attributes)

    async def create_multipart(self, key: str, attributes: Attributes) -> str:
        """See `StorageBackend.create_multipart`."""
        upload_id = f"upload-{next(self._store.versions)}"
        self._store.uploads[upload_id] = (key, attributes, {})
        return upload_id

    async def put_part(
        self, key: str, upload_id: str, number: int, data: bytes | memoryview
    ) -> Part:
        """See `StorageBackend.put_part`."""
        self._upload(key, upload_id)[2][number] = bytes(data)
        return Part(number, f"part-{number}")

    async def copy_part(
        self, key: str, upload_id: str, number: int, source: str, start: int, end: int, etag: str
    ) -> Part:
        """See `StorageBackend.copy_part`."""
        reply = await self.get(source, start=start, end=end, if_match=etag)
        return await self.put_part(key, upload_id, number, await reply.read())

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """See `StorageBackend.complete_multipart`."""
        with self._store.lock:
            _, attributes, stored = self._upload(key, upload_id)
            self._check(key, if_none_match, if_match)
            written = self._write(key, b"".join(stored[part.number] for part in parts), attributes)
            del self._store.uploads[upload_id]
            return written

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """See `StorageBackend.abort_multipart`."""
        self._store.uploads.pop(upload_id, None)

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """See `StorageBackend.delete`."""
        with self._store.lock:
            self._check(key, False, if_match)
            self._store.objects.pop(key, None)

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `StorageBackend.delete_many`."""
        for key in keys:
            self._store.objects.pop(key, None)
        return {}

    async def copy(
        self,
        source: str,
        target: str,
        attributes: Attributes,
        *,
        etag: str,
        if_none_match: bool = False,
    ) -> Written:
        """See `StorageBackend.copy`."""
        with self._store.lock:
            info, body = self._found(source)
            if info.etag != etag:
                raise PreconditionFailedError("the source has another etag")
            self._check(target, if_none_match, None)
            return self._write(target, body, attributes)

    async def list(
        self, prefix: str, *, delimiter: Literal["/"] | None, cursor: str | None, limit: int
    ) -> BackendPage:
        """See `StorageBackend.list`. The cursor is the last entry of the page before."""
        if cursor is not None and not cursor.startswith(prefix):
            raise InvalidArgumentError("this cursor belongs to another listing")
        objects: list[ListedObject] = []
        prefixes: list[str] = []
        last = cursor
        for key, (info, _) in sorted(
            self._store.objects.items(), key=lambda item: item[0].encode()
        ):
            at = -1 if delimiter is None else key.find(delimiter, len(prefix))
            entry = key if at < 0 else key[: at + 1]
            before = last is not None and entry.encode() <= last.encode()
            if not key.startswith(prefix) or before:
                continue
            if len(objects) + len(prefixes) == limit:
                return BackendPage(objects, prefixes, last)
            if at < 0:
                objects.append(ListedObject(key, info.size, info.etag, info.last_modified))
            else:
                prefixes.append(entry)
            last = entry
        return BackendPage(objects, prefixes)

    async def presign(
        self, key: str, method: Literal["GET", "PUT"], *, expires_in: int, attributes: Attributes
    ) -> Presigned:
        """Never reached: the capability is not declared."""
        raise UnsupportedError("storage.memory cannot presign")

    def translate(self, error: Exception) -> PlatformError | None:
        """There is no SDK whose errors would have to be classified."""
        return None

    async def ping(self) -> None:
        """The memory is there."""

    def native(self) -> Store:
        """The dictionaries."""
        return self._store

    async def close(self) -> None:
        """Nothing is held open."""

    def _found(self, key: str) -> tuple[ObjectInfo, bytes]:
        try:
            return self._store.objects[key]
        except KeyError:
            raise NotFoundError("no object has this key") from None

    def _upload(self, key: str, upload_id: str) -> tuple[str, Attributes, dict[int, bytes]]:
        upload = self._store.uploads.get(upload_id)
        if upload is None or upload[0] != key:
            raise NotFoundError("no such upload")
        return upload

    def _check(self, key: str, if_none_match: bool, if_match: str | None) -> None:
        found = self._store.objects.get(key)
        if if_none_match and found is not None:
            raise AlreadyExistsError("an object with this key exists already")
        if if_match is not None and (found is None or found[0].etag != if_match):
            raise PreconditionFailedError("the object has another etag, or is not there")

    def _write(self, key: str, body: bytes, attributes: Attributes) -> Written:
        info = ObjectInfo(
            key,
            len(body),
            f"v{next(self._store.versions)}",
            datetime.now(UTC),
            attributes.content_type,
            attributes.cache_control,
            attributes.content_disposition,
            attributes.content_encoding,
            attributes.content_language,
            dict(attributes.metadata),
        )
        self._store.objects[key] = (info, body)
        return Written(info.etag, info.last_modified)


async def _open(config: MemoryConfig, runtime: Runtime) -> MemoryStorage:
    return MemoryStorage(STORES.setdefault(config.store, Store()))


BACKEND: Final = Backend(
    name="storage.memory", config=MemoryConfig, open=_open, capabilities=CAPABILITIES
)


def main() -> None:
    """Use it without an entry point."""
    from cm_platform import Tenant, get_service
    from cm_platform.testing import override

    with override(storage={"driver": BACKEND}):
        storage = get_service("storage", Tenant("acme"))
        print(storage.put("press/cover.txt", b"L'\xc3\xa9t\xc3\xa9", metadata={"lang": "fr"}))
        print([listed.key for listed in storage.list("press/")])


if __name__ == "__main__":
    main()
