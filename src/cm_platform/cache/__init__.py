"""Caching: one interface over Redis, Workers KV, Durable Objects, memory and SQLite.

The names that an application, or a backend of its own, needs. Importing this imports none of
them, and no SDK: each comes on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .backend import CacheBackend as CacheBackend
    from .backend import CacheCapability as CacheCapability
    from .backend import CacheLimits as CacheLimits
    from .backend import Counted as Counted
    from .backend import Stored as Stored
    from .backend import StoredMany as StoredMany
    from .decorator import cached as cached
    from .service import AsyncCache as AsyncCache
    from .sync import Cache as Cache

_MODULES: Final = {
    "AsyncCache": "service",
    "Cache": "sync",
    "CacheBackend": "backend",
    "CacheCapability": "backend",
    "CacheLimits": "backend",
    "Counted": "backend",
    "Stored": "backend",
    "StoredMany": "backend",
    "cached": "decorator",
}

# Hidden from type checkers, to whom a module with `__getattr__` has every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if (module := _MODULES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{module}", __name__), name)


__all__ = [
    "AsyncCache",
    "Cache",
    "CacheBackend",
    "CacheCapability",
    "CacheLimits",
    "Counted",
    "Stored",
    "StoredMany",
    "cached",
]
