"""Backends, found by name through entry points on first use.

Our own backends register as a third party's do: group `cm_platform.backends`, name
`storage.s3`, value an attribute that is a `Backend`. Importing that module must not import an
SDK; `open` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from .errors import ConfigInvalidError
from .runtime import Runtime

ENTRY_POINT_GROUP: Final = "cm_platform.backends"

C = TypeVar("C", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Backend(Generic[C]):
    """How a backend is configured and opened.

    name: "<kind>.<driver>", such as "storage.s3".
    config: the pydantic model of its settings; `extra="forbid"`, secrets as SecretStr.
    open: makes the backend under a runtime, importing its SDK. No network I/O.
    capabilities: all that it may offer; a configuration can only narrow this: by `lacks`, if its
        model has that field or property.
    extra: the extra of this package that brings its SDK, if it needs one.
    """

    name: str
    config: type[C]
    open: Callable[[C, Runtime], Awaitable[Any]]
    capabilities: frozenset[str]
    extra: str | None = None

    def promises(self, settings: object) -> frozenset[str]:
        """The capabilities that are left with these settings."""
        lacks: frozenset[str] = getattr(settings, "lacks", frozenset())
        return self.capabilities - lacks


class Registry:
    """Descriptors by name. Entry points are read once; explicit ones go first."""

    def __init__(self) -> None:
        self._explicit: dict[str, Backend[Any]] = {}
        self._loaded: dict[str, Backend[Any]] = {}

    def register(self, backend: Backend[Any]) -> None:
        """Add a backend without an entry point; replaces one of the same name."""
        self._explicit[backend.name] = backend

    def names(self, kind: str) -> list[str]:
        """The drivers of a kind, without the kind's name, sorted."""
        prefix = f"{kind}."
        known = {*self._explicit, *_entry_points()}
        return sorted(name.removeprefix(prefix) for name in known if name.startswith(prefix))

    def get(self, kind: str, driver: str) -> Backend[Any]:
        """The descriptor of "<kind>.<driver>"; `config_invalid` names the known drivers."""
        name = f"{kind}.{driver}"
        if (found := self._explicit.get(name) or self._loaded.get(name)) is not None:
            return found
        point = _entry_points().get(name)
        if point is None:
            raise ConfigInvalidError(
                f"no {kind} backend is called {driver!r}; installed are "
                f"{', '.join(self.names(kind)) or 'none'}"
            )
        loaded: Any = point.load()
        if not isinstance(loaded, Backend) or loaded.name != name:
            raise ConfigInvalidError(
                f"the entry point {name!r} must lead to a Backend of that name"
            )
        self._loaded[name] = loaded
        return self._loaded[name]


def missing_sdk(backend: str, extra: str | None, error: ImportError) -> ConfigInvalidError:
    """The error for a backend whose SDK is not installed."""
    remedy = f": pip install 'cm-platform[{extra}]'" if extra else ""
    failure = ConfigInvalidError(
        f"the backend {backend} needs {error.name or 'an SDK'}, which is not installed{remedy}"
    )
    failure.__cause__ = error
    return failure


_points: dict[str, Any] | None = None


def _entry_points() -> Mapping[str, Any]:
    global _points
    if _points is None:
        from importlib.metadata import entry_points

        _points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    return _points


REGISTRY: Final = Registry()

__all__ = ["ENTRY_POINT_GROUP", "REGISTRY", "Backend", "Registry", "missing_sdk"]
