"""What a cache backend promises: the Protocol, its capabilities and its frozen types.

A backend is small. It keeps bytes under keys for a time; tenants, namespaces, encodings,
generations, tags and stale values live once, above it. Rules for every method:

- `partition` is the beginning of every physical key of one tenant; `key` is the rest. A backend
  MUST keep and answer under exactly `partition + key`, byte for byte as UTF-8, and no call may
  reach a key outside of its partition.
- A method is one attempt, as a rule one request. It MUST NOT retry: the executor does, by
  idempotence.
- `ttl` is in seconds, more than 0, or None for ever. A value MUST NOT be answered by a backend
  that declares `exact_ttl` once its time is over. Others keep it longer, for as long as their
  store demands; the service judges by what stands in the entry.
- `along`: keys of the same partition whose values are answered with the reply, read after the
  write took effect. It spares a request.
- Any exception may leave a method; `translate` classifies it. What `translate` does not know
  becomes `internal`.
- Cancellation (async) MUST leave no connection in an unknown state, and MUST NOT disturb other
  callers that share it. The write itself may land up to `max_request_lifetime` seconds later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from cm_platform.errors import PlatformError

Condition = Literal["absent", "present"]

Values = Sequence[bytes | None]


class CacheCapability(StrEnum):
    """What not every cache backend can do. Declared by the backend, narrowed by its
    configuration, checked before the network is touched."""

    READ_YOUR_WRITES = "read_your_writes"
    """A read that starts after a write was answered sees it, from any process."""
    EXACT_TTL = "exact_ttl"
    """The store itself ends a value's time, to the tenth of a second."""
    CONDITIONAL_SET = "conditional_set"
    """`set` with `only_if`: atomic among any number of writers."""
    COMPARE_AND_SET = "compare_and_set"
    """`compare_and_set`: atomic."""
    ATOMIC_INCREMENT = "atomic_increment"
    """`increment`: atomic; every caller gets a number of its own."""
    EXPIRE = "expire"
    """`ttl` and `expire` on values of other programs (`encoding = "raw"`)."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """The store's bounds, from a dated file (`cm_platform/limits`). Sizes are bytes.

    max_key: of a physical key, as UTF-8. max_value: of an entry, its header included.
    max_batch: keys in one request; the service asks for more in several.
    min_ttl: seconds; what is to end sooner is kept for so long. An entry ends in time all the
        same, by what stands in it; a raw value cannot, and the service refuses such a ttl.
    staleness: seconds after a write during which a read elsewhere may miss it; 0: none.
    generation_age: seconds for which a process goes on with the generation that it knows before
        it asks again; 0: it reads it along with every value. `clear` and `invalidate_tag` may
        be stale by both together.
    """

    max_key: int
    max_value: int
    max_batch: int = 1000
    min_ttl: float = 0.0
    staleness: float = 0.0
    generation_age: float = 0.0


class Stored(NamedTuple):
    """The reply to a `set`. stored: False when its condition did not hold."""

    stored: bool
    along: Values = ()


class StoredMany(NamedTuple):
    """The reply to a `set_many`. failures: by key; whatever is not in it was stored."""

    failures: Mapping[str, PlatformError]
    along: Values = ()


class Counted(NamedTuple):
    """The reply to an `increment`.

    stamp: of the entry that is kept now; 0 for one without (`initial` None).
    """

    value: int
    stamp: int
    along: Values = ()


class CacheBackend(Protocol):
    """One cache store, opened under one runtime."""

    capabilities: frozenset[CacheCapability]
    limits: CacheLimits
    evicts: bool
    """Whether the store may drop a value before its time is over."""
    max_request_lifetime: float
    """Seconds after a timeout during which a request may still land."""

    async def get_many(self, partition: str, keys: Sequence[str]) -> Values:
        """The values of 1 to `limits.max_batch` keys, in order; None where there is none."""
        ...

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
        """Keep a value; replaces value and time together.

        only_if: keep it only if the key is absent, or present.
        """
        ...

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        *,
        ttl: float | None,
        along: Sequence[str] = (),
    ) -> StoredMany:
        """Keep 1 to `limits.max_batch` values. Each is atomic; together they need not be.

        MUST account for every key: one of which the store did not speak is a failure.
        """
        ...

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """Forget 1 to `limits.max_batch` keys; the failures by key. An absent key is no failure."""
        ...

    async def compare_and_set(
        self,
        partition: str,
        key: str,
        expected: bytes | None,
        value: bytes | None,
        *,
        ttl: float | None,
    ) -> bool:
        """Replace exactly what was expected; whether it was.

        expected: None for absent. value: None to forget it.
        """
        ...

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
        """Add to a counter, atomically.

        amount: a signed integer of 64 bit; so is the sum: MUST raise `invalid_argument` beyond.
        initial: the entry (`entry.py`) that is kept, with `ttl`, where the key is absent or has
            a lower stamp (bytes 2-9): its payload is the amount. Where the key has an entry
            whose stamp is not lower, its header and its time stay and the amount is added to its
            payload. None: the value is plain decimal text, as other programs keep it, and 0
            where the key is absent; `ttl` applies then, too.
        MUST raise `precondition_failed` for a value, not outdated, that is no counter.
        """
        ...

    async def ttl(self, partition: str, key: str) -> float | None:
        """Seconds that are left, None for ever. MUST raise `not_found` for an absent key."""
        ...

    async def expire(self, partition: str, key: str, ttl: float | None) -> bool:
        """Give a value a new time; whether there was one."""
        ...

    def translate(self, error: Exception) -> PlatformError | None:
        """Classify what the SDK raised; None for what is not the SDK's.

        `not_sent` MUST be set only where the request certainly had no effect. A timeout is
        `deadline_exceeded`; a connection lost is `unavailable`; both retryable.
        """
        ...

    async def ping(self) -> None:
        """Reach the store with the configured credentials, as cheaply as it can be done."""
        ...

    def native(self) -> Any:
        """The SDK's own client, for operators."""
        ...

    async def close(self) -> None:
        """Let go of connections. MUST be safe to call twice."""
        ...


__all__ = [
    "CacheBackend",
    "CacheCapability",
    "CacheLimits",
    "Condition",
    "Counted",
    "Stored",
    "StoredMany",
    "Values",
]
