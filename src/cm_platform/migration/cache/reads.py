"""Reading from the authority and, while values are left on the other side, from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from cm_platform.cache.backend import Values
from cm_platform.runtime import Runtime

from .judging import (
    counts,
    own_generation,
    restamped,
    tags_of,
    version_of,
)
from .marks import is_mark, is_tombstone
from .names import Kept, Name, read_name, tag_name
from .pair import Pair
from .standing import Stand, Standing

Place = tuple[str, str]
"""A partition and a namespace."""

Brought = Callable[[Standing, str, Sequence[str]], None]
"""Told of keys that were found where they were left."""


class Here(NamedTuple):
    """A key on the authority. stored: what is there. value: what of it counts, as it is handed
    out; None where nothing does. told: the generation of its namespace, as it is handed out."""

    stored: bytes | None
    value: bytes | None
    told: int | None


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
            found = await self.read(standing, partition, keys)
            now = await self._stand.seen(standing)
            if now.same_way(standing) or now.left == standing.authority:
                # The sides that were asked are still kept free of what is outdated.
                return [found[key] for key in keys], standing
            standing = now

    async def read(
        self, standing: Standing, partition: str, keys: Iterable[str]
    ) -> dict[str, bytes | None]:
        """The values that count, by key."""
        if self.is_plain(standing):
            found = await self._pair.fetch(standing.authority, partition, keys)
            for key, value in found.items():
                if value is not None and is_mark(value):
                    found[key] = None
            return found
        names = {key: read_name(key) for key in keys}
        here = await self.here(standing, partition, names)
        values = {key: here[key].value for key in names}
        if standing.falls_back:
            await self._fall_back(standing, partition, names, here, values)
        return values

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

    async def here(
        self, standing: Standing, partition: str, names: Mapping[str, Name]
    ) -> dict[str, Here]:
        """What the authority has of these keys."""
        generations = {
            name.generation for name in names.values() if name.kept in (Kept.VALUE, Kept.GENERATION)
        }
        side = standing.authority
        stored = await self._pair.fetch(side, partition, [*generations, *names])
        now = self._wall()
        return {
            key: self._judged(
                standing, partition, name, stored[key], stored.get(name.generation), now
            )
            for key, name in names.items()
        }

    def _judged(
        self,
        standing: Standing,
        partition: str,
        name: Name,
        data: bytes | None,
        kept: bytes | None,
        now: float,
    ) -> Here:
        """kept: the generation of its namespace, as the authority has it."""
        if name.kept not in (Kept.VALUE, Kept.GENERATION):
            return Here(data, None if data is None or is_mark(data) else data, None)
        own = own_generation(self._pair, standing, standing.authority, kept)
        told = self.told(standing, partition, name.namespace, own)
        if name.kept is Kept.GENERATION:
            return Here(data, None if told is None else b"%d" % told, told)
        if data is None or is_mark(data):
            return Here(data, None, told)
        if told is None:
            # The generation was lost: the service sees to it that nothing counts.
            return Here(data, data, None)
        return Here(data, restamped(data, told) if counts(data, own, now) else None, told)

    async def there(
        self,
        standing: Standing,
        partition: str,
        names: Mapping[str, Name],
        told: Mapping[str, int | None],
    ) -> dict[str, bytes]:
        """What counts of that which was left on the other side, as it is handed out.

        told: the generation of each key's namespace.
        """
        side = standing.left
        assert side is not None  # noqa: S101 - who asks has looked
        generations = {name.generation for name in names.values() if name.kept is Kept.VALUE}
        kept = await self._pair.fetch(side, partition, [*generations, *names])
        now = self._wall()
        found: dict[str, bytes] = {}
        for key, name in names.items():
            data = kept[key]
            if data is None or is_mark(data):
                continue
            if name.kept is Kept.VALUE:
                own = own_generation(self._pair, standing, side, kept[name.generation])
                if own is None or not counts(data, own, now):
                    continue
                data = restamped(data, told[key])
            found[key] = data
        if self._pair.backend(side).evicts and not self._pair.backend(standing.authority).evicts:
            await self._vouch(standing, partition, names, found)
        return found

    async def _vouch(
        self,
        standing: Standing,
        partition: str,
        names: Mapping[str, Name],
        found: dict[str, bytes],
    ) -> None:
        """Leave out what has a tag whose version the other side has lost: on the authority,
        which loses none, it would look as if it was never raised."""
        side = standing.left
        assert side is not None  # noqa: S101 - as above
        tagged = {
            key: [tag_name(names[key].namespace, tag) for tag in tags_of(data)]
            for key, data in found.items()
            if names[key].kept is Kept.VALUE
        }
        asked = {name for tags in tagged.values() for name in tags}
        if not asked:
            return
        versions = await self._pair.fetch(side, partition, asked)
        for key, tags in tagged.items():
            if any(versions[name] is None for name in tags):
                del found[key]

    async def _fall_back(
        self,
        standing: Standing,
        partition: str,
        names: Mapping[str, Name],
        here: Mapping[str, Here],
        values: dict[str, bytes | None],
    ) -> None:
        now = self._wall()
        asked: dict[str, Name] = {}
        for key, name in names.items():
            stored, value, _ = here[key]
            if name.kept is Kept.TAG:
                asked[key] = name
            elif name.kept in (Kept.GENERATION, Kept.LOCK) or value is not None:
                continue
            elif standing.late and stored is not None:
                # A delete, or a value whose time is over: the other side may show what was
                # before it.
                if not is_mark(stored) or is_tombstone(stored, now):
                    continue
                asked[key] = name
            elif not (standing.late and name.kept is Kept.RAW):
                asked[key] = name
        if not asked:
            return
        told = {key: here[key].told for key in asked}
        left = await self.there(standing, partition, asked, told)
        brought: list[str] = []
        for key, data in left.items():
            if asked[key].kept is Kept.TAG:
                mine = version_of(values[key])
                theirs = version_of(data)
                if theirs is None or (mine is not None and mine >= theirs):
                    continue
            values[key] = data
            brought.append(key)
        if brought:
            self._brought(standing, partition, brought)
        gone = {key: name for key, name in asked.items() if values[key] is None}
        if gone and not standing.late and self._pair.is_prompt(standing.authority):
            # It may have been brought over between the two looks: then it is here by now.
            for key, again in (await self.here(standing, partition, gone)).items():
                values[key] = again.value


__all__ = ["Brought", "Here", "Place", "Reader"]
