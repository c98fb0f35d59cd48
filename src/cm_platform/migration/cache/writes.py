"""Writing where it counts: first take the key from the other side, then write the authority.

When the authority changed meanwhile, the write is made once more, in the new terms; only then is
it answered. What can be made only once is `ambiguous` instead (`atomics.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Final, NamedTuple, TypeVar

from cm_platform.cache.backend import Stored, StoredMany, Values
from cm_platform.cache.generation import parse
from cm_platform.errors import AmbiguousError, PlatformError, UnavailableError
from cm_platform.runtime import Runtime

from .copies import Copies
from .judging import is_entry
from .marks import LONGEST, coming, is_moved, moved, tombstone
from .names import read_name
from .pair import Pair
from .reads import Reader
from .stand import Stand
from .standing import Standing

T = TypeVar("T")

_ROUNDS: Final = 5


class Done(NamedTuple):
    """failures: by key. along: what was read along, as the authority has it."""

    failures: Mapping[str, PlatformError]
    along: Values = ()


class Writer:
    """Writes and deletes. bound: seconds that a delete stands against what shows it late."""

    __slots__ = ("_bound", "_copies", "_pair", "_reader", "_stand", "_wall")

    def __init__(
        self,
        pair: Pair,
        stand: Stand,
        reader: Reader,
        copies: Copies,
        runtime: Runtime,
        *,
        bound: float,
    ) -> None:
        self._pair = pair
        self._stand = stand
        self._reader = reader
        self._copies = copies
        self._wall = runtime.clock.wall
        self._bound = bound

    async def set(
        self, partition: str, key: str, value: bytes, ttl: float | None, along: Sequence[str]
    ) -> Stored:
        """Keep a value."""
        is_version = read_name(key).is_version
        repeated = count()

        async def put(standing: Standing) -> Done:
            # What was brought over while the sides changed has the version that was raised first.
            again = next(repeated)
            data = b"%d" % (parse(value) + again) if is_version and again else value
            seconds, asked = self._seconds(standing, value, ttl), self._asked(standing, along)
            for _ in range(_ROUNDS):
                failures = await self._taken(standing, partition, {key: data})
                if failures:
                    return Done(failures)
                stored = await self._pair.on(
                    standing.authority,
                    lambda b: b.set(partition, key, data, ttl=seconds, along=asked),
                )
                if is_version or not await self._come_back(standing, partition, (key,)):
                    return Done({}, stored.along)
            return Done({key: _met_movers()})

        done, standing = await self._repeated(put)
        for failure in done.failures.values():
            raise failure
        self._copies.offer(standing, partition, {key: value}, ttl)
        return Stored(True, await self.along(standing, partition, along, done.along))

    async def set_many(
        self,
        partition: str,
        values: Mapping[str, bytes],
        ttl: float | None,
        along: Sequence[str],
    ) -> StoredMany:
        """Keep values; the failures by key."""

        async def put(standing: Standing) -> Done:
            failures: dict[str, PlatformError] = {}
            seen: Values = ()
            left = values
            for _ in range(_ROUNDS):
                failures |= await self._taken(standing, partition, left)
                wanted = {key: value for key, value in left.items() if key not in failures}
                for seconds, some in self._by_time(standing, wanted, ttl).items():
                    stored = await self._put_many(standing, partition, some, seconds, along)
                    failures |= stored.failures
                    seen = stored.along
                back = await self._come_back(standing, partition, wanted)
                if not back:
                    return Done(failures, seen)
                left = {key: values[key] for key in back}
            return Done(failures | dict.fromkeys(left, _met_movers()), seen)

        done, standing = await self._repeated(put)
        kept = {key: value for key, value in values.items() if key not in done.failures}
        self._copies.offer(standing, partition, kept, ttl)
        return StoredMany(done.failures, await self.along(standing, partition, along, done.along))

    async def delete_many(self, partition: str, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """Forget values; the failures by key."""

        async def forget(standing: Standing) -> Done:
            failures: dict[str, PlatformError] = {}
            left: Sequence[str] = keys
            for _ in range(_ROUNDS):
                failures |= await self.take(standing, partition, left)
                failures |= await self._gone(
                    standing, partition, [key for key in left if key not in failures]
                )
                left = [key for key in left if key not in failures]
                left = await self._come_back(standing, partition, left)
                if not left:
                    return Done(failures)
            return Done(failures | dict.fromkeys(left, _met_movers()))

        done, _ = await self._repeated(forget)
        return done.failures

    async def _gone(
        self, standing: Standing, partition: str, keys: Sequence[str]
    ) -> Mapping[str, PlatformError]:
        """Delete keys on the authority."""
        if not keys:
            return {}
        if not standing.late:
            return await self._pair.on(standing.authority, lambda b: b.delete_many(partition, keys))
        stones = dict.fromkeys(keys, tombstone(self._wall(), self._bound))
        stored = await self._pair.on(
            standing.authority, lambda b: b.set_many(partition, stones, ttl=self._bound)
        )
        return stored.failures

    async def _come_back(
        self, standing: Standing, partition: str, keys: Iterable[str]
    ) -> list[str]:
        """Those keys that were brought to the other side while they were written here, by who
        acts on what held before. Who has only begun to is stopped by writing again."""
        if standing.left is None or not self._pair.is_exact:
            return []
        found = await self._pair.fetch(standing.left, partition, keys)
        return [key for key, data in found.items() if data is not None and not is_moved(data)]

    # Parts of it ---------------------------------------------------------------------------

    async def take(
        self, standing: Standing, partition: str, keys: Iterable[str]
    ) -> Mapping[str, PlatformError]:
        """Take keys from the side on which they were left; those that could not be taken."""
        if standing.left is None:
            return {}
        return await self._pair.drop(standing.left, partition, keys)

    async def along(
        self, standing: Standing, partition: str, keys: Sequence[str], seen: Values
    ) -> Values:
        """What a service is told of keys that it asked for with a write."""
        if self._reader.is_plain(standing) and len(seen) == len(keys):
            return seen
        found = await self._reader.read(standing, partition, keys)
        return [found[key] for key in keys]

    async def confirm(self, standing: Standing, result: T) -> T:
        """The result of what can be done only once; `ambiguous` if the side on which it was done
        had been left behind by then."""
        now = await self.sure(standing)
        if not standing.leads_on(now):
            raise overtaken()
        return result

    async def _taken(
        self, standing: Standing, partition: str, values: Mapping[str, bytes]
    ) -> Mapping[str, PlatformError]:
        """Make room for values on the side on which older ones were left.

        A version is raised there instead of taken: what has that tag there is to be outdated.
        """
        side = standing.left
        if side is None:
            return {}
        raised = {key: value for key, value in values.items() if read_name(key).is_version}
        failures: Mapping[str, PlatformError] = {}
        if raised:
            stored = await self._pair.on(side, lambda b: b.set_many(partition, raised, ttl=None))
            failures = stored.failures
        rest = [
            key for key in values if key not in raised and self._pair.fits(side, partition, key)
        ]
        if rest and self._pair.is_exact:
            # Not just removed: who acts by what held before must find that it was given away.
            gone = dict.fromkeys(rest, moved(coming(), None))
            stored = await self._pair.on(side, lambda b: b.set_many(partition, gone, ttl=LONGEST))
            failures = {**failures, **stored.failures}
        elif rest:
            failures = {**failures, **await self.take(standing, partition, rest)}
        return failures

    async def _put_many(
        self,
        standing: Standing,
        partition: str,
        values: Mapping[str, bytes],
        ttl: float | None,
        along: Sequence[str],
    ) -> StoredMany:
        asked = self._asked(standing, along)
        return await self._pair.on(
            standing.authority, lambda b: b.set_many(partition, values, ttl=ttl, along=asked)
        )

    async def _repeated(self, act: Callable[[Standing], Awaitable[Done]]) -> tuple[Done, Standing]:
        standing = await self._stand.current()
        for _ in range(_ROUNDS):
            done = await act(standing)
            now = await self.sure(standing)
            if standing.same_way(now):
                return done, now
            standing = now
        raise UnavailableError(
            "the tenant's cache changed sides again and again; try again later", retryable=True
        )

    async def sure(self, standing: Standing) -> Standing:
        try:
            return await self._stand.confirmed(standing)
        except PlatformError as error:
            # It was sent, whatever the question about it says of itself.
            error.not_sent = False
            raise

    def _asked(self, standing: Standing, along: Sequence[str]) -> Sequence[str]:
        """What to read along in the same request: where the authority alone does not say it, it
        is read afterwards."""
        return along if self._reader.is_plain(standing) else ()

    def _seconds(self, standing: Standing, value: bytes, ttl: float | None) -> float | None:
        """How long the store keeps a value. Where the other side may show what was before for a
        while, the end of an entry stands in front of it like a delete."""
        if standing.late and ttl is not None and is_entry(value):
            return max(ttl, self._bound)
        return ttl

    def _by_time(
        self, standing: Standing, values: Mapping[str, bytes], ttl: float | None
    ) -> dict[float | None, dict[str, bytes]]:
        found: dict[float | None, dict[str, bytes]] = {}
        for key, value in values.items():
            found.setdefault(self._seconds(standing, value, ttl), {})[key] = value
        return found


def _met_movers() -> UnavailableError:
    return UnavailableError(
        "the key was moved each time that it was written; try again later", retryable=True
    )


def overtaken() -> AmbiguousError:
    """The error of what was done on a side that was no longer right."""
    return AmbiguousError(
        "the tenant's cache changed sides while this was done: it may not count. Read before you "
        "do it again"
    )


__all__ = ["Done", "Writer", "overtaken"]
