"""A platform: a configuration brought to life. Hands out services, and closes what it opened."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

from .assembly import Assembly, Health, OnRouteEvent, check_startable
from .config import Config, embedded, load
from .errors import InvalidArgumentError
from .migration.control import AsyncMigration
from .migration.sync import Migration
from .registry import REGISTRY, Registry
from .runtime import SYSTEM_CLOCK, Clock, drive
from .tenant import Tenant

if TYPE_CHECKING:
    from .cache.service import AsyncCache
    from .cache.sync import Cache
    from .storage.service import AsyncStorage
    from .storage.sync import Storage


class _Face:
    """What the two faces of a platform have in common: all but whether one waits or awaits."""

    _is_async: ClassVar[bool]
    _remedy: ClassVar[str]

    def __init__(
        self,
        config: Config,
        *,
        registry: Registry = REGISTRY,
        clock: Clock = SYSTEM_CLOCK,
        on_route_event: OnRouteEvent | None = None,
    ) -> None:
        self._core = Assembly(
            config,
            is_async=self._is_async,
            registry=registry,
            clock=clock,
            on_route_event=on_route_event,
        )
        self._services = self._core.services

    @classmethod
    def from_config(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
        *,
        embedded: bool = False,
        on_route_event: OnRouteEvent | None = None,
    ) -> Self:
        """From a TOML file, a mapping, a loaded configuration, or CM_PLATFORM_CONFIG.

        embedded: the embedded backends under ./.cm_platform instead, for a first try.
        on_route_event: told when a requested route was not followed.
        Raises `config_invalid` with everything that is wrong.
        """
        config = read_config(source, embedded=embedded)
        return cls(config, on_route_event=on_route_event)

    @property
    def config(self) -> Config:
        """What it was made from."""
        return self._core.config

    def reload(
        self, source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None
    ) -> None:
        """Go on with other rules, and with backends that are new; handles that are held follow.

        Raises `config_invalid`, and changes nothing, when anything else differs.
        """
        self._core.reload(read_config(source))

    def __del__(self) -> None:
        """Warn about what was left open."""
        core: Assembly | None = getattr(self, "_core", None)
        if core is not None and not core.opener.closed and core.opener.is_open:
            warnings.warn(
                f"{type(self).__name__} was left open: use a with block or {self._remedy}",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


class Platform(_Face):
    """The sync face. Use it as a context manager, or `close` it.

    config: from `cm_platform.config.load` or `embedded`. on_route_event: told when a requested
    route was not followed. Both faces may live side by side in one process.
    """

    _is_async = False
    _remedy = "close()"

    @overload
    def get_service(self, kind: Literal["storage"], tenant: Tenant) -> Storage: ...
    @overload
    def get_service(self, kind: Literal["cache"], tenant: Tenant) -> Cache: ...
    def get_service(self, kind: str, tenant: Tenant) -> Any:
        """The service of a tenant. No I/O; the same object each time, while it is remembered."""
        try:
            found = self._services.get((kind, tenant))
        except TypeError:  # what cannot be hashed is refused below, by name
            found = None
        return found or self._core.service(kind, tenant)

    def health(self) -> list[Health]:
        """Ping every configured backend."""
        return drive(self._core.health())

    def native(self, name: str) -> Any:
        """The SDK's own client of a backend, such as "storage.s3": all tenants, for operators."""
        return drive(self._core.native(name))

    def migration(self, kind: str, tenant: Tenant, name: str | None = None) -> Migration:
        """A tenant's migration, for operators.

        name: of the configured migration; not needed where the kind has only one.
        """
        return Migration(drive(self._core.migration(kind, tenant, name)))

    def close(self) -> None:
        """Close what was opened. Services handed out raise `unavailable` from now on."""
        drive(self._core.close())

    def __enter__(self) -> Self:
        """The platform itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


class AsyncPlatform(_Face):
    """The async face. Use it as an async context manager, or `await close()`.

    Clients belong to the event loop on which they were opened; a platform may serve several
    loops, and closes what belongs to the one that closes it.
    """

    _is_async = True
    _remedy = "await close()"

    @overload
    def get_service(self, kind: Literal["storage"], tenant: Tenant) -> AsyncStorage: ...
    @overload
    def get_service(self, kind: Literal["cache"], tenant: Tenant) -> AsyncCache: ...
    def get_service(self, kind: str, tenant: Tenant) -> Any:
        """The service of a tenant. No I/O; the same object each time, while it is remembered."""
        try:
            found = self._services.get((kind, tenant))
        except TypeError:  # what cannot be hashed is refused below, by name
            found = None
        return found or self._core.service(kind, tenant)

    async def health(self) -> list[Health]:
        """Ping every configured backend."""
        return await self._core.health()

    async def native(self, name: str) -> Any:
        """The SDK's own client of a backend, such as "storage.s3": all tenants, for operators."""
        return await self._core.native(name)

    async def migration(self, kind: str, tenant: Tenant, name: str | None = None) -> AsyncMigration:
        """A tenant's migration, for operators.

        name: of the configured migration; not needed where the kind has only one.
        """
        return await self._core.migration(kind, tenant, name)

    async def close(self) -> None:
        """Close what was opened. Services handed out raise `unavailable` from now on."""
        await self._core.close()

    async def __aenter__(self) -> Self:
        """The platform itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()


def read_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | Config | None,
    *,
    embedded: bool = False,
) -> Config:
    """The configuration that the public face's arguments mean, fit to start with."""
    if embedded:
        if source is not None:
            raise InvalidArgumentError("give either a configuration or embedded=True")
        return _embedded()
    if isinstance(source, Config):
        config = source
    else:
        file = Path(source) if isinstance(source, os.PathLike) else source
        config = load(file)
    check_startable(config)
    return config


_embedded = embedded


__all__ = ["AsyncPlatform", "Health", "Platform", "read_config"]
