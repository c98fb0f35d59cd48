"""Bringing one key of the other side in line with the authority.

Never "copy what I read before": look at both, act, and look again, until a look finds them the
same. Every change is made under an intent and followed by such a look, so whoever changed a key
last has seen both sides equal after his change. That needs no conditional writes; where a store
has them, they keep what is late from landing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from cm_platform.errors import (
    AlreadyExistsError,
    IntegrityError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.migration.intents import Held, Intents
from cm_platform.migration.ledger import Side
from cm_platform.migration.points import Point, reach
from cm_platform.storage.backend import (
    SHA256,
    Attributes,
    ObjectInfo,
    Part,
    StorageBackend,
    StorageCapability,
    Written,
)
from cm_platform.storage.revision import Condition

from .pair import Pair, opposite, unanswered
from .sameness import carried, same

T = TypeVar("T")

logger = logging.getLogger("cm_platform.migration")

PART_SIZE: Final = 8 * 1024 * 1024
_LOOKS: Final = 10


class Reconciler:
    """Makes single keys of a pair the same. Stateless; the intent is the caller's."""

    __slots__ = ("_intents", "_pair")

    def __init__(self, pair: Pair, intents: Intents) -> None:
        self._pair = pair
        self._intents = intents

    async def reconcile(self, held: Held, key: str, *, up_to: int | None = None) -> int | None:
        """Bring the other side's object in line with the authority's; the bytes that were sent.

        up_to: None is answered, and nothing done, for an object of more bytes than this.

        Raises what the backends raise; `integrity` when the authority's bytes are not those that
        were recorded; `invalid_argument` for what the other side cannot hold. What was sent and
        not answered is noted in `held.doubt`.
        """
        authority = held.view.authority
        sent = 0
        for _ in range(_LOOKS):
            source, target = await self._pair.heads(key)
            if same(source, target):
                await reach(Point.COMPARED)
                return sent
            right, wrong = (source, target) if authority == "source" else (target, source)
            await self._intents.renew(held)
            try:
                if right is None:
                    await self._remove(held, key, wrong)
                elif up_to is not None and right.size > up_to:
                    return None
                else:
                    sent += await self._copy(held, key, right, wrong)
            except (PreconditionFailedError, AlreadyExistsError, NotFoundError) as overtaken:
                # Somebody changed one of the two between the look and the act.
                logger.debug("a key changed while it was brought over: %s", overtaken.code)
            await reach(Point.OTHER_CHANGED)
        raise UnavailableError("a key changes faster than it can be brought over", retryable=True)

    async def change(
        self,
        held: Held | None,
        key: str,
        side: Side,
        call: Callable[[StorageBackend], Awaitable[T]],
    ) -> T:
        """Change something at a key; what is not answered is noted."""
        try:
            return await self._pair.on(side, call)
        except Exception as error:
            if held is not None and unanswered(error):
                held.doubt.add(key)
            raise

    async def bring(
        self, held: Held | None, key: str, side: Side, info: ObjectInfo, condition: Condition
    ) -> Written:
        """Write that side's object, as described, to the opposite side under a condition.
        Raises `not_found` when it is not there any more.

        Unlike `reconcile` it may change the authority: this is how an upload that a flip has
        overtaken gets where it belongs.
        """
        return await self._transfer(held, key, side, info, condition)

    async def _remove(self, held: Held, key: str, wrong: ObjectInfo | None) -> None:
        side = opposite(held.view.authority)
        etag = None
        if wrong is not None and self._can(side, StorageCapability.CONDITIONAL_DELETE):
            etag = wrong.etag
        await self.change(held, key, side, lambda backend: backend.delete(key, if_match=etag))

    async def _copy(self, held: Held, key: str, right: ObjectInfo, wrong: ObjectInfo | None) -> int:
        side = opposite(held.view.authority)
        condition = Condition(
            wrong is None and self._can(side, StorageCapability.CONDITIONAL_CREATE),
            wrong.etag
            if wrong is not None and self._can(side, StorageCapability.CONDITIONAL_REPLACE)
            else None,
        )
        await self._transfer(held, key, held.view.authority, right, condition)
        return right.size

    async def _transfer(
        self, held: Held | None, key: str, side: Side, info: ObjectInfo, condition: Condition
    ) -> Written:
        attributes = carried(side, info)
        if info.size > PART_SIZE:
            return await self._transfer_parts(held, key, side, info, attributes, condition)
        data = await self._read(side, key, info)
        await reach(Point.COPY_BEGUN)
        # The store may have taken its time.
        await self._renew(held)
        return await self.change(
            held,
            key,
            opposite(side),
            lambda backend: backend.put(
                key,
                data,
                attributes,
                if_none_match=condition.if_none_match,
                if_match=condition.if_match,
            ),
        )

    async def _read(
        self, side: Side, key: str, info: ObjectInfo, start: int = 0, end: int | None = None
    ) -> bytes:
        async def read(backend: StorageBackend) -> bytes:
            reply = await backend.get(key, start=start, end=end, if_match=info.etag)
            try:
                return await reply.read()
            finally:
                await reply.close()

        try:
            data = await self._pair.on(side, read)
        except PreconditionFailedError as error:
            # Not a condition of the caller's: that is for what is written.
            raise NotFoundError("the object that was described is not there any more") from error
        if len(data) != (info.size if end is None else end - start):
            raise IntegrityError("an object was described with another size than it has")
        if end is None:
            _check_digest(info, hashlib.sha256(data).hexdigest())
        return data

    async def _transfer_parts(
        self,
        held: Held | None,
        key: str,
        side: Side,
        info: ObjectInfo,
        attributes: Attributes,
        condition: Condition,
    ) -> Written:
        # One part at a time: of what is large only this piece is in memory.
        to = opposite(side)
        limits = self._pair.backend(to).limits
        size = max(PART_SIZE, limits.min_part, -(-info.size // limits.max_parts))
        upload = await self._pair.on(to, lambda backend: backend.create_multipart(key, attributes))
        parts: list[Part] = []
        digest = hashlib.sha256()
        try:
            for number, start in enumerate(range(0, info.size, size), 1):
                await self._renew(held)
                data = await self._read(side, key, info, start, min(start + size, info.size))
                digest.update(data)
                parts.append(await self._part(to, key, upload, number, data))
            _check_digest(info, digest.hexdigest())
            await reach(Point.COPY_IN_PARTS)
            await self._renew(held)
            return await self.change(
                held,
                key,
                to,
                lambda backend: backend.complete_multipart(
                    key,
                    upload,
                    parts,
                    if_none_match=condition.if_none_match,
                    if_match=condition.if_match,
                ),
            )
        except Exception:
            if held is None or key not in held.doubt:
                await self._abort(to, key, upload)
            raise

    async def _renew(self, held: Held | None) -> None:
        if held is not None:
            await self._intents.renew(held)

    async def _part(self, side: Side, key: str, upload: str, number: int, data: bytes) -> Part:
        return await self._pair.on(
            side, lambda backend: backend.put_part(key, upload, number, data)
        )

    async def _abort(self, side: Side, key: str, upload: str) -> None:
        try:
            await self._pair.on(side, lambda backend: backend.abort_multipart(key, upload))
        except PlatformError as error:
            # The first failure is the one to raise; the store's lifecycle rules remove the parts.
            logger.debug("an upload could not be aborted: %s", error.code)

    def _can(self, side: Side, capability: StorageCapability) -> bool:
        return capability in self._pair.backend(side).capabilities


def _check_digest(info: ObjectInfo, found: str) -> None:
    expected = info.metadata.get(SHA256)
    if expected is not None and expected != found:
        raise IntegrityError(
            "the bytes of an object do not have the SHA-256 that was recorded with it: it was "
            "damaged before it was moved"
        )


__all__ = ["PART_SIZE", "Reconciler"]
