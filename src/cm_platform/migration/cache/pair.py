"""The two caches of a migration, asked one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from cm_platform.cache.backend import CacheBackend, CacheCapability, Values
from cm_platform.errors import PlatformError
from cm_platform.migration.ledger import Side
from cm_platform.runtime import Runtime

T = TypeVar("T")

_ATOMICS: Final = frozenset(
    {
        CacheCapability.CONDITIONAL_SET,
        CacheCapability.COMPARE_AND_SET,
        CacheCapability.ATOMIC_INCREMENT,
    }
)

_SIDES: Final[tuple[Side, Side]] = ("source", "target")


class Pair:
    """Source and target. What they raise leaves here classified."""

    __slots__ = ("max_request_lifetime", "runtime", "source", "target")

    def __init__(self, source: CacheBackend, target: CacheBackend, runtime: Runtime) -> None:
        self.source = source
        self.target = target
        self.runtime = runtime
        self.max_request_lifetime = max(source.max_request_lifetime, target.max_request_lifetime)

    def backend(self, side: Side) -> CacheBackend:
        """The backend of a side."""
        return self.source if side == "source" else self.target

    def has(self, side: Side, capability: CacheCapability) -> bool:
        """Whether a side can do that."""
        return capability in self.backend(side).capabilities

    def is_prompt(self, side: Side) -> bool:
        """Whether a side shows what was written as soon as that was answered."""
        return self.has(side, CacheCapability.READ_YOUR_WRITES)

    @property
    def is_exact(self) -> bool:
        """Whether a value can be moved from either side to the other, and be in one place only."""
        return all(
            self.has(side, capability)
            for side in _SIDES
            for capability in (CacheCapability.READ_YOUR_WRITES, CacheCapability.COMPARE_AND_SET)
        )

    def both_can(self) -> frozenset[CacheCapability]:
        """What holds while values are on both sides.

        Atomics only where a value can be moved exactly.
        """
        both = self.source.capabilities & self.target.capabilities
        return both if self.is_exact else both - _ATOMICS

    async def on(self, side: Side, call: Callable[[CacheBackend], Awaitable[T]]) -> T:
        """Ask one side. Raises `PlatformError`s; what cannot be classified stays as it is."""
        backend = self.backend(side)
        try:
            return await call(backend)
        except PlatformError:
            raise
        except Exception as error:
            failure = backend.translate(error)
            if failure is None:
                raise
            raise failure from error

    async def fetch(
        self, side: Side, partition: str, keys: Iterable[str]
    ) -> dict[str, bytes | None]:
        """What a side has under these keys, as it is. A key that is too long for it has nothing."""
        backend = self.backend(side)
        found: dict[str, bytes | None] = dict.fromkeys(keys)
        asked = [key for key in found if self.fits(side, partition, key)]
        most = backend.limits.max_batch
        for start in range(0, len(asked), most):
            some = asked[start : start + most]
            values = await self.on(side, partial(_got, partition, some))
            found.update(zip(some, values, strict=True))
        return found

    async def drop(
        self, side: Side, partition: str, keys: Iterable[str]
    ) -> Mapping[str, PlatformError]:
        """Forget keys on a side; the failures by key."""
        backend = self.backend(side)
        asked = [key for key in keys if self.fits(side, partition, key)]
        most = backend.limits.max_batch
        failures: dict[str, PlatformError] = {}
        for start in range(0, len(asked), most):
            some: Sequence[str] = asked[start : start + most]
            failures |= await self.on(side, partial(_dropped, partition, some))
        return failures

    def fits(self, side: Side, partition: str, key: str) -> bool:
        """Whether a side can have the key at all."""
        most = self.backend(side).limits.max_key
        length = len(partition) + len(key)
        return length * 4 <= most or len((partition + key).encode()) <= most


async def _got(partition: str, keys: Sequence[str], backend: CacheBackend) -> Values:
    return await backend.get_many(partition, keys)


async def _dropped(
    partition: str, keys: Sequence[str], backend: CacheBackend
) -> Mapping[str, PlatformError]:
    return await backend.delete_many(partition, keys)


__all__ = ["Pair"]
