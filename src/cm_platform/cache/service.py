"""What an application holds: a cache for one tenant, wherever its values are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from cm_platform import arguments
from cm_platform.errors import InvalidArgumentError, PlatformError, UnsupportedError
from cm_platform.executor import Endpoint, Executor
from cm_platform.operation import Operation
from cm_platform.tenant import Tenant

from . import operations, raw
from .backend import CacheBackend, CacheCapability, CacheLimits, Condition
from .counting import increment
from .entries import Draft
from .keys import DEFAULT_NAMESPACE, check_tag
from .loading import Wish, get_or_set
from .sizes import batched, check_accounted
from .space import Space
from .times import DEFAULT, Default, check_fraction, check_span, check_ttl
from .touching import remaining, touch
from .values import check_type, encode_value


class AsyncCache:
    """A cache for one tenant.

    Cheap, safe to share, holds no connection: it may be kept for hours and follows the flags.
    Get one from `cm_platform.get_async_service("cache", tenant)`.

    Keys: text, not empty, without control characters; how long is up to the backend (512 bytes
    of UTF-8 on Workers KV, prefixes included). Values: bytes, text, numbers, what JSON can say,
    pydantic models; in a raw namespace bytes and text as they are. `ttl` is in seconds, exact
    on every backend, None for ever; left out, the namespace's.

    Every method raises `invalid_argument` for anything else, before any I/O; `unsupported` for
    what the backend cannot do; `unavailable`, `deadline_exceeded`, `rate_limited` when retries
    did not help; conditional writes and increments in doubt raise `ambiguous`.
    """

    __slots__ = ("_namespaces", "_space")

    def __init__(self, space: Space, namespaces: Callable[[str], Space]) -> None:
        self._space = space
        self._namespaces = namespaces

    def __repr__(self) -> str:
        namespace = "" if self._space.name == DEFAULT_NAMESPACE else f", {self._space.name!r}"
        return f"{type(self).__name__}({self.tenant!r}{namespace})"

    @property
    def tenant(self) -> Tenant:
        """Whose cache this is."""
        return self._space.scope.tenant

    def namespace(self, name: str) -> AsyncCache:
        """The tenant's part of the cache of this name, as `[cache.namespaces]` configures it.

        Its keys are its own, and `clear` clears it alone. "default" is the one to begin with.
        """
        space, timeout = self._namespaces(name), self._space.executor.timeout
        if timeout is not None:
            space = space.with_timeout(timeout)
        return type(self)(space, self._namespaces)

    def with_timeout(self, seconds: float) -> AsyncCache:
        """The same cache with another deadline for a whole operation, retries included.

        seconds: more than 0, at most 86,400 (a day).
        """
        deadline = arguments.seconds(seconds, "a timeout")
        return type(self)(self._space.with_timeout(deadline), self._namespaces)

    async def capabilities(self) -> frozenset[CacheCapability]:
        """What the tenant's backend, as configured, can do beyond the common methods."""
        backend: CacheBackend = (await self._space.executor.endpoint()).backend
        return backend.capabilities

    async def staleness(self) -> float:
        """Seconds after `clear` or `invalidate_tag` during which a read elsewhere may still hit.

        0 where every read sees every write. A read may miss a `set` for the part of it that is
        the store's own.
        """
        limits: CacheLimits = (await self._space.executor.endpoint()).backend.limits
        return limits.staleness + limits.generation_age

    async def ping(self) -> None:
        """Reach the tenant's backend with the configured credentials."""
        await self._space.executor.run(operations.PING, _ping)

    # Reading ------------------------------------------------------------------------------

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        """The value, or `default` where there is none.

        type: what it must be, for pydantic to make and check: a model, `list[int]`...
            `integrity` when it is something else.
        """
        if type is not None:
            check_type(type)
        space = self._space
        endpoint = await space.executor.endpoint()
        if space.names.raw:
            self._refuse_raw(type is not None, "type")
            (data,) = await raw.read(space.executor, endpoint, space.names, (key,), operations.GET)
            return default if data is None else data
        values = await space.entries.values(space.executor, endpoint, (key,), operations.GET, type)
        return values.get(key, default)

    async def get_many(self, keys: Iterable[str], *, type: Any = None) -> dict[str, Any]:
        """The values that are there, by key, in the order asked for."""
        if type is not None:
            check_type(type)
        asked = _distinct(keys)
        space = self._space
        endpoint = await space.executor.endpoint()
        if not asked:
            return {}
        if space.names.raw:
            self._refuse_raw(type is not None, "type")
            values = await raw.read(
                space.executor, endpoint, space.names, asked, operations.GET_MANY
            )
            return {k: v for k, v in zip(asked, values, strict=True) if v is not None}
        return await space.entries.values(
            space.executor, endpoint, asked, operations.GET_MANY, type
        )

    async def ttl(self, key: str) -> float | None:
        """Seconds until the value is stale; None for ever. Raises `not_found`."""
        space = self._space
        endpoint = await space.executor.endpoint()
        if space.names.raw:
            return await raw.remaining(space.executor, endpoint, space.names, key)
        return await remaining(space.entries, space.executor, endpoint, key)

    # Writing ------------------------------------------------------------------------------

    async def set(
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
        if only_if not in (None, "absent", "present"):
            raise InvalidArgumentError('only_if takes "absent", "present" or None')
        space = self._space
        if space.names.raw:
            self._refuse_raw(stale != 0, "stale")
            self._refuse_raw(bool(tags), "tags")
            data, seconds = raw.raw_value(value), self._ttl(ttl)
            endpoint = await space.executor.endpoint()
            return await raw.write(
                space.executor, endpoint, space.names, key, data, seconds, only_if
            )
        draft = self._draft(value, ttl, stale, tags)
        endpoint = await space.executor.endpoint()
        if only_if is None:
            await space.entries.write(space.executor, endpoint, key, draft)
            return True
        space.executor.check(operations.SET_IF, CacheCapability.COMPARE_AND_SET, endpoint)
        return await space.entries.write_if(space.executor, endpoint, key, draft, only_if)

    async def set_many(
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
        if not isinstance(values, Mapping):
            raise InvalidArgumentError(
                f"values are a mapping of keys to values, not {type(values).__name__}"
            )
        space = self._space
        failures: dict[str, PlatformError]
        if space.names.raw:
            self._refuse_raw(stale != 0, "stale")
            self._refuse_raw(bool(tags), "tags")
            data = {key: raw.raw_value(value) for key, value in values.items()}
            seconds = self._ttl(ttl)
            endpoint = await space.executor.endpoint()
            failures = await raw.write_many(space.executor, endpoint, space.names, data, seconds)
        else:
            tags = space.names.tags(tags)
            drafts = {key: self._draft(value, ttl, stale, tags) for key, value in values.items()}
            endpoint = await space.executor.endpoint()
            failures = await space.entries.write_many(
                space.executor, endpoint, drafts, operations.SET_MANY
            )
        return _outcomes(values, failures, space.executor, operations.SET_MANY, endpoint)

    async def delete(self, key: str) -> None:
        """Forget a value. Not an error where there is none."""
        space = self._space
        endpoint = await space.executor.endpoint()
        limits: CacheLimits = endpoint.backend.limits
        partition, name = space.names.partition, space.names.key(key, limits.max_key)

        async def forget(backend: CacheBackend) -> None:
            failures = await backend.delete_many(partition, (name,))
            check_accounted(failures, (name,))
            # Here, and not as an outcome: so that it is tried again.
            for failure in failures.values():
                raise failure

        await space.executor.run(operations.DELETE, forget, endpoint=endpoint)

    async def delete_many(self, keys: Iterable[str]) -> dict[str, PlatformError | None]:
        """Forget several values; an outcome per key: None, or why it may still be there.

        A batch that fails as a whole is the outcome of each of its keys; the others go on.
        """
        asked = _distinct(keys)
        space = self._space
        endpoint = await space.executor.endpoint()
        limits: CacheLimits = endpoint.backend.limits
        by_name = dict(zip(space.names.keys(asked, limits.max_key), asked, strict=True))
        partition = space.names.partition
        failures: dict[str, PlatformError] = {}
        for batch in batched(list(by_name), limits.max_batch):

            async def forget(
                backend: CacheBackend, batch: Sequence[str] = batch
            ) -> Mapping[str, PlatformError]:
                return await backend.delete_many(partition, batch)

            failed: Mapping[str, PlatformError]
            try:
                failed = await space.executor.run(operations.DELETE_MANY, forget, endpoint=endpoint)
            except PlatformError as error:
                failed = dict.fromkeys(batch, error)
            check_accounted(failed, batch)
            failures |= {by_name[name]: error for name, error in failed.items()}
        return _outcomes(asked, failures, space.executor, operations.DELETE_MANY, endpoint)

    async def touch(self, key: str, ttl: float | Default | None = DEFAULT) -> bool:
        """Give a value a new time, from now; whether there is one."""
        seconds = self._ttl(ttl)
        space = self._space
        endpoint = await space.executor.endpoint()
        if space.names.raw:
            return await raw.touch(space.executor, endpoint, space.names, key, seconds)
        space.executor.check(operations.TOUCH, CacheCapability.COMPARE_AND_SET, endpoint)
        return await touch(space.entries, space.executor, endpoint, key, seconds)

    async def increment(
        self, key: str, amount: int = 1, *, ttl: float | Default | None = DEFAULT
    ) -> int:
        """Add to a whole number, atomically; the sum. It starts at 0 where there is none.

        amount: a signed integer of 64 bits; so is the sum.
        ttl: of a number that starts here. One that is there keeps its time.

        Never sent twice: when the reply is lost, it raises `ambiguous`. Raises
        `precondition_failed` for a value that is no whole number, has tags, or may be stale.
        """
        arguments.whole(amount, "amount", -(2**63), 2**63 - 1)
        seconds = self._ttl(ttl)
        space = self._space
        endpoint = await space.executor.endpoint()
        space.executor.check(operations.INCREMENT, CacheCapability.ATOMIC_INCREMENT, endpoint)
        if space.names.raw:
            return await raw.increment(space.executor, endpoint, space.names, key, amount, seconds)
        return await increment(space.entries, space.executor, endpoint, key, amount, seconds)

    # Whole sets ---------------------------------------------------------------------------

    async def clear(self) -> None:
        """Make every value of the tenant in this namespace outdated, by one small write.

        Nothing is scanned, and nobody else's values are touched. What others read meanwhile may
        be older for `staleness()` seconds.
        """
        await self._raise_version(None, operations.CLEAR)

    async def invalidate_tag(self, tag: str) -> None:
        """Make every value outdated that was kept with this tag; otherwise as `clear`."""
        await self._raise_version(check_tag(tag), operations.INVALIDATE_TAG)

    async def _raise_version(self, tag: str | None, operation: Operation) -> None:
        space = self._space
        self._refuse_raw(True, operation.name)
        endpoint = await space.executor.endpoint()
        await space.entries.raise_version(space.executor, endpoint, tag, operation)

    # Computing ----------------------------------------------------------------------------

    async def get_or_set(
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
        self._refuse_raw(True, "get_or_set")
        if not callable(factory):
            raise InvalidArgumentError("factory must be callable: a function without arguments")
        if type is not None:
            check_type(type)
        space = self._space
        wish = Wish(
            key,
            factory,
            self._ttl(ttl),
            check_span(stale, "stale"),
            check_span(stale_if_error, "stale_if_error"),
            None if negative_ttl is None else check_ttl(negative_ttl, "negative_ttl"),
            check_fraction(jitter, "jitter"),
            space.names.tags(tags),
            type,
        )
        if wish.ttl is None and (wish.stale or wish.stale_if_error):
            raise InvalidArgumentError("a value that is kept for ever is never stale: give a ttl")
        return await get_or_set(space, wish)

    def _ttl(self, ttl: float | Default | None) -> float | None:
        return self._space.ttl if ttl is DEFAULT else check_ttl(ttl, "ttl")

    def _draft(
        self, value: Any, ttl: float | Default | None, stale: float, tags: Iterable[str]
    ) -> Draft:
        encoding, payload = encode_value(value)
        seconds, extra = self._ttl(ttl), check_span(stale, "stale")
        if seconds is None and extra:
            raise InvalidArgumentError("a value that is kept for ever is never stale: give a ttl")
        return Draft(encoding, payload, seconds, extra, self._space.names.tags(tags))

    def _refuse_raw(self, given: bool, what: str) -> None:
        if given and self._space.names.raw:
            raise UnsupportedError(
                f"{what} needs entries of our own form; this namespace is raw, shared with other "
                "programs as it is",
                service="cache",
                not_sent=True,
            )

    async def __aenter__(self) -> Self:
        """The cache itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Does nothing: the platform owns connections."""


def _distinct(keys: Iterable[str]) -> list[str]:
    if isinstance(keys, str | bytes):
        raise InvalidArgumentError("keys are several: write (key,)")
    try:
        return list(dict.fromkeys(keys))
    except TypeError:
        raise InvalidArgumentError("keys are an iterable of text (str)") from None


def _outcomes(
    keys: Iterable[str],
    failures: Mapping[str, PlatformError],
    executor: Executor,
    operation: Operation,
    endpoint: Endpoint,
) -> dict[str, PlatformError | None]:
    for failure in failures.values():
        executor.placed(failure, operation, endpoint)
    return {key: failures.get(key) for key in keys}


async def _ping(backend: CacheBackend) -> None:
    await backend.ping()


__all__ = ["AsyncCache"]
