"""Writing entries, so that what was written before a `clear` never counts after it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from cm_platform.errors import (
    AmbiguousError,
    IntegrityError,
    InvalidArgumentError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.executor import Endpoint, Executor
from cm_platform.operation import NOT_LANDED, UNKNOWN, Operation, Resolve

from . import operations
from .backend import CacheBackend, CacheCapability, Condition, Stored, StoredMany, Values
from .entry import TOKEN_SIZE, Encoding, Entry, encode
from .generation import parse, raised
from .reading import Reader
from .sizes import batched, check_accounted, check_size

# Writers that meet each other on one key, or a `clear`, try again; so many times only where
# something is wrong.
ROUNDS: Final = 32


class Draft(NamedTuple):
    """A value that is to be kept.

    ttl, stale: seconds; ttl None: for ever.
    """

    encoding: Encoding
    payload: bytes
    ttl: float | None
    stale: float = 0.0
    tags: tuple[str, ...] = ()

    @property
    def hard_ttl(self) -> float | None:
        """Seconds until the store may forget it."""
        return None if self.ttl is None else self.ttl + self.stale

    def entry(
        self, stamp: int, scope: int, versions: Mapping[str, int], now: float, token: bytes = b""
    ) -> Entry:
        """The entry, written now (Unix seconds) under these versions."""
        fresh = expires = 0
        if self.ttl is not None:
            fresh = int((now + self.ttl) * 1000)
            expires = int((now + self.ttl + self.stale) * 1000)
        tags = tuple((tag, versions.get(tag, 0)) for tag in self.tags)
        return Entry(self.encoding, stamp, fresh, expires, self.payload, tags, token, scope)


class Entries(Reader):
    """Writes them, too."""

    __slots__ = ()

    async def write(
        self,
        executor: Executor,
        endpoint: Endpoint,
        key: str,
        draft: Draft,
        *,
        at: Mapping[str, int] | None = None,
    ) -> None:
        """Keep a value, under the versions in force when it is kept.

        at: the versions under which it was computed ("": the generation): when one of them was
            raised since then, the entry does not count, and that is right.
        """
        if type(key) is not str:
            # It is refused, and may not even be hashable.
            self.names.key(key, endpoint.backend.limits.max_key)
        failures = await self.write_many(executor, endpoint, {key: draft}, operations.SET, at=at)
        for failure in failures.values():
            raise executor.placed(failure, operations.SET, endpoint)

    async def write_many(
        self,
        executor: Executor,
        endpoint: Endpoint,
        drafts: Mapping[str, Draft],
        operation: Operation,
        *,
        at: Mapping[str, int] | None = None,
    ) -> dict[str, PlatformError]:
        """Keep values of one ttl and the same tags; the failures by key.

        Of `set_many`, a batch that fails as a whole is the failure of each of its keys.
        """
        backend: CacheBackend = endpoint.backend
        keys = list(drafts)
        names = self.names.keys(keys, backend.limits.max_key)
        most = backend.limits.max_batch
        if len(names) > most:
            # Before the first batch is sent; a single one is looked at on its way.
            _check_sizes(drafts, endpoint)
        by_name = dict(zip(names, keys, strict=True))
        failures: dict[str, PlatformError] = {}
        for some in batched(names, most):
            batch = {name: drafts[by_name[name]] for name in some}
            failed: Mapping[str, PlatformError]
            try:
                failed = await self._write_batch(executor, endpoint, batch, operation, at)
            except (IntegrityError, InvalidArgumentError):
                raise
            except PlatformError as error:
                if operation is not operations.SET_MANY:
                    raise
                failed = dict.fromkeys(batch, error)
            failures |= {by_name[name]: error for name, error in failed.items()}
        return failures

    async def _write_batch(
        self,
        executor: Executor,
        endpoint: Endpoint,
        drafts: Mapping[str, Draft],
        operation: Operation,
        at: Mapping[str, int] | None,
    ) -> Mapping[str, PlatformError]:
        versions = self.versions.on(endpoint)
        tags = next(iter(drafts.values())).tags
        ttl = next(iter(drafts.values())).hard_ttl
        along = [self.names.tag + tag for tag in tags]
        if not versions.recent(endpoint):
            along = [self.names.generation, *along]
        if at is None and CacheCapability.READ_YOUR_WRITES not in endpoint.backend.capabilities:
            # What such a store answers right after a write is no better than what it answers
            # before, and a second write to the key may have to wait.
            if along:
                _check_sizes(drafts, endpoint)
                seen = await self.fetch(executor, endpoint, along, operations.GET)
                await self.still(executor, endpoint, -1, {}, tags, seen)
            along = []
        for _ in range(ROUNDS):
            stamp = versions.generation if at is None else at[""]
            # A copy: what others learn meanwhile is not what these entries were written under.
            under = {tag: versions.tags.get(tag, 0) for tag in tags} if at is None else at
            now = endpoint.runtime.clock.wall()
            data = {
                name: encode(draft.entry(stamp, self.names.scope, under, now))
                for name, draft in drafts.items()
            }
            for entry in data.values():
                check_size(entry, endpoint)
            failed, seen = await self._store(executor, endpoint, data, ttl, along, operation)
            if at is not None or not along:
                return failed
            if await self.still(executor, endpoint, stamp, under, tags, seen):
                return failed
        raise contended()

    async def _store(
        self,
        executor: Executor,
        endpoint: Endpoint,
        data: Mapping[str, bytes],
        ttl: float | None,
        along: Sequence[str],
        operation: Operation,
    ) -> StoredMany:
        partition = self.names.partition
        if operation is operations.SET_MANY:
            many: StoredMany = await executor.run(
                operation,
                lambda backend: backend.set_many(partition, data, ttl=ttl, along=along),
                endpoint=endpoint,
            )
            check_accounted(many.failures, data)
            check_along(many.along, along)
            return many
        ((name, value),) = data.items()
        stored: Stored = await executor.run(
            operation,
            lambda backend: backend.set(partition, name, value, ttl=ttl, along=along),
            endpoint=endpoint,
        )
        check_along(stored.along, along)
        return StoredMany({}, stored.along)

    async def versions_now(
        self, executor: Executor, endpoint: Endpoint, tags: tuple[str, ...]
    ) -> dict[str, int]:
        """The generation (under "") and the tags' versions, set where they are missing."""
        versions = self.versions.on(endpoint)
        names = [self.names.generation, *(self.names.tag + tag for tag in tags)]
        seen = await self.fetch(executor, endpoint, names, operations.GET)
        await self.still(executor, endpoint, -1, {}, tags, seen)
        return {"": versions.generation, **{tag: versions.tags.get(tag, 0) for tag in tags}}

    async def still(
        self,
        executor: Executor,
        endpoint: Endpoint,
        stamp: int,
        under: Mapping[str, int],
        tags: tuple[str, ...],
        seen: Values,
    ) -> bool:
        """Learn from what was read along; whether an entry of these versions counts."""
        versions = self.versions
        counts = True
        if len(seen) > len(tags):
            generation = versions.learned(seen[0], endpoint)
            if generation is None:
                generation = await self._establish(
                    executor, endpoint, self.names.generation, versions.generation
                )
                versions.learned(b"%d" % generation, endpoint)
            counts = generation <= stamp
            seen = seen[1:]
        for tag, value in zip(tags, seen, strict=True):
            version = versions.learned_tag(tag, value, endpoint)
            if version is None:
                version = await self._establish(
                    executor, endpoint, self.names.tag + tag, versions.tags.get(tag, 0)
                )
                versions.learned_tag(tag, b"%d" % version, endpoint)
            counts = counts and version <= under.get(tag, 0)
        return counts

    async def _establish(
        self, executor: Executor, endpoint: Endpoint, name: str, known: int
    ) -> int:
        """Set a version that the store has lost, or never had; the one in force."""
        partition = self.names.partition
        version = raised(known, endpoint)
        for _ in range(ROUNDS):
            stored: Stored = await executor.run(
                operations.CLEAR,
                lambda backend: backend.set(
                    partition, name, b"%d" % version, ttl=None, only_if="absent"
                ),
                endpoint=endpoint,
            )
            if stored.stored:
                return version
            (found,) = await self.fetch(executor, endpoint, [name], operations.GET)
            if found is not None:
                return parse(found)
        raise contended()

    async def write_if(
        self,
        executor: Executor,
        endpoint: Endpoint,
        key: str,
        draft: Draft,
        condition: Condition,
    ) -> bool:
        """Keep a value where there is none that counts, or only where there is one."""
        versions = self.versions.on(endpoint)
        for _ in range(ROUNDS):
            found = await self.look(executor, endpoint, key)
            now = endpoint.runtime.clock.wall()
            is_there = found.entry is not None and not found.entry.is_stale(now)
            if is_there != (condition == "present"):
                return False
            under = await self.versions_now(executor, endpoint, draft.tags)
            # A counter has none: the stores' scripts, which count on, know bytes 0-33 and no more.
            counts = draft.encoding is Encoding.COUNTER
            token = b"" if counts else secrets.token_bytes(TOKEN_SIZE)
            data = encode(draft.entry(versions.generation, self.names.scope, under, now, token))
            check_size(data, endpoint)
            if await self.replace(
                executor,
                endpoint,
                self.names.value + key,
                found.data,
                data,
                draft.hard_ttl,
                unique=not counts,
            ):
                return True
        raise contended()

    async def replace(
        self,
        executor: Executor,
        endpoint: Endpoint,
        name: str,
        expected: bytes | None,
        data: bytes | None,
        ttl: float | None,
        operation: Operation = operations.REPLACE,
        *,
        unique: bool = True,
    ) -> bool:
        """Put bytes in the place of exactly these others; whether those were there.

        unique: nobody else can have written `data`, so whoever finds it there, after a lost
            reply, knows that this write landed.
        """
        partition = self.names.partition

        async def swap(backend: CacheBackend) -> bool:
            if not await backend.compare_and_set(partition, name, expected, data, ttl=ttl):
                # As an error, because only then is a lost reply before it looked into.
                raise PreconditionFailedError("there is something else now")
            return True

        async def seen(backend: CacheBackend) -> Any:
            (found,) = await backend.get_many(partition, [name])
            if found == data and unique:
                return True
            return NOT_LANDED if found == expected else UNKNOWN

        try:
            swapped: bool = await executor.run(
                operation, swap, resolve=Resolve(seen), endpoint=endpoint
            )
        except PreconditionFailedError:
            return False
        return swapped

    async def raise_version(
        self, executor: Executor, endpoint: Endpoint, tag: str | None, operation: Operation
    ) -> None:
        """Make all entries of the namespace, or of a tag, outdated."""
        versions = self.versions.on(endpoint)
        name = self.names.generation if tag is None else self.names.tag + tag
        known = versions.generation if tag is None else versions.tags.get(tag, 0)
        (found,) = await self.fetch(executor, endpoint, [name], operations.GET)
        version = raised(max(known, 0 if found is None else parse(found)), endpoint)
        value = b"%d" % version
        if CacheCapability.COMPARE_AND_SET in endpoint.backend.capabilities:
            try:
                doubt = None
                replaced = await self.replace(
                    executor, endpoint, name, found, value, None, operation
                )
            except AmbiguousError as error:
                doubt, replaced = error, False
            if not replaced:
                # Somebody else raised it since this call began, which is as good.
                (now,) = await self.fetch(executor, endpoint, [name], operations.GET)
                if doubt is not None and (now is None or parse(now) < version):
                    raise doubt
                value = value if now is None else now
        else:
            partition = self.names.partition
            await executor.run(
                operation,
                lambda backend: backend.set(partition, name, value, ttl=None),
                endpoint=endpoint,
            )
        if tag is None:
            versions.learned(value, endpoint)
        else:
            versions.learned_tag(tag, value, endpoint)


def _check_sizes(drafts: Mapping[str, Draft], endpoint: Endpoint) -> None:
    """`invalid_argument` for what the backend cannot keep, before it is asked anything."""
    for draft in drafts.values():
        check_size(encode(draft.entry(0, 0, {}, 0.0)), endpoint)


def check_along(seen: Values, along: Sequence[str]) -> None:
    """`integrity` unless there is an answer for each key that was asked along."""
    if len(seen) != len(along):
        raise IntegrityError("the store answered for another number of keys than asked")


def contended() -> UnavailableError:
    """The error for whoever met others at every turn."""
    return UnavailableError("too many writers met on one key of the cache; try again later")


__all__ = ["ROUNDS", "Draft", "Entries", "check_along", "contended"]
