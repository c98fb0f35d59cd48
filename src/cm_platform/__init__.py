"""One interface per service, any cloud behind it, swapped per tenant by configuration.

    import cm_platform

    cm_platform.configure("cm_platform.toml")
    tenant = cm_platform.Tenant("acme")
    storage = cm_platform.get_service("storage", tenant)
    storage.put("press/cover.png", cover, content_type="image/png")

Importing this package imports no SDK and no framework; the rest comes on first use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from .errors import (
    AlreadyExistsError,
    AmbiguousError,
    ConfigInvalidError,
    DeadlineExceededError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
    PreconditionFailedError,
    QuotaExceededError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from .tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cache.service import AsyncCache as AsyncCache
    from .cache.sync import Cache as Cache
    from .config import Config
    from .platform import AsyncPlatform as AsyncPlatform
    from .platform import Health as Health
    from .platform import Platform as Platform
    from .routing import RouteEvent
    from .storage.reading import AsyncStoredObject as AsyncStoredObject
    from .storage.service import AsyncStorage as AsyncStorage
    from .storage.sync import Storage as Storage
    from .storage.sync import StoredObject as StoredObject

__version__ = "0.1.0"

# The handles of the default platforms; filled by them, looked up here in under a microsecond.
_services: dict[tuple[str, Tenant], Any] = {}
_async_services: dict[tuple[str, Tenant], Any] = {}


def configure(
    source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
    *,
    embedded: bool = False,
    on_route_event: Callable[[RouteEvent], None] | None = None,
) -> None:
    """Set what `get_service` and `get_async_service` use in this process.

    source: a TOML file, a mapping, or a loaded `Config`; None reads the file that
        CM_PLATFORM_CONFIG names.
    embedded: the embedded backends under ./.cm_platform instead, for a first try.
    on_route_event: told when a requested route was not followed.

    Raises `config_invalid` with everything that is wrong. Called again, it closes what the
    earlier call opened for the sync face; handles of before raise `unavailable`.
    """
    from . import default

    default.configure(source, embedded=embedded, on_route_event=on_route_event)


def reload(source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None) -> None:
    """Go on with other rules, and with backends that are new; handles that are held follow.

    source: as for `configure`. Raises `config_invalid`, and changes nothing, when anything else
    differs from what `configure` was given.
    """
    from . import default

    default.reload(source)


@overload
def get_service(kind: Literal["storage"], tenant: Tenant) -> Storage: ...
@overload
def get_service(kind: Literal["cache"], tenant: Tenant) -> Cache: ...
@overload
def get_service(kind: str, tenant: Tenant) -> object: ...
def get_service(kind: str, tenant: Tenant) -> Any:
    """The sync service of a tenant, by kind: "storage", "cache".

    No I/O; a dictionary look-up the second time. Unconfigured, it reads CM_PLATFORM_CONFIG, or
    raises `config_invalid` naming the ways to configure.
    """
    try:
        found = _services.get((kind, tenant))
    except TypeError:  # what cannot be hashed is refused below, by name
        found = None
    if found is not None:
        return found
    from . import default

    return default.service(kind, tenant)


@overload
def get_async_service(kind: Literal["storage"], tenant: Tenant) -> AsyncStorage: ...
@overload
def get_async_service(kind: Literal["cache"], tenant: Tenant) -> AsyncCache: ...
@overload
def get_async_service(kind: str, tenant: Tenant) -> object: ...
def get_async_service(kind: str, tenant: Tenant) -> Any:
    """The async service of a tenant, by kind: "storage", "cache". Otherwise as `get_service`."""
    try:
        found = _async_services.get((kind, tenant))
    except TypeError:  # as above
        found = None
    if found is not None:
        return found
    from . import default

    return default.async_service(kind, tenant)


def close() -> None:
    """Close what `get_service` opened. It happens at exit, too."""
    from . import default

    default.close()


async def aclose() -> None:
    """Close what `get_async_service` opened on this event loop: call it before the loop ends."""
    from . import default

    await default.aclose()


_MODULES = {
    "AsyncCache": "cache",
    "AsyncPlatform": "platform",
    "AsyncStorage": "storage",
    "AsyncStoredObject": "storage",
    "Cache": "cache",
    "Health": "platform",
    "Platform": "platform",
    "Storage": "storage",
    "StoredObject": "storage",
}

# Hidden from type checkers, to whom a module with `__getattr__` has every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if (module := _MODULES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{module}", __name__), name)


__all__ = [
    "AlreadyExistsError",
    "AmbiguousError",
    "AsyncCache",
    "AsyncPlatform",
    "AsyncStorage",
    "AsyncStoredObject",
    "Cache",
    "ConfigInvalidError",
    "DeadlineExceededError",
    "Health",
    "IntegrityError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "PermissionDeniedError",
    "Platform",
    "PlatformError",
    "PreconditionFailedError",
    "QuotaExceededError",
    "RateLimitedError",
    "Storage",
    "StoredObject",
    "Tenant",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "aclose",
    "close",
    "configure",
    "get_async_service",
    "get_service",
    "reload",
]
