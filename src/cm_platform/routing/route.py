"""A route: the backend, or the migration and its stage, that holds for a kind and a tenant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cm_platform.errors import InvalidArgumentError

from .names import NAME_RULE, did_you_mean, is_name, shown


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of service.

    name: as in the configuration, such as "storage".
    holds_data: a tenant that is sent to another backend without its data has lost it.
    has_namespaces: its keys lie in namespaces, each of which may have routes of its own.
    """

    name: str
    holds_data: bool
    has_namespaces: bool = False

    @property
    def flag(self) -> str:
        """The key of its OpenFeature flag: a string flag whose value is a route."""
        return f"cm-platform.{self.name}"

    def namespace(self, name: str) -> Kind:
        """The part of a kind that a namespace is, as far as routes go."""
        return Kind(f"{self.name}.{name}", self.holds_data)


# A kind is added here together with its service.
KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("storage", holds_data=True),
            Kind("cache", holds_data=False, has_namespaces=True),
        )
    }
)


class Stage(StrEnum):
    """How far a migration has come, in order."""

    OFF = "off"
    DUALWRITE = "dualwrite"
    SHADOW = "shadow"
    LIVE = "live"
    RAMPDOWN = "rampdown"
    COMPLETE = "complete"


_STAGES: Final = ", ".join(Stage)


@dataclass(frozen=True, slots=True)
class Route:
    """Either a backend, or a migration and its stage; `str()` gives what `parse` takes."""

    backend: str | None = None
    migration: str | None = None
    stage: Stage | None = None

    def __post_init__(self) -> None:
        if (self.migration is None) != (self.stage is None) or (
            (self.backend is None) == (self.migration is None)
        ):
            raise InvalidArgumentError("a route is either a backend or a migration with its stage")

    @classmethod
    def parse(cls, text: str) -> Route:
        """Read `<backend>` or `<migration>:<stage>`; `invalid_argument` for anything else."""
        name, colon, stage = text.partition(":")
        if not is_name(name):
            raise InvalidArgumentError(
                f"a route is '<backend>' or '<migration>:<stage>'; {NAME_RULE}"
            )
        if not colon:
            return cls(backend=name)
        try:
            return cls(migration=name, stage=Stage(stage))
        except ValueError:
            raise InvalidArgumentError(
                f"{shown(stage)} is no stage{did_you_mean(stage, Stage)}; stages are {_STAGES}"
            ) from None

    def __str__(self) -> str:
        return self.backend if self.backend is not None else f"{self.migration}:{self.stage}"


def known_routes(
    backends: Collection[str], migrations: Collection[str]
) -> Callable[[Route], str | None]:
    """What says why a route cannot be taken with these backends and migrations, or None."""

    def refusal(route: Route) -> str | None:
        if route.backend is not None:
            if route.backend in backends:
                return None
            if route.backend in migrations:
                return (
                    f"{route.backend!r} is a migration: name its stage, such as "
                    f"'{route.backend}:{Stage.SHADOW}'; stages are {_STAGES}"
                )
            return _unknown(route.backend, "backend", backends)
        name = route.migration or ""
        if name in migrations:
            return None
        if name in backends:
            return f"{name!r} is a backend, and a backend has no stage: write '{name}'"
        return _unknown(name, "migration", migrations)

    return refusal


def _unknown(name: str, what: str, known: Collection[str]) -> str:
    names = ", ".join(sorted(known)) or "none"
    return f"{shown(name)} is no {what}{did_you_mean(name, known)}; {what}s are {names}"


__all__ = ["KINDS", "Kind", "Route", "Stage", "known_routes"]
