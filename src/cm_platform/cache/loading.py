"""`get_or_set`: a value that is computed once, kept, served while stale, and after failures."""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Final, NamedTuple

from cm_platform.errors import (
    AmbiguousError,
    DeadlineExceededError,
    IntegrityError,
    InvalidArgumentError,
    PlatformError,
    QuotaExceededError,
    RateLimitedError,
    UnavailableError,
)
from cm_platform.executor import Endpoint

from . import operations
from .backend import CacheCapability
from .entries import Draft
from .entry import TOKEN_SIZE, Encoding, Entry
from .flights import NOTHING
from .space import Space
from .times import SHORTEST
from .values import decode_value, encode_value

logger = logging.getLogger("cm_platform.cache")

# Who computes holds a lease in the store for so long; a process that dies holds up others no
# longer than this, and a computation that takes longer may run in a second process as well.
LEASE: Final = 30.0
# Seconds between looks at what another process is computing.
_FIRST_LOOK: Final = 0.02
_LAST_LOOK: Final = 0.5

# A store that is full answers, and keeps nothing.
_OUTAGE: Final = (
    UnavailableError,
    DeadlineExceededError,
    RateLimitedError,
    AmbiguousError,
    QuotaExceededError,
)
_NULL: Final = b"null"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller of `get_or_set` asked for. Times are seconds.

    stale: after the ttl the value is served for so long while it is computed anew.
    stale_if_error: after the ttl it is served for so long when computing fails.
    negative_ttl: None is kept for so long; not at all without.
    jitter: up to this fraction of the ttl is taken off, at random.
    """

    key: str
    factory: Callable[[], Any]
    ttl: float | None
    stale: float = 0.0
    stale_if_error: float = 0.0
    negative_ttl: float | None = None
    jitter: float = 0.0
    tags: tuple[str, ...] = ()
    type: Any = None


class Loaded(NamedTuple):
    """What was found or computed, as all who waited for it share it: each decodes its own.

    is_none: whether None was computed, or kept for who asked for None to be kept.
    """

    entry: Entry
    is_none: bool


async def get_or_set(space: Space, wish: Wish) -> Any:
    """The value: from the cache, or computed and kept."""
    endpoint = await space.executor.endpoint()
    entry, answers = await _read(space, endpoint, wish)
    age = -1.0 if entry is None else _age(entry, endpoint)
    if entry is not None and age <= wish.stale:
        try:
            value = _decoded(entry, wish)
        except IntegrityError as error:
            # Another version of the application wrote it: computed anew, not served wrong.
            logger.warning("%s; computing it anew", error.message)
            entry = None
        else:
            if age >= 0:
                _refresh(space, endpoint, wish)
            return value

    try:
        loaded: Loaded = await space.flights.join(
            wish.key,
            endpoint,
            _patience(space, endpoint),
            lambda: _load(space, endpoint, wish, answers=answers, waits=True),
        )
    except Exception as error:
        # Not where it was computed: who waited may take what is stale, too.
        if entry is None or age > wish.stale_if_error or _is_ours(error):
            raise
        try:
            value = _decoded(entry, wish)
        except IntegrityError:
            raise error from None
        logger.warning("computing failed with %s: serving what is stale", type(error).__name__)
        return value
    if loaded.is_none:
        return None
    # As the next reader gets it, so that a hit and a miss cannot be told apart; and not one object
    # for all who waited.
    return decode_value(loaded.entry, wish.type)


def _decoded(entry: Entry, wish: Wish) -> Any:
    """The value; None is of any type to who asked for None to be kept."""
    if wish.negative_ttl is not None and entry.encoding == Encoding.JSON and entry.payload == _NULL:
        return None
    return decode_value(entry, wish.type)


def _age(entry: Entry, endpoint: Endpoint) -> float:
    """Seconds since it became stale; negative while it is fresh."""
    now = endpoint.runtime.clock.wall()
    return now - entry.fresh_until / 1000 if entry.is_stale(now) else -1.0


def _patience(space: Space, endpoint: Endpoint) -> float:
    """Seconds to wait for others who compute the value: as long as an operation may take."""
    return space.executor.timeout or endpoint.timeout


def _refresh(space: Space, endpoint: Endpoint, wish: Wish) -> None:
    """Compute it anew in the background, unless somebody does."""
    flights = space.flights
    if not flights.claim(wish.key, endpoint):
        return

    async def refresh() -> None:
        try:
            await flights.join(
                wish.key,
                endpoint,
                _patience(space, endpoint),
                lambda: _load(space, endpoint, wish, answers=True, waits=False),
            )
        finally:
            flights.release(wish.key, endpoint)

    if not endpoint.runtime.spawn(refresh()):
        flights.release(wish.key, endpoint)


async def _read(space: Space, endpoint: Endpoint, wish: Wish) -> tuple[Entry | None, bool]:
    """The entry, and whether the cache answered."""
    try:
        entry = await space.entries.read(space.executor, endpoint, wish.key, operations.GET)
    except _OUTAGE as error:
        # A cache that is down must not take down what it was to speed up.
        logger.warning("the cache did not answer (%s): computing without it", error.code)
        return None, False
    except IntegrityError as error:
        # What somebody else left under the key is replaced; `get` is there to look at it.
        logger.warning("%s; computing it anew", error.message)
        return None, True
    return entry, True


async def _load(space: Space, endpoint: Endpoint, wish: Wish, *, answers: bool, waits: bool) -> Any:
    """Compute and keep it, as the only one of all processes where the store can tell.

    answers: whether the cache did so far. Once it did not, it is asked no more: each question may
        take as long as an operation may. waits: else `NOTHING` while another process computes.
    """
    lease: bytes | None = None
    if answers and CacheCapability.COMPARE_AND_SET in endpoint.backend.capabilities:
        try:
            found, lease = await _take_turn(space, endpoint, wish, waits)
            if found is not None:
                return Loaded(found, _decoded(found, wish) is None)
            if lease is None and not waits:
                return NOTHING
        except _OUTAGE as error:
            logger.warning("the cache did not answer (%s): computing without it", error.code)
            answers = False
    try:
        return await _compute(space, endpoint, wish, answers=answers)
    finally:
        if lease is not None:
            await _give_back(space, endpoint, wish.key, lease)


def _is_ours(error: Exception) -> bool:
    # A value that cannot be kept is the program's mistake, and no outage.
    return isinstance(error, InvalidArgumentError)


async def _compute(space: Space, endpoint: Endpoint, wish: Wish, *, answers: bool) -> Loaded:
    under: Mapping[str, int] | None = None
    try:
        # Before the factory reads whatever it reads: what is cleared meanwhile must not count.
        if answers:
            under = await space.entries.versions_now(space.executor, endpoint, wish.tags)
    except _OUTAGE as error:
        logger.warning("the cache did not answer (%s): nothing will be kept", error.code)
    value = wish.factory()
    if isawaitable(value):
        if not endpoint.runtime.is_async:
            close = getattr(value, "close", None)
            if close is not None:
                close()
            raise InvalidArgumentError(
                "the factory is async, and this is the sync face: give it a plain function"
            )
        value = await value
    encoding, payload = encode_value(value)
    loaded = Loaded(Entry(encoding, 0, 0, 0, payload), value is None)
    ttl = wish.negative_ttl if value is None else wish.ttl
    if under is None or (value is None and ttl is None):
        return loaded
    if ttl is not None and wish.jitter:
        jittered = ttl * (1 - random.random() * wish.jitter)  # noqa: S311 - spreads load
        ttl = max(jittered, SHORTEST)
    stale = 0.0 if value is None else max(wish.stale, wish.stale_if_error)
    draft = Draft(encoding, payload, ttl, stale, wish.tags)
    try:
        await space.entries.write(space.executor, endpoint, wish.key, draft, at=under)
    except _OUTAGE as error:
        logger.warning("the cache did not answer (%s): the value is not kept", error.code)
    return loaded


async def _take_turn(
    space: Space, endpoint: Endpoint, wish: Wish, waits: bool
) -> tuple[Entry | None, bytes | None]:
    """The value that another process has computed meanwhile, or a lease to compute it.

    Neither: another process computes, and `waits` is False or it takes too long.
    """
    runtime = endpoint.runtime
    deadline = runtime.clock.monotonic() + _patience(space, endpoint)
    pause = _FIRST_LOOK
    lease = await _lease(space, endpoint, wish.key)
    while lease is None:
        if not waits or runtime.clock.monotonic() >= deadline:
            return None, None
        await runtime.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - spreads load
        pause = min(pause * 2, _LAST_LOOK)
        if (found := await _fresh(space, endpoint, wish)) is not None:
            return found, None
        lease = await _lease(space, endpoint, wish.key)
    try:
        # Between our look and our lease somebody may have finished.
        found = await _fresh(space, endpoint, wish)
    except BaseException:
        await _give_back(space, endpoint, wish.key, lease)
        raise
    if found is not None:
        await _give_back(space, endpoint, wish.key, lease)
        return found, None
    return None, lease


async def _fresh(space: Space, endpoint: Endpoint, wish: Wish) -> Entry | None:
    try:
        entry = await space.entries.read(space.executor, endpoint, wish.key, operations.GET)
        if entry is None or _age(entry, endpoint) >= 0:
            return None
        _decoded(entry, wish)
    except IntegrityError:
        return None
    return entry


async def _lease(space: Space, endpoint: Endpoint, key: str) -> bytes | None:
    token = secrets.token_bytes(TOKEN_SIZE)
    name = space.names.lock + key
    taken = await space.entries.replace(
        space.executor, endpoint, name, None, token, LEASE, operations.LEASE
    )
    return token if taken else None


async def _give_back(space: Space, endpoint: Endpoint, key: str, lease: bytes) -> None:
    name = space.names.lock + key
    try:
        await space.entries.replace(
            space.executor, endpoint, name, lease, None, None, operations.LEASE
        )
    except PlatformError as error:
        logger.warning("a lease was not given back (%s): it ends by itself", error.code)


__all__ = ["LEASE", "Wish", "get_or_set"]
