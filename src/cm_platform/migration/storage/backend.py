"""A storage backend over two storage backends, of which one is right and the other follows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from cm_platform.errors import (
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
)
from cm_platform.migration.intents import Held, Intents
from cm_platform.migration.lease import StageLease
from cm_platform.migration.ledger import Purpose, Side
from cm_platform.migration.points import Point, reach
from cm_platform.storage.backend import (
    REVISION,
    Attributes,
    BackendPage,
    ListedObject,
    ObjectInfo,
    ObjectReply,
    Part,
    Presigned,
    StorageBackend,
    Written,
)
from cm_platform.storage.revision import Condition, new_revision

from .cursors import Place
from .etags import etag_on, marked
from .pair import Pair, opposite
from .reads import Reader
from .reconcile import Reconciler
from .shadow import Shadow
from .writes import Writer, overtaken


class MigratingStorage:
    """What a route to a migration opens: storage whose data is moving.

    Which side is right is the ledger's word, asked again whenever the last answer has run out.
    A write begins with an intent in the ledger, changes the authority, and brings the other side
    in line before it is answered. Where that last step fails the write is answered all the same:
    its intent stays until somebody has repaired the key.

    upload_ttl: seconds that a URL to upload may live.
    """

    def __init__(
        self,
        pair: Pair,
        stage: StageLease,
        intents: Intents,
        reconciler: Reconciler,
        writer: Writer,
        reader: Reader,
        shadow: Shadow,
        *,
        upload_ttl: int,
    ) -> None:
        self._pair = pair
        self._stage = stage
        self._intents = intents
        self._reconciler = reconciler
        self._writer = writer
        self._reader = reader
        self._shadow = shadow
        self._upload_ttl = upload_ttl
        self.capabilities = pair.capabilities
        self.limits = pair.limits
        self.max_request_lifetime = pair.max_request_lifetime

    # Reading ------------------------------------------------------------------------------

    async def head(self, key: str, *, uncarried: bool = False) -> ObjectInfo:
        """See `StorageBackend.head`."""

        async def head(side: Side) -> ObjectInfo:
            info = await self._pair.on(side, lambda b: b.head(key, uncarried=uncarried))
            return _marked(side, info)

        return await self._reader.read(head, key)

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, if_match: str | None = None
    ) -> ObjectReply:
        """See `StorageBackend.get`."""

        async def get(side: Side) -> ObjectReply:
            etag = await etag_on(self._pair, side, key, if_match)
            reply = await self._pair.on(
                side, lambda backend: backend.get(key, start=start, end=end, if_match=etag)
            )
            info = _marked(side, reply.info)
            return reply if info is reply.info else _Reply(reply, info)

        return await self._reader.read(get, key)

    async def list(
        self, prefix: str, *, delimiter: Literal["/"] | None, cursor: str | None, limit: int
    ) -> BackendPage:
        """See `StorageBackend.list`."""

        async def page(side: Side) -> BackendPage:
            place = Place.read(cursor, side)
            found = await self._pair.on(
                side,
                lambda backend: backend.list(
                    prefix, delimiter=delimiter, cursor=place.cursor, limit=limit
                ),
            )
            found = replace(found, objects=[_listed(side, one) for one in found.objects])
            return place.passed(found)

        return await self._reader.read(page)

    # Writing ------------------------------------------------------------------------------

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
        attributes = _revised(attributes)

        async def put(side: Side, held: Held | None) -> Written:
            etag = await self._etag(held, side, key, if_match)
            written = await self._pair.on(
                side,
                lambda backend: backend.put(
                    key, data, attributes, if_none_match=if_none_match, if_match=etag
                ),
            )
            return _written(side, written)

        def mirror(backend: StorageBackend) -> Awaitable[Any]:
            return backend.put(key, data, attributes)

        return await self._writer.change(key, put, mirror)

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """See `StorageBackend.delete`."""

        async def delete(side: Side, held: Held | None) -> None:
            etag = await self._etag(held, side, key, if_match)
            await self._pair.on(side, lambda backend: backend.delete(key, if_match=etag))

        await self._writer.change(key, delete, lambda backend: backend.delete(key))

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
        attributes = _revised(attributes)

        async def copy(side: Side, held: Held | None) -> Written:
            pinned = await self._etag(held, side, source, etag) or ""
            written = await self._pair.on(
                side,
                lambda backend: backend.copy(
                    source, target, attributes, etag=pinned, if_none_match=if_none_match
                ),
            )
            return _written(side, written)

        return await self._writer.change(target, copy)

    async def _etag(self, held: Held | None, side: Side, key: str, given: str | None) -> str | None:
        """See `etag_on`. Raises `OverdueError` when the look has taken too long to act after it."""
        etag = await etag_on(self._pair, side, key, given)
        if held is not None:
            self._intents.check(held)
        return etag

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `StorageBackend.delete_many`."""
        return await self._writer.delete_many(keys)

    # In parts -----------------------------------------------------------------------------

    async def create_multipart(self, key: str, attributes: Attributes) -> str:
        """See `StorageBackend.create_multipart`."""
        attributes = _revised(attributes)
        side = (await self._stage.current()).authority
        upload = await self._pair.on(side, lambda b: b.create_multipart(key, attributes))
        return f"{side}:{upload}"

    async def put_part(
        self, key: str, upload_id: str, number: int, data: bytes | memoryview
    ) -> Part:
        """See `StorageBackend.put_part`."""
        side, upload = _upload(upload_id)
        return await self._pair.on(side, lambda b: b.put_part(key, upload, number, data))

    async def copy_part(
        self, key: str, upload_id: str, number: int, source: str, start: int, end: int, etag: str
    ) -> Part:
        """See `StorageBackend.copy_part`."""
        side, upload = _upload(upload_id)
        pinned = await etag_on(self._pair, side, source, etag) or ""
        return await self._pair.on(
            side, lambda b: b.copy_part(key, upload, number, source, start, end, pinned)
        )

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """See `StorageBackend.complete_multipart`. The intent is taken here: before, nobody sees
        anything of the upload."""
        of, upload = _upload(upload_id)

        async def complete(side: Side, held: Held | None) -> Written:
            if side != of:
                return await self._crossed(
                    held, key, upload, parts, side, if_none_match=if_none_match, if_match=if_match
                )
            etag = await self._etag(held, side, key, if_match)
            written = await self._pair.on(
                side,
                lambda b: b.complete_multipart(
                    key, upload, parts, if_none_match=if_none_match, if_match=etag
                ),
            )
            return _written(side, written)

        return await self._writer.change(key, complete)

    async def _crossed(
        self,
        held: Held | None,
        key: str,
        upload: str,
        parts: Sequence[Part],
        side: Side,
        *,
        if_none_match: bool,
        if_match: str | None,
    ) -> Written:
        """Complete an upload that began before a flip: where its parts are, and from there it is
        brought to the authority. Whoever overtakes it on the way has come later."""
        of = opposite(side)
        etag = await self._etag(held, side, key, if_match)
        staged = await self._pair.on(of, lambda b: b.complete_multipart(key, upload, parts))
        await reach(Point.CROSSED_STAGED)
        try:
            info = await self._pair.head(of, key)
            if info is None or info.etag != staged.etag:
                raise overtaken()
            condition = Condition(if_none_match, etag)
            return _written(side, await self._reconciler.bring(held, key, of, info, condition))
        except NotFoundError as error:
            raise overtaken() from error
        except PlatformError as error:
            # Something was sent: what is staged has to be compared.
            error.not_sent = False
            raise

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """See `StorageBackend.abort_multipart`."""
        try:
            side, upload = _upload(upload_id)
        except NotFoundError:
            return
        await self._pair.on(side, lambda b: b.abort_multipart(key, upload))

    # Sharing ------------------------------------------------------------------------------

    async def presign(
        self, key: str, method: Literal["GET", "PUT"], *, expires_in: int, attributes: Attributes
    ) -> Presigned:
        """See `StorageBackend.presign`.

        A URL to upload is registered: an intent stands for it until it has expired, and then the
        key is compared. `invalid_argument` for one that would live longer than `upload_ttl`;
        `unavailable` while the data is about to change sides.
        """
        if method == "GET":
            view = await self._stage.current()
        else:
            if expires_in > self._upload_ttl:
                raise InvalidArgumentError(
                    "while a tenant's data moves, a URL to upload may live "
                    f"{self._upload_ttl} seconds"
                )
            view, held = await self._intents.begin([key], Purpose.UPLOAD, lease=expires_in)
            await reach(Point.UPLOAD_REGISTERED)
            if held is not None:
                # Signed later than this, the URL would outlive its intent.
                self._intents.check(held)
        return await self._pair.on(
            view.authority,
            lambda b: b.presign(key, method, expires_in=expires_in, attributes=attributes),
        )

    # Life ---------------------------------------------------------------------------------

    def translate(self, error: Exception) -> PlatformError | None:
        """What is left: failures of a reply that is read. Either of the two may know them."""
        return self._pair.source.translate(error) or self._pair.target.translate(error)

    async def ping(self) -> None:
        """Reach both stores and the ledger."""
        await self._stage.ask()
        await self._pair.on("source", lambda backend: backend.ping())
        await self._pair.on("target", lambda backend: backend.ping())

    def native(self) -> dict[str, Any]:
        """Both clients, by side."""
        return {"source": self._pair.source.native(), "target": self._pair.target.native()}

    async def close(self) -> None:
        """Write down what was counted. The two backends belong to whoever opened them."""
        await self._shadow.close()


class _Reply:
    """A reply with its etag as callers see it."""

    __slots__ = ("_reply", "info")

    def __init__(self, reply: ObjectReply, info: ObjectInfo) -> None:
        self._reply = reply
        self.info = info

    async def read(self) -> bytes:
        return await self._reply.read()

    def chunks(self) -> AsyncIterator[bytes]:
        return self._reply.chunks()

    async def close(self) -> None:
        await self._reply.close()


def _marked(side: Side, info: ObjectInfo) -> ObjectInfo:
    etag = marked(side, info.etag)
    return info if etag == info.etag else replace(info, etag=etag)


def _listed(side: Side, listed: ListedObject) -> ListedObject:
    etag = marked(side, listed.etag)
    return listed if etag == listed.etag else replace(listed, etag=etag)


def _written(side: Side, written: Written) -> Written:
    return Written(marked(side, written.etag), written.last_modified)


def _revised(attributes: Attributes) -> Attributes:
    """With a revision, by which copies are known; the service gives each write its own."""
    if REVISION in attributes.metadata:
        return attributes
    return replace(attributes, metadata={**attributes.metadata, REVISION: new_revision()})


def _upload(upload_id: str) -> tuple[Side, str]:
    side, colon, upload = upload_id.partition(":")
    if colon and side == "source":
        return "source", upload
    if colon and side == "target":
        return "target", upload
    raise NotFoundError("there is no such upload")


__all__ = ["MigratingStorage"]
