"""Reading entries, so that what is outdated is no hit."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cm_platform.errors import IntegrityError
from cm_platform.executor import Endpoint, Executor
from cm_platform.operation import Operation

from . import operations
from .backend import CacheBackend, CacheCapability, Values
from .entry import HEAD, HEADER, MARK, Encoding, Entry, decode, not_an_entry
from .generation import Versions, current
from .keys import Names
from .sizes import batched
from .values import decode_payload


class Look(NamedTuple):
    """One key as it is in the store. data: None where there is nothing; entry: None where there
    is nothing that counts."""

    data: bytes | None
    entry: Entry | None


class _Gathered(NamedTuple):
    """What a read brought. generation: None where it was lost. tags: versions read along.
    now: Unix milliseconds by which expiry is judged; 0 where the store itself sees to it."""

    values: Values
    generation: int | None
    tags: dict[str, int | None]
    now: int


_unpack = HEADER.unpack_from
_SIZE: Final = HEADER.size


class Reader:
    """Reads the entries of one namespace of one tenant; shared by all its handles."""

    __slots__ = ("names", "versions")

    def __init__(self, names: Names) -> None:
        self.names = names
        self.versions = Versions()

    async def values(
        self,
        executor: Executor,
        endpoint: Endpoint,
        keys: Sequence[str],
        operation: Operation,
        type_: Any,
    ) -> dict[str, Any]:
        """The values that count and are not stale, by key, in the order of the keys."""
        values, generation, tags, now = await self._gathered(executor, endpoint, keys, operation)
        found: dict[str, Any] = {}
        if generation is None:
            return found
        # Most entries have no tags, no token and no stale time. They are judged here, in a part
        # of the time that it takes to make an Entry of each; the others are looked at below.
        plain = (
            HEAD.pack(MARK, Encoding.BYTES, generation, self.names.scope)
            if type_ is None and not now
            else b""
        )
        odd: dict[str, bytes] = {}
        try:
            for key, data in zip(keys, values, strict=True):
                if data is None:
                    continue
                if plain and data.startswith(plain) and len(data) >= _SIZE:
                    found[key] = data[_SIZE:]
                    continue
                mark, flags, stamp, scope, _, expires = _unpack(data)
                if mark != MARK or flags > Encoding.COUNTER or scope != self.names.scope:
                    odd[key] = data
                    # Its place in the order.
                    found[key] = None
                elif stamp >= generation and not 0 < expires <= now:
                    found[key] = decode_payload(flags, data[_SIZE:], type_)
        except struct.error:
            raise not_an_entry() from None
        if odd:
            wall = endpoint.runtime.clock.wall()
            looks = await self._judged(
                executor, endpoint, list(odd), list(odd.values()), operation, generation, tags, now
            )
            for key, (_, entry) in zip(odd, looks, strict=True):
                if entry is None or entry.is_stale(wall):
                    del found[key]
                else:
                    found[key] = decode_payload(entry.encoding, entry.payload, type_)
        return found

    async def read(
        self, executor: Executor, endpoint: Endpoint, key: str, operation: Operation
    ) -> Entry | None:
        """The entry, if it counts; a stale one too, until it expires."""
        return (await self.look(executor, endpoint, key, operation)).entry

    async def look(
        self,
        executor: Executor,
        endpoint: Endpoint,
        key: str,
        operation: Operation = operations.GET,
    ) -> Look:
        """One key, with the bytes that a comparison needs."""
        values, generation, tags, now = await self._gathered(executor, endpoint, (key,), operation)
        (look,) = await self._judged(
            executor, endpoint, (key,), values, operation, generation, tags, now
        )
        return look

    async def _gathered(
        self, executor: Executor, endpoint: Endpoint, keys: Sequence[str], operation: Operation
    ) -> _Gathered:
        backend: CacheBackend = endpoint.backend
        names = self.names.keys(keys, backend.limits.max_key)
        versions = self.versions.on(endpoint)
        tags = self._remembered(keys)
        asked = [self.names.tag + tag for tag in tags]
        generation: int | None
        if versions.recent(endpoint):
            # Taken before the wait: another endpoint may serve the namespace after it.
            generation, at = versions.generation, 0
            values = await self.fetch(executor, endpoint, asked + names, operation)
        else:
            asked = [self.names.generation, *asked]
            values = await self.fetch(executor, endpoint, asked + names, operation)
            generation, at = versions.learned(values[0], endpoint), 1
        seen: dict[str, int | None] = {}
        for tag in tags:
            seen[tag] = versions.learned_tag(tag, values[at], endpoint)
            at += 1
        exact = CacheCapability.EXACT_TTL in backend.capabilities
        now = 0 if exact else int(endpoint.runtime.clock.wall() * 1000)
        return _Gathered(values[at:], generation, seen, now)

    async def _judged(
        self,
        executor: Executor,
        endpoint: Endpoint,
        keys: Sequence[str],
        values: Values,
        operation: Operation,
        generation: int | None,
        seen: dict[str, int | None],
        now: int,
    ) -> list[Look]:
        found: list[Look] = []
        unseen: set[str] = set()
        for data in values:
            if data is None:
                found.append(_NOTHING)
                continue
            entry = decode(data)
            if entry.scope != self.names.scope:
                raise IntegrityError(
                    "the store answered with an entry that is not of this tenant and namespace"
                )
            if generation is None or entry.stamp < generation or 0 < entry.expires <= now:
                found.append(Look(data, None))
                continue
            if entry.tags:
                unseen.update(tag for tag, _ in entry.tags if tag not in seen)
            found.append(Look(data, entry))
        if unseen:
            await self._see(executor, endpoint, unseen, seen, operation)
        if seen:
            versions = self.versions
            for index, (data, maybe) in enumerate(found):
                if maybe is not None:
                    versions.remember(keys[index], tuple(tag for tag, _ in maybe.tags))
                    if not current(maybe.tags, seen):
                        found[index] = Look(data, None)
        return found

    def _remembered(self, keys: Sequence[str]) -> list[str]:
        tagged = self.versions.tagged
        if not tagged:
            return []
        return list(dict.fromkeys(tag for key in keys for tag in tagged.get(key, ())))

    async def _see(
        self,
        executor: Executor,
        endpoint: Endpoint,
        unseen: set[str],
        seen: dict[str, int | None],
        operation: Operation,
    ) -> None:
        tags = sorted(unseen)
        values = await self.fetch(
            executor, endpoint, [self.names.tag + tag for tag in tags], operation
        )
        for tag, value in zip(tags, values, strict=True):
            seen[tag] = self.versions.learned_tag(tag, value, endpoint)

    async def fetch(
        self, executor: Executor, endpoint: Endpoint, names: list[str], operation: Operation
    ) -> Values:
        """What is kept under these names, in order."""
        partition = self.names.partition
        most: int = endpoint.backend.limits.max_batch

        async def fetch(batch: Sequence[str]) -> Values:
            values: Values = await executor.run(
                operation, lambda backend: backend.get_many(partition, batch), endpoint=endpoint
            )
            if len(values) != len(batch):
                raise IntegrityError("the store answered for another number of keys than asked")
            return values

        if len(names) <= most:
            return await fetch(names)
        # One after another: the generation comes with the first, and an entry that was written
        # under a later one counts as well.
        return [value for batch in batched(names, most) for value in await fetch(batch)]


_NOTHING: Final = Look(None, None)

__all__ = ["Look", "Reader"]
