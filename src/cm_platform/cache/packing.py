"""Many keys in as few requests as their bytes allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def packed(sizes: Mapping[str, int], *, room: int, most: int | None = None) -> Iterator[list[str]]:
    """The keys, in order, in lists that fit.

    sizes: bytes by key. room: bytes of one list; what is larger by itself has one of its own.
    most: keys in one list.
    """
    keys: list[str] = []
    taken = 0
    for key, size in sizes.items():
        if keys and (len(keys) == most or taken + size > room):
            yield keys
            keys, taken = [], 0
        keys.append(key)
        taken += size
    if keys:
        yield keys


__all__ = ["packed"]
