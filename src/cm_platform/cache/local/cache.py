"""`cache.local`: values in memory, or in an SQLite file, for development, tests and one machine.

Complete and strict, not a toy: every operation is atomic, among threads and, with a file, among
any number of processes on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, ParamSpec, Self, TypeVar

from pydantic import Field, model_validator

from cm_platform.cache.backend import (
    CacheCapability,
    CacheLimits,
    Condition,
    Counted,
    Stored,
    StoredMany,
    Values,
)
from cm_platform.errors import InvalidArgumentError, PlatformError
from cm_platform.limits import limits
from cm_platform.registry import Backend
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings
from cm_platform.sqlite import Ticket, classify, patiently, refusal

from . import operations
from .counting import check_amount
from .file import FileStore
from .memory import MemoryStore
from .schema import FORM
from .table import Store, Table

T = TypeVar("T")
P = ParamSpec("P")

CAPABILITIES: Final = frozenset(CacheCapability)

MAX_REQUEST_LIFETIME: Final = 5.0
"""A cancelled call's thread works on, but looks for its caller just before it commits. What can
still land is one commit that had passed that point: microseconds, and these five seconds are for
a machine that stalls."""


class LocalConfig(Settings):
    """A cache on this machine, for development, tests and small installations.

    path: a file (SQLite) that any number of processes share, on a local disk; made when it is
        missing. Without it, the cache is in memory: each process has one of its own (on the
        async face: each event loop), and it is empty when the process starts.
    max_bytes: of keys and values, with a fixed overhead for each. What is over goes first, then
        what is least recently used. A file may take up to twice as much of the disk. Processes
        that share a file should agree.
    fsync: a write is answered when it would survive a power cut. Without it a write survives
        the death of the process, and a power cut may take the last ones back.
    busy_timeout: seconds to wait for those who write to the file: for other threads, and then as
        long again for other processes.
    lacks: capabilities to do without, for standing in for a store that has fewer.
    """

    path: Path | None = None
    max_bytes: int = Field(default=64 * 1024**2, ge=64 * 1024, le=1024**4)
    fsync: bool = False
    busy_timeout: float = Field(default=5.0, gt=0, le=60, allow_inf_nan=False)
    lacks: frozenset[CacheCapability] = frozenset()

    @model_validator(mode="after")
    def _check_fsync(self) -> Self:
        if self.fsync and self.path is None:
            raise ValueError("`fsync` is for a file: say its `path`, or leave it out")
        return self


class LocalCache:
    """A `CacheBackend` over a store in memory or in a file."""

    evicts = True

    def __init__(self, config: LocalConfig, runtime: Runtime) -> None:
        self._runtime = runtime
        self._in_memory = config.path is None
        self._busy_timeout = config.busy_timeout
        self._store: Store
        self._native: MemoryStore | Path
        if config.path is None:
            self._store = self._native = MemoryStore(runtime.clock, config.max_bytes)
        else:
            self._native = config.path
            self._store = FileStore(
                config.path,
                runtime.clock,
                config.max_bytes,
                fsync=config.fsync,
                busy_timeout=config.busy_timeout,
            )
        self.capabilities = CAPABILITIES - config.lacks
        self.max_request_lifetime = 0.0 if config.path is None else MAX_REQUEST_LIFETIME
        found = CacheLimits(**limits("cache", "local"))
        room = config.max_bytes - found.max_key - self._store.overhead
        self.limits = replace(found, max_value=min(found.max_value, room))

    async def prepare(self) -> None:
        """Make the file, or recognize it; nothing in memory.

        Raises `config_invalid` for a file that is not ours, OSError and sqlite3.Error as they
        come.
        """
        if isinstance(self._store, FileStore):
            await patiently(self._runtime, self._store.prepare, self._busy_timeout)

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """See `CacheBackend.get_many`."""
        physical = _physical(partition, keys)
        return await self._read(lambda table: operations.get_many(table, physical))

    async def set(
        self,
        partition: str,
        key: str,
        value: bytes,
        *,
        ttl: float | None,
        only_if: Condition | None = None,
        along: Sequence[str] = (),
    ) -> Stored:
        """See `CacheBackend.set`."""
        name, *others = _physical(partition, (key, *along))
        return await self._write(
            lambda table: operations.set_one(table, name, value, ttl, only_if, others)
        )

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        *,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> StoredMany:
        """See `CacheBackend.set_many`. A value that is too large is a failure of its own."""
        names = _physical(partition, values)
        others = _physical(partition, along)
        return await self._write(
            lambda table: operations.set_many(table, values, names, ttl, others)
        )

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `CacheBackend.delete_many`. All are forgotten, or an error is raised for all."""
        names = _physical(partition, keys)
        await self._write(lambda table: operations.delete_many(table, names))
        return {}

    async def compare_and_set(
        self,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        *,
        ttl: float | None,
    ) -> bool:
        """See `CacheBackend.compare_and_set`."""
        (name,) = _physical(partition, (key,))
        return await self._write(
            lambda table: operations.compare_and_set(table, name, expected, value, ttl)
        )

    async def increment(
        self,
        partition: str,
        key: str,
        amount: int,
        *,
        initial: bytes | None,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> Counted:
        """See `CacheBackend.increment`."""
        check_amount(amount)
        name, *others = _physical(partition, (key, *along))
        return await self._write(
            lambda table: operations.increment(table, name, amount, initial, ttl, others)
        )

    async def ttl(self, partition: str, key: str) -> float | None:
        """See `CacheBackend.ttl`."""
        (name,) = _physical(partition, (key,))
        return await self._read(lambda table: operations.ttl_of(table, name))

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        """See `CacheBackend.expire`."""
        (name,) = _physical(partition, (key,))
        return await self._write(lambda table: operations.expire(table, name, ttl))

    def translate(self, error: Exception) -> PlatformError | None:
        """See `CacheBackend.translate`."""
        return classify(error, FORM.cure)

    async def ping(self) -> None:
        """Look whether the file is there and can be used; memory always is."""
        await self._call(self._store.ping)

    def native(self) -> MemoryStore | Path:
        """The store in memory, or the path of the file: any client of SQLite reads it."""
        return self._native

    async def close(self) -> None:
        """Forget what is in memory, or let go of the file."""
        await self._call(self._store.close)

    async def _read(self, work: Callable[[Table], T]) -> T:
        return await self._call(self._store.read, work)

    async def _write(self, work: Callable[[Table], T]) -> T:
        ticket = Ticket()
        try:
            return await self._call(self._store.write, work, ticket)
        except BaseException:
            ticket.withdraw()
            raise

    async def _call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        # Memory takes microseconds: less than a thread would take to wake up.
        if self._in_memory:
            return fn(*args, **kwargs)
        return await self._runtime.call(fn, *args, **kwargs)


def _physical(partition: str, keys: Iterable[str]) -> list[bytes]:
    try:
        return [(partition + key).encode() for key in keys]
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            "a key must be valid Unicode; this one has a lone surrogate", not_sent=True
        ) from None


async def _open(config: LocalConfig, runtime: Runtime) -> LocalCache:
    cache = LocalCache(config, runtime)
    try:
        await cache.prepare()
    except BaseException as error:
        await cache.close()
        told = None if config.path is None else refusal(error, config.path, FORM)
        if told is None:
            raise
        raise told from error
    return cache


BACKEND: Final = Backend(
    name="cache.local", config=LocalConfig, open=_open, capabilities=CAPABILITIES
)

__all__ = ["BACKEND", "LocalCache", "LocalConfig"]
