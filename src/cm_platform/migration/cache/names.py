"""What is kept under a name: told by its form, which `cm_platform.cache.keys` gives it."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from cm_platform.cache.keys import MARK

RAW_GROUP: Final = "(raw)"

_FORM: Final = re.compile(rf"{MARK}([a-z0-9][a-z0-9_-]{{0,62}})(:|!g\Z|!t:|!l:)")


class Kept(Enum):
    """Kinds of what is kept."""

    VALUE = ":"
    """An entry of ours."""
    GENERATION = "!g"
    TAG = "!t:"
    """The version of a tag."""
    LOCK = "!l:"
    """Who is computing a value: for seconds only, and in vain at worst."""
    RAW = ""
    """Bytes that are shared with other programs."""


class Name(NamedTuple):
    """namespace: "" for what is raw."""

    kept: Kept
    namespace: str

    @property
    def is_version(self) -> bool:
        """Whether it is a number that only grows."""
        return self.kept in (Kept.GENERATION, Kept.TAG)

    @property
    def generation(self) -> str:
        """Under which its namespace's generation is kept."""
        return generation_name(self.namespace)


_RAW: Final = Name(Kept.RAW, "")
_KINDS: Final = {kept.value: kept for kept in Kept}


def read_name(key: str) -> Name:
    """What is kept under a key, as backends know it: without the partition."""
    found = _FORM.match(key)
    return _RAW if found is None else Name(_KINDS[found.group(2)], found.group(1))


def generation_name(namespace: str) -> str:
    """Under which a namespace's generation is kept."""
    return f"{MARK}{namespace}!g"


def tag_name(namespace: str, tag: str) -> str:
    """Under which a tag's version is kept."""
    return f"{MARK}{namespace}!t:{tag}"


def group_of(name: Name, partition: str, prefix: str) -> str:
    """What is counted together: a namespace, of a site where the layout has sites.

    prefix: what all of the tenant's partitions begin with.
    """
    return partition.removeprefix(prefix) + (name.namespace or RAW_GROUP)


def place_of(group: str, prefix: str) -> tuple[str, str] | None:
    """The partition and the namespace of a group; None for what is raw."""
    if group.endswith(RAW_GROUP):
        return None
    # A site ends with a character that no namespace has: layouts see to that.
    at = re.search(r"[a-z0-9_-]*\Z", group)
    start = len(group) if at is None else at.start()
    return prefix + group[:start], group[start:]


__all__ = [
    "RAW_GROUP",
    "Kept",
    "Name",
    "generation_name",
    "group_of",
    "place_of",
    "read_name",
    "tag_name",
]
