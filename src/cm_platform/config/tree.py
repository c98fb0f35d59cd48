"""Raw configuration as nested tables, and where each of its leaves came from.

A list of tables is walked by index; any other list is one leaf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

Table: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str | int, ...]
Origins: TypeAlias = dict[Path, str]

_PLAIN: Final = re.compile(r"[A-Za-z0-9_ -]+")


class Tree(NamedTuple):
    """Tables and the origins of their leaves."""

    table: Table
    origins: Origins


def is_table(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether it is a table, not a value."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether it is a list, of whatever."""
    return isinstance(value, list)


def is_tables(value: object) -> TypeGuard[list[Any]]:
    """Whether it is a list of tables."""
    return is_list(value) and any(is_table(item) for item in value)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The values below, with their paths."""
    if is_table(value):
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    elif is_tables(value):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """Tables laid over tables; any other value replaces what was there."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if is_table(below) and is_table(value) else value
    return result


def laid_over(under: Tree, over: Tree) -> Tree:
    """`merged`, with origins."""
    table = merged(under.table, over.table)
    origins: Origins = {}
    for path, _ in leaves(table):
        origins[path] = over.origins.get(path) or under.origins.get(path, "")
    return Tree(table, origins)


def dotted(path: Path) -> str:
    """A path as people write it: `storage.rules[0].route`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _PLAIN.fullmatch(part) else f'"{part}"'
            text += f".{name}" if text else name
    return text


def origin(origins: Origins, path: Path) -> str | None:
    """Where the value at a path came from; None for one that nobody set."""
    for length in range(len(path), 0, -1):
        if (found := origins.get(path[:length])) is not None:
            return found
    return None


__all__ = [
    "Origins",
    "Path",
    "Table",
    "Tree",
    "dotted",
    "is_list",
    "is_table",
    "is_tables",
    "laid_over",
    "leaves",
    "merged",
    "origin",
]
