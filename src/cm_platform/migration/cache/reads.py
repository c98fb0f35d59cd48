"""Reading from the authority and, while values are left on the other side, from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from cm_platform.cache.backend import Values
from cm_platform.cache.entry import scope_of as entry_scope
from cm_platform.runtime import Runtime

from .judging import counts, own_generation, restamped, tags_of, version_of
from .marks import carried, is_mark, is_moved, is_tombstone
from .names import Kept, Name, read_name, tag_name
from .pair import Pair
from .stand import Stand
from .standing import Standing

_LOOKS: Final = 8

scope_of = lru_cache(maxsize=10_000)(entry_scope)

Place = tuple[str, str]
"""A partition and a namespace."""

Brought = Callable[[Standing, str, Sequence[str]], None]
"""Told of keys that were found where they were left."""


class Here(NamedTuple):
    """A key on a side. stored: what is there. value: what of it counts, as it is handed out;
    None where nothing does. told: the generation of its namespace, as it is handed out."""

    stored: bytes | None
    value: bytes | None
    told: int | None = None


class Reader:
    """Reads what counts, wherever it is. brought: not told of what a tombstone hides.

    A service remembers the highest generation that it was told, and the two sides have each its
    own: so this remembers it, too, and hands out nothing under a lower one.
    """

    __slots__ = ("_brought", "_pair", "_stand", "_told", "_wall")

    def __init__(self, pair: Pair, stand: Stand, runtime: Runtime, brought: Brought) -> None:
        self._pair = pair
        self._stand = stand
        self._wall = runtime.clock.wall
        self._brought = brought
        self._told: dict[Place, int] = {}

    async def get_many(self, partition: str, keys: Sequence[str]) -> tuple[Values, Standing]:
        """The values that count, in order, and by what standing they were read."""
        standing = await self._stand.current()
        while True:
            found, is_outdated = await self._read(standing, partition, keys)
            # Who finds that a key was given away learns where to.
            now = await (self._stand.refreshed() if is_outdated else self._stand.seen(standing))
            if now.epoch == standing.epoch:
                return [found[key] for key in keys], standing
            standing = now

    async def read(
        self, standing: Standing, partition: str, keys: Iterable[str]
    ) -> dict[str, bytes | None]:
        """The values that count, by key."""
        return (await self._read(standing, partition, keys))[0]

    def is_plain(self, standing: Standing) -> bool:
        """Whether what the authority has is handed out as it is: until the sides have changed."""
        return standing.is_plain and not self._told

    def told(
        self, standing: Standing, partition: str, namespace: str, own: int | None
    ) -> int | None:
        """The generation that the service is told of. own: the authority's; None where it was
        lost, and nothing counts until there is a new one."""
        if own is None or self.is_plain(standing):
            return own
        place = (partition, namespace)
        # Threads may meet here; whoever is late is corrected the next time.
        highest = self._told[place] = max(own, self._told.get(place, 0))
        return highest

    async def one(self, standing: Standing, partition: str, key: str, name: Name) -> Here:
        """What the authority has of a key."""
        return (await self.here(standing, partition, {key: name}))[key]

    async def here(
        self, standing: Standing, partition: str, names: Mapping[str, Name]
    ) -> dict[str, Here]:
        """What the authority has of these keys."""
        generations = {
            name.generation for name in names.values() if name.kept in (Kept.VALUE, Kept.GENERATION)
        }
        stored = await self._pair.fetch(standing.authority, partition, [*generations, *names])
        owns = await self._owns(standing, partition, {name: stored[name] for name in generations})
        now = self._wall()
        return {
            key: self._judged(
                standing, partition, name, stored[key], owns.get(name.generation), now
            )
            for key, name in names.items()
        }

    async def generation(
        self, standing: Standing, partition: str, name: Name
    ) -> tuple[int | None, int | None]:
        """Of a namespace on the authority: the generation that entries must have there, and the
        one that the service is told of. None where it was lost."""
        key = name.generation
        stored = await self._pair.fetch(standing.authority, partition, [key])
        own = (await self._owns(standing, partition, stored))[key]
        return own, self.told(standing, partition, name.namespace, own)

    async def _owns(
        self, standing: Standing, partition: str, stored: Mapping[str, bytes | None]
    ) -> dict[str, int | None]:
        """The generations that entries must have on the authority. stored: what it has as such.

        One that it has lost, or never had, the other side knows: there it is raised, too.
        """
        pair, side = self._pair, standing.authority
        owns = {key: own_generation(pair, standing, side, kept) for key, kept in stored.items()}
        lost = [key for key, own in owns.items() if own is None]
        if lost and standing.left is not None:
            for key, kept in (await pair.fetch(standing.left, partition, lost)).items():
                theirs = own_generation(pair, standing, standing.left, kept)
                if theirs is not None:
                    owns[key] = max(theirs, standing.floor if side == "target" else 0)
        return owns

    def _judged(
        self,
        standing: Standing,
        partition: str,
        name: Name,
        data: bytes | None,
        own: int | None,
        now: float,
    ) -> Here:
        """own: the generation that entries of its namespace must have on the authority."""
        if name.kept not in (Kept.VALUE, Kept.GENERATION):
            return Here(data, None if data is None or is_mark(data) else data)
        told = self.told(standing, partition, name.namespace, own)
        if name.kept is Kept.GENERATION:
            return Here(data, None if told is None else b"%d" % told, told)
        if data is None or is_mark(data):
            return Here(data, None, told)
        if told is None:
            # The generation was lost: the service sees to it that nothing counts.
            return Here(data, data)
        scope = scope_of(partition, name.namespace)
        is_good = counts(data, own, now, scope)
        return Here(data, restamped(data, told, scope) if is_good else None, told)

    async def left(
        self, standing: Standing, partition: str, key: str, name: Name, told: int | None
    ) -> tuple[bytes | None, bytes | None]:
        """What the other side has of a key, and what of it counts, as it is handed out."""
        there = await self._there(standing, partition, {key: name}, {key: told})
        return there[key].stored, there[key].value

    async def _there(
        self,
        standing: Standing,
        partition: str,
        names: Mapping[str, Name],
        told: Mapping[str, int | None],
    ) -> dict[str, Here]:
        """The same of many keys. told: the generation of each key's namespace."""
        side = standing.left
        assert side is not None  # noqa: S101 - who asks has looked
        generations = {name.generation for name in names.values() if name.kept is Kept.VALUE}
        kept = await self._pair.fetch(side, partition, [*generations, *names])
        now = self._wall()
        found: dict[str, Here] = {}
        for key, name in names.items():
            data = kept[key]
            value = None if data is None or is_mark(data) else data
            if value is not None and name.kept is Kept.VALUE:
                own = own_generation(self._pair, standing, side, kept[name.generation])
                scope = scope_of(partition, name.namespace)
                is_good = own is not None and counts(value, own, now, scope)
                value = restamped(value, told[key], scope) if is_good else None
            found[key] = Here(data, value)
        if self._pair.backend(side).evicts and not self._pair.backend(standing.authority).evicts:
            await self._vouch(standing, partition, names, found)
        return found

    async def _vouch(
        self,
        standing: Standing,
        partition: str,
        names: Mapping[str, Name],
        found: dict[str, Here],
    ) -> None:
        """Leave out what has a tag whose version the other side has lost: on the authority,
        which loses none, it would look as if it was never raised."""
        side = standing.left
        assert side is not None  # noqa: S101 - as above
        tagged = {
            key: [tag_name(names[key].namespace, tag) for tag in tags_of(there.value)]
            for key, there in found.items()
            if names[key].kept is Kept.VALUE and there.value is not None
        }
        asked = {name for tags in tagged.values() for name in tags}
        if not asked:
            return
        versions = await self._pair.fetch(side, partition, asked)
        for key, tags in tagged.items():
            if any(versions[name] is None for name in tags):
                found[key] = Here(found[key].stored, None)

    async def _read(
        self, standing: Standing, partition: str, keys: Iterable[str]
    ) -> tuple[dict[str, bytes | None], bool]:
        """The values by key, and whether one was given to a side of which this knows nothing."""
        is_outdated = False
        if self.is_plain(standing):
            found = await self._pair.fetch(standing.authority, partition, keys)
            # Else the service was told more meanwhile than these values know.
            if self.is_plain(standing):
                for key, value in found.items():
                    if value is not None and is_mark(value):
                        is_outdated = is_outdated or is_moved(value)
                        found[key] = None
                return found, is_outdated
        names = {key: read_name(key) for key in keys}
        here = await self.here(standing, partition, names)
        values = {key: here[key].value for key in names}
        if standing.left is not None:
            await self._fall_back(standing, partition, names, here, values)
        else:
            is_outdated = any(is_moved(one.stored) for one in here.values())
        return values, is_outdated

    def _asked(
        self, standing: Standing, names: Mapping[str, Name], here: Mapping[str, Here]
    ) -> dict[str, Name]:
        """Which keys to look for on the other side."""
        now = self._wall()
        asked: dict[str, Name] = {}
        for key, name in names.items():
            stored, value, _ = here[key]
            if name.kept in (Kept.GENERATION, Kept.LOCK):
                continue
            if name.kept is not Kept.TAG and value is not None:
                continue
            if not standing.falls_back and (stored is None or not is_mark(stored)):
                continue
            if standing.late and name.kept is not Kept.TAG:
                # A delete, or a value whose time is over: the other side may still show what was
                # before it. Raw values have no end of their own.
                if name.kept is Kept.RAW:
                    continue
                if stored is not None and (not is_mark(stored) or is_tombstone(stored, now)):
                    continue
            asked[key] = name
        return asked

    async def _fall_back(
        self,
        standing: Standing,
        partition: str,
        names: Mapping[str, Name],
        here: Mapping[str, Here],
        values: dict[str, bytes | None],
    ) -> None:
        asked = self._asked(standing, names, here)
        # A generation that the authority has lost is there again soon.
        brought = [
            key
            for key, name in names.items()
            if name.kept is Kept.GENERATION and here[key].stored is None
        ]
        # From either side to the other a key may be on its way while we look: there is nothing
        # only if the authority was the same before and after the other side had nothing.
        for _ in range(_LOOKS if asked else 0):
            told = {key: here[key].told for key in asked}
            there = await self._there(standing, partition, asked, told)
            for key, name in asked.items():
                found = _found(name, here[key], there[key], values[key])
                if found is not None:
                    values[key] = found
                    brought.append(key)
            gone = {key: name for key, name in asked.items() if values[key] is None}
            if not gone or not self._pair.is_exact:
                break
            again = await self.here(standing, partition, gone)
            for key, now in again.items():
                values[key] = now.value or carried(there[key].stored, now.stored)
            asked = {
                key: name
                for key, name in gone.items()
                if values[key] is None and again[key].stored != here[key].stored
            }
            if not asked:
                break
            here = again
        if brought:
            self._brought(standing, partition, brought)


def _found(name: Name, here: Here, there: Here, known: bytes | None) -> bytes | None:
    """What the other side adds to what is known of a key, if anything."""
    if name.kept is Kept.TAG:
        higher = (version_of(there.value) or -1) > (version_of(known) or -1)
        return there.value if higher else None
    if there.value is not None:
        return there.value
    return carried(there.stored, here.stored) or carried(here.stored, there.stored)


__all__ = ["Brought", "Here", "Place", "Reader"]
