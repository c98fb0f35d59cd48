"""A namespace of a cache: how it is configured, where it is, and what its handles share."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Literal

from cm_platform.executor import Executor
from cm_platform.tenant import Scope

from .entries import Entries
from .flights import Flights
from .keys import Names


class Known:
    """What this process knows of a namespace of one tenant, and computes for it just now.

    Shared by all who are of that tenant, whoever they are labelled as.
    """

    __slots__ = ("__weakref__", "entries", "flights")

    def __init__(self, names: Names) -> None:
        self.entries = Entries(names)
        self.flights = Flights()


class Space:
    """A namespace of one tenant. Holds no value and no connection.

    ttl: seconds, where a call names none. encoding: "raw" for keys shared with other programs.
    known: by partition and namespace, of all who share them; holds them weakly.
    """

    __slots__ = ("entries", "executor", "flights", "known", "name", "names", "scope", "ttl")

    def __init__(
        self,
        scope: Scope,
        name: str,
        ttl: float,
        encoding: Literal["entry", "raw"],
        executor: Executor,
        known: MutableMapping[tuple[str, str], Known],
    ) -> None:
        self.scope = scope
        self.name = name
        self.ttl = ttl
        self.executor = executor
        self.names = Names(scope.prefix, name, raw=encoding == "raw")
        place = (scope.prefix, name)
        found = known.get(place)
        if found is None:
            # Of two threads that come here at once each may get its own; then both compute.
            found = known.setdefault(place, Known(self.names))
        self.known = found
        self.entries = found.entries
        self.flights = found.flights

    def with_timeout(self, seconds: float) -> Space:
        """The same namespace, and the same knowledge of it, with another deadline."""
        other = object.__new__(Space)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other.executor = self.executor.with_timeout(seconds)
        return other


__all__ = ["Known", "Space"]
