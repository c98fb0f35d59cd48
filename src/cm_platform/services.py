"""How the service of each kind is made: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from .config import KindConfig, NamespaceConfig
from .errors import InvalidArgumentError
from .executor import Executor
from .routing import is_name
from .routing.names import NAME_RULE
from .signing import Signer
from .tenant import Scope


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service of one tenant is made of.

    executor: the way to the backend of a namespace; "" for kinds without namespaces.
    shared: what services of one kind and tenant have in common; holds it weakly.
    """

    scope: Scope
    signer: Signer
    config: KindConfig
    executor: Callable[[str], Executor]
    shared: MutableMapping[Any, Any]


def _storage(parts: Parts, is_async: bool) -> Any:
    from .storage.service import AsyncStorage
    from .storage.sync import Storage
    from .storage.view import View

    service = AsyncStorage(parts.executor(""), View(parts.scope, parts.signer))
    return service if is_async else Storage(service)


def _cache(parts: Parts, is_async: bool) -> Any:
    from .cache.keys import DEFAULT_NAMESPACE
    from .cache.service import AsyncCache
    from .cache.space import Space
    from .cache.sync import Cache

    spaces: dict[str, Space] = {}
    configured = parts.config.namespaces

    def space(name: Any) -> Space:
        # What is no text may not even be hashable.
        found = spaces.get(name) if isinstance(name, str) else None
        if found is None:
            if not isinstance(name, str) or not is_name(name):
                raise InvalidArgumentError(f"a namespace: {NAME_RULE}")
            # One that is not configured is as the default one is, routes included.
            like = name if name in configured else DEFAULT_NAMESPACE
            settings = configured.get(like, _PLAIN)
            if len(spaces) >= _SPACES:
                raise InvalidArgumentError(
                    f"a tenant has at most {_SPACES} namespaces: they are parts of an "
                    "application, not of its data"
                )
            made = Space(
                parts.scope,
                name,
                settings.ttl,
                settings.encoding,
                parts.executor(like),
                parts.shared,
            )
            # Of two threads that come here at once, both get the first one's.
            found = spaces.setdefault(name, made)
        return found

    service = AsyncCache(space(DEFAULT_NAMESPACE), space)
    return service if is_async else Cache(service)


_PLAIN: Final = NamespaceConfig()
_SPACES: Final = 1000

SERVICES: Final[Mapping[str, Callable[[Parts, bool], Any]]] = {
    "cache": _cache,
    "storage": _storage,
}

__all__ = ["SERVICES", "Parts"]
