"""Versions that make whole sets of entries outdated at once: a namespace's generation, its tags'.

A version is a number that only grows: microseconds since 1970 when it was last raised, or one
more than before where a clock stood still or went back. `clear` raises the generation and
`invalidate_tag` a tag's version; nothing is scanned and nothing removed, and an entry is a hit
only if it was written under versions that are not lower than those of now.

A store that evicts may lose a version. There "no version" is not "never raised": nothing is a
hit until a new one, higher than any before, was set. So what was cleared stays cleared.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final, TypeVar

from cm_platform.errors import IntegrityError
from cm_platform.executor import Endpoint

V = TypeVar("V")

# Microseconds until the year 294,000. Above, it is none of ours, and would not fit into an entry.
_HIGHEST: Final = 2**63 - 1

_REMEMBERED: Final = 10_000  # tags, and keys with tags, of a namespace


class Versions:
    """What this process knows of one namespace's versions, on the endpoint that serves it now."""

    __slots__ = ("_endpoint", "_read_at", "generation", "tagged", "tags")

    def __init__(self) -> None:
        self._endpoint: Endpoint | None = None
        self._reset()

    def _reset(self) -> None:
        self.generation = 0
        self.tags: dict[str, int] = {}
        # Which tags a key had when last seen: they are read along the next time.
        self.tagged: dict[str, tuple[str, ...]] = {}
        self._read_at = float("-inf")

    def on(self, endpoint: Endpoint) -> Versions:
        """Forget everything if another endpoint serves the namespace now."""
        if endpoint is not self._endpoint:
            self._reset()
            self._endpoint = endpoint
        return self

    def recent(self, endpoint: Endpoint) -> bool:
        """Whether the backend lets us go on with the generation that we know."""
        age: float = endpoint.backend.limits.generation_age
        return age > 0 and endpoint.runtime.clock.monotonic() - self._read_at < age

    def learned(self, value: bytes | None, endpoint: Endpoint) -> int | None:
        """The generation in force, given what the store has; None where it was lost."""
        if value is None:
            if endpoint.backend.evicts:
                return None
            found = self.generation
        else:
            # A store that lags behind must not undo what this process has cleared itself.
            found = self.generation = max(self.generation, parse(value))
        self._read_at = endpoint.runtime.clock.monotonic()
        return found

    def learned_tag(self, tag: str, value: bytes | None, endpoint: Endpoint) -> int | None:
        """The version of a tag in force; None where it was lost."""
        known = self.tags.get(tag, 0)
        if value is None:
            return None if endpoint.backend.evicts else known
        found = max(known, parse(value))
        _remember(self.tags, tag, found)
        return found

    def remember(self, key: str, tags: tuple[str, ...]) -> None:
        """Read these along with the key the next time."""
        if tags:
            _remember(self.tagged, key, tags)
        elif self.tagged:
            self.tagged.pop(key, None)


def parse(value: bytes) -> int:
    """A version as the store has it; `integrity` for what is none."""
    version = int(value) if value.isdigit() and len(value) <= 20 else -1
    if not 0 <= version < _HIGHEST:
        raise IntegrityError(
            "a version of this cache is damaged: another program wrote under a name of ours"
        )
    return version


def raised(known: int, endpoint: Endpoint) -> int:
    """A version that is higher than the one known, and than any of before now."""
    return max(known + 1, int(endpoint.runtime.clock.wall() * 1_000_000))


def current(tags: tuple[tuple[str, int], ...], versions: Mapping[str, int | None]) -> bool:
    """Whether no tag of an entry was raised, or lost, since it was written."""
    for tag, version in tags:
        now = versions[tag]
        if now is None or version < now:
            return False
    return True


def _remember(store: dict[str, V], key: str, value: V) -> None:
    store.pop(key, None)
    if len(store) >= _REMEMBERED:
        # Another thread may trim at the same time.
        with suppress(KeyError, StopIteration, RuntimeError):
            del store[next(iter(store))]
    store[key] = value


__all__ = ["Versions", "current", "parse", "raised"]
