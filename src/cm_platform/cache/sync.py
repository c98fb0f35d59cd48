"""The sync face of cache. Generated from the async one by scripts/generate_faces.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from cm_platform.errors import PlatformError
from cm_platform.runtime import drive
from cm_platform.tenant import Tenant

from .backend import CacheCapability, Condition
from .service import AsyncCache
from .times import DEFAULT, Default


class Cache:
    """A cache for one tenant.

    Cheap, safe to share, holds no connection: it may be kept for hours and follows the flags.
    Get one from `cm_platform.get_service("cache", tenant)`.

    Keys: text, not empty, without control characters; how long is up to the backend (512 bytes
    of UTF-8 on Workers KV, prefixes included). Values: bytes, text, numbers, what JSON can say,
    pydantic models; in a raw namespace bytes and text as they are. `ttl` is in seconds, exact
    on every backend, None for ever; left out, the namespace's.

    Every method raises `invalid_argument` for anything else, before any I/O; `unsupported` for
    what the backend cannot do; `unavailable`, `deadline_exceeded`, `rate_limited` when retries
    did not help; conditional writes and increments in doubt raise `ambiguous`.
    """

    __slots__ = ("_async",)

    def __init__(self, asynchronous: AsyncCache) -> None:
        self._async = asynchronous

    def __repr__(self) -> str:
        return repr(self._async).removeprefix("Async")

    @property
    def tenant(self) -> Tenant:
        """Whose cache this is."""
        return self._async.tenant

    def namespace(self, name: str) -> Cache:
        """The tenant's part of the cache of this name, as `[cache.namespaces]` configures it.

        Its keys are its own, and `clear` clears it alone. "default" is the one to begin with.
        """
        return Cache(self._async.namespace(name))

    def with_timeout(self, seconds: float) -> Cache:
        """The same cache with another deadline for a whole operation, retries included.

        seconds: more than 0, at most 86,400 (a day).
        """
        return Cache(self._async.with_timeout(seconds))

    def capabilities(self) -> frozenset[CacheCapability]:
        """What the tenant's backend, as configured, can do beyond the common methods."""
        return drive(self._async.capabilities())

    def staleness(self) -> float:
        """Seconds after `clear` or `invalidate_tag` during which a read elsewhere may still hit.

        0 where every read sees every write. A read may miss a `set` for the part of it that is
        the store's own.
        """
        return drive(self._async.staleness())

    def ping(self) -> None:
        """Reach the tenant's backend with the configured credentials."""
        drive(self._async.ping())

    def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        """The value, or `default` where there is none.

        type: what it must be, for pydantic to make and check: a model, `list[int]`...
            `integrity` when it is something else.
        """
        return drive(self._async.get(key, default, type=type))

    def get_many(self, keys: Iterable[str], *, type: Any = None) -> dict[str, Any]:
        """The values that are there, by key, in the order asked for."""
        return drive(self._async.get_many(keys, type=type))

    def ttl(self, key: str) -> float | None:
        """Seconds until the value is stale; None for ever. Raises `not_found`."""
        return drive(self._async.ttl(key))

    def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | Default | None = DEFAULT,
        stale: float = 0,
        tags: Iterable[str] = (),
        only_if: Condition | None = None,
    ) -> bool:
        """Keep a value; whether it was kept, which only `only_if` can prevent.

        stale: seconds after the ttl during which `get_or_set` may still serve it.
        tags: names by which `invalidate_tag` makes many values outdated at once; at most 64.
        only_if: "absent" keeps it only where there is no value, "present" only where there is.
        """
        return drive(self._async.set(key, value, ttl=ttl, stale=stale, tags=tags, only_if=only_if))

    def set_many(
        self,
        values: Mapping[str, Any],
        *,
        ttl: float | Default | None = DEFAULT,
        stale: float = 0,
        tags: Iterable[str] = (),
    ) -> dict[str, PlatformError | None]:
        """Keep several values; an outcome per key: None, or why it may not have been kept.

        stale, tags: as in `set`, for all of them. A batch that fails as a whole is the outcome of
        each of its keys; the others go on.
        """
        return drive(self._async.set_many(values, ttl=ttl, stale=stale, tags=tags))

    def delete(self, key: str) -> None:
        """Forget a value. Not an error where there is none."""
        drive(self._async.delete(key))

    def delete_many(self, keys: Iterable[str]) -> dict[str, PlatformError | None]:
        """Forget several values; an outcome per key: None, or why it may still be there.

        A batch that fails as a whole is the outcome of each of its keys; the others go on.
        """
        return drive(self._async.delete_many(keys))

    def touch(self, key: str, ttl: float | Default | None = DEFAULT) -> bool:
        """Give a value a new time, from now; whether there is one."""
        return drive(self._async.touch(key, ttl))

    def increment(self, key: str, amount: int = 1, *, ttl: float | Default | None = DEFAULT) -> int:
        """Add to a whole number, atomically; the sum. It starts at 0 where there is none.

        amount: a signed integer of 64 bits; so is the sum.
        ttl: of a number that starts here. One that is there keeps its time.

        Never sent twice: when the reply is lost, it raises `ambiguous`. Raises
        `precondition_failed` for a value that is no whole number, has tags, or may be stale.
        """
        return drive(self._async.increment(key, amount, ttl=ttl))

    def clear(self) -> None:
        """Make every value of the tenant in this namespace outdated, by one small write.

        Nothing is scanned, and nobody else's values are touched. What others read meanwhile may
        be older for `staleness()` seconds.
        """
        drive(self._async.clear())

    def invalidate_tag(self, tag: str) -> None:
        """Make every value outdated that was kept with this tag; otherwise as `clear`."""
        drive(self._async.invalidate_tag(tag))

    def get_or_set(
        self,
        key: str,
        factory: Callable[[], Any],
        *,
        ttl: float | Default | None = DEFAULT,
        stale: float = 0,
        stale_if_error: float = 0,
        negative_ttl: float | None = None,
        jitter: float = 0,
        tags: Iterable[str] = (),
        type: Any = None,
    ) -> Any:
        """The value; where there is none, what `factory` returns, which is kept.

        Of many who miss it at once, one computes and the others wait: in this process, and
        across processes where the backend has `compare_and_set`. When the cache does not
        answer, the value is computed and not kept. What `factory` raises is raised.

        factory: takes nothing; may be async on the async face.
        stale: for so many seconds after the ttl the old value is served at once, while the new
            one is computed in the background.
        stale_if_error: for so many seconds after the ttl the old value is served when `factory`
            fails.
        negative_ttl: None is kept for so many seconds; without it, None is not kept.
        jitter: up to this fraction of the ttl (0 to 1) is taken off at random, so that what was
            kept together does not end together.
        type: as in `get`; a value of another type is computed anew.
        """
        return drive(
            self._async.get_or_set(
                key,
                factory,
                ttl=ttl,
                stale=stale,
                stale_if_error=stale_if_error,
                negative_ttl=negative_ttl,
                jitter=jitter,
                tags=tags,
                type=type,
            )
        )

    def __enter__(self) -> Self:
        """The cache itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Does nothing: the platform owns connections."""
        drive(self._async.__aexit__(exc_type, exc, traceback))


__all__ = ["Cache"]
