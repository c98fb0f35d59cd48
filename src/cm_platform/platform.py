"""A platform: a configuration brought to life. Hands out services, and closes what it opened."""

from __future__ import annotations

import os
import secrets
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self, cast

from .config import Config, embedded, load
from .errors import ConfigInvalidError, InvalidArgumentError, PlatformError
from .executor import Executor
from .opening import Opener, TenantEndpoints
from .registry import REGISTRY, Registry
from .routing import KINDS, Ledger, Route, RouteEvent, RouteTable, Rules, known_routes
from .runtime import SYSTEM_CLOCK, Clock, drive
from .signing import Signer
from .tenant import Layout, Scope, Tenant

if TYPE_CHECKING:
    from .storage.service import AsyncStorage
    from .storage.sync import Storage

# Handles are made again in microseconds: enough for the tenants of a busy hour, and bounded.
SERVICES_KEPT: Final = 10_000

OnRouteEvent = Callable[[RouteEvent], None]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a backend answers. latency: seconds. error: why it does not."""

    service: str
    backend: str
    ok: bool
    latency: float
    error: PlatformError | None = None


class _Core:
    """What both faces share."""

    def __init__(
        self,
        config: Config,
        *,
        is_async: bool,
        registry: Registry,
        clock: Clock,
        ledger: Ledger | None,
        on_route_event: OnRouteEvent | None,
    ) -> None:
        from .routing.openfeature import (
            Registration,
            RulesProvider,
            openfeature_evaluator,
            subscribe,
        )

        self.config = config
        self.clock = clock
        self.is_async = is_async
        self.services: dict[tuple[str, Tenant], Any] = {}
        self.signer = _signer(config)
        _refuse_migrations(config)
        self.opener = Opener(config, registry, clock, is_async=is_async)
        rules = {
            kind: Rules(kind, settings.rules, Route.parse(settings.default))
            for kind, settings in config.kinds.items()
        }
        self._registration = Registration(RulesProvider(rules))
        self._ends: list[Callable[[], None]] = []
        self.tables: dict[str, RouteTable] = {}
        self.layouts: dict[str, Layout] = {}
        for name, settings in config.kinds.items():
            kind = KINDS[name]
            remote = settings.flags == "openfeature"
            evaluate = openfeature_evaluator(kind) if remote else self._registration.evaluator(kind)
            table = RouteTable(
                kind,
                evaluate,
                known=_executable(known_routes(settings.backends, settings.migrations)),
                ttl=settings.route_ttl,
                clock=clock,
                on_event=on_route_event or _ignore,
                ledger=ledger,
            )
            self.tables[name] = table
            self.layouts[name] = Layout(settings.layout)
            changed = table.invalidate
            self._ends.append(
                subscribe(changed) if remote else self._registration.subscribe(changed)
            )
        _CORES.add(self)

    def service(self, kind: Any, tenant: Any) -> Any:
        if not isinstance(tenant, Tenant):
            raise InvalidArgumentError(
                f"a tenant is a cm_platform.Tenant, not {type(tenant).__name__}: "
                "Tenant('<uuid or slug>')"
            )
        settings = self.config.kinds.get(kind) if isinstance(kind, str) else None
        if settings is None:
            self._refuse(kind)
        endpoints = TenantEndpoints(
            kind, tenant.id, self.tables[kind], self.opener, is_async=self.is_async
        )
        executor = Executor(
            kind,
            endpoints,
            labels=_labels(tenant) if self.config.telemetry.tenant_attribute else None,
        )
        service = _SERVICES[kind](
            executor, Scope(tenant, self.layouts[kind]), self.signer, self.is_async
        )
        if len(self.services) >= SERVICES_KEPT:
            with suppress(KeyError, StopIteration, RuntimeError):
                del self.services[next(iter(self.services))]
        # Of two threads that come here at once, both get the first one's.
        return self.services.setdefault((kind, tenant), service)

    def _refuse(self, kind: Any) -> NoReturn:
        if isinstance(kind, str) and kind in KINDS:
            raise ConfigInvalidError(f"{kind} is not configured: add a [{kind}] table")
        raise InvalidArgumentError(
            f"there is no service called {kind!r}; there are: {', '.join(KINDS)}"
        )

    async def health(self) -> list[Health]:
        names = [
            (kind, backend)
            for kind, settings in self.config.kinds.items()
            for backend in settings.backends
        ]
        runtime = self.opener.session().runtime
        return await runtime.gather(
            (self._health(kind, backend) for kind, backend in names), limit=8
        )

    async def _health(self, kind: str, backend: str) -> Health:
        from .operation import Operation

        started = self.clock.monotonic()
        error: PlatformError | None = None
        try:
            endpoint = await self.opener.open(kind, backend, None)
            await Executor(kind, _Fixed(endpoint)).run(
                Operation(kind, "ping", "read"), lambda opened: opened.ping()
            )
        except PlatformError as failed:
            error = failed
        return Health(kind, backend, error is None, self.clock.monotonic() - started, error)

    async def native(self, name: str) -> Any:
        kind, _, backend = name.partition(".")
        settings = self.config.kinds.get(kind)
        if settings is None or backend not in settings.backends:
            known = [f"{k}.{b}" for k, s in self.config.kinds.items() for b in s.backends]
            raise InvalidArgumentError(
                f"no configured backend is called {name!r}; there are: {', '.join(known)}"
            )
        endpoint = await self.opener.open(kind, backend, None)
        return endpoint.backend.native()

    async def close(self) -> None:
        self.services.clear()
        while self._ends:
            self._ends.pop()()
        self._registration.close()
        await self.opener.close()

    def after_fork(self) -> None:
        for table in self.tables.values():
            table.after_fork()


class _Fixed:
    """The endpoints of an executor that has only one."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def current(self) -> Any:
        return self._endpoint

    async def refresh(self) -> Any:
        return self._endpoint


class Platform:
    """The sync face. Use it as a context manager, or `close` it.

    config: from `cm_platform.config.load` or `embedded`. on_route_event: told when a requested
    route was not followed. Both faces may live side by side in one process.
    """

    def __init__(
        self,
        config: Config,
        *,
        registry: Registry = REGISTRY,
        clock: Clock = SYSTEM_CLOCK,
        ledger: Ledger | None = None,
        on_route_event: OnRouteEvent | None = None,
    ) -> None:
        self._core = _Core(
            config,
            is_async=False,
            registry=registry,
            clock=clock,
            ledger=ledger,
            on_route_event=on_route_event,
        )
        self._services = self._core.services

    @classmethod
    def from_config(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
        *,
        embedded: bool = False,
    ) -> Self:
        """From a TOML file, a mapping, a loaded configuration, or CM_PLATFORM_CONFIG.

        embedded: the embedded backends under ./.cm_platform instead, for a first try.
        Raises `config_invalid` with everything that is wrong.
        """
        return cls(read_config(source, embedded=embedded))

    @property
    def config(self) -> Config:
        """What it was made from."""
        return self._core.config

    def get_service(self, kind: Literal["storage"], tenant: Tenant) -> Storage:
        """The service of a tenant. No I/O; the same object each time, while it is remembered."""
        try:
            found = self._services.get((kind, tenant))
        except TypeError:  # what cannot be hashed is refused below, by name
            found = None
        return cast("Storage", found or self._core.service(kind, tenant))

    def health(self) -> list[Health]:
        """Ping every configured backend."""
        return drive(self._core.health())

    def native(self, name: str) -> Any:
        """The SDK's own client of a backend, such as "storage.s3": all tenants, for operators."""
        return drive(self._core.native(name))

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

    def __del__(self) -> None:
        """Warn about what was left open."""
        _warn_if_open(self, "close()")


class AsyncPlatform:
    """The async face. Use it as an async context manager, or `await close()`.

    Clients belong to the event loop on which they were opened; a platform may serve several
    loops, and closes what belongs to the one that closes it.
    """

    def __init__(
        self,
        config: Config,
        *,
        registry: Registry = REGISTRY,
        clock: Clock = SYSTEM_CLOCK,
        ledger: Ledger | None = None,
        on_route_event: OnRouteEvent | None = None,
    ) -> None:
        self._core = _Core(
            config,
            is_async=True,
            registry=registry,
            clock=clock,
            ledger=ledger,
            on_route_event=on_route_event,
        )
        self._services = self._core.services

    @classmethod
    def from_config(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
        *,
        embedded: bool = False,
    ) -> Self:
        """From a TOML file, a mapping, a loaded configuration, or CM_PLATFORM_CONFIG.

        embedded: the embedded backends under ./.cm_platform instead, for a first try.
        Raises `config_invalid` with everything that is wrong.
        """
        return cls(read_config(source, embedded=embedded))

    @property
    def config(self) -> Config:
        """What it was made from."""
        return self._core.config

    def get_service(self, kind: Literal["storage"], tenant: Tenant) -> AsyncStorage:
        """The service of a tenant. No I/O; the same object each time, while it is remembered."""
        try:
            found = self._services.get((kind, tenant))
        except TypeError:  # what cannot be hashed is refused below, by name
            found = None
        return cast("AsyncStorage", found or self._core.service(kind, tenant))

    async def health(self) -> list[Health]:
        """Ping every configured backend."""
        return await self._core.health()

    async def native(self, name: str) -> Any:
        """The SDK's own client of a backend, such as "storage.s3": all tenants, for operators."""
        return await self._core.native(name)

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

    def __del__(self) -> None:
        """Warn about what was left open."""
        _warn_if_open(self, "await close()")


def read_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | Config | None, *, embedded: bool
) -> Config:
    """The configuration that the public face's arguments mean."""
    if embedded:
        if source is not None:
            raise InvalidArgumentError("give either a configuration or embedded=True")
        return _embedded()
    if isinstance(source, Config):
        return source
    return load(Path(source) if isinstance(source, os.PathLike) else source)


_embedded = embedded


def _storage(executor: Executor, scope: Scope, signer: Signer, is_async: bool) -> Any:
    from .storage.service import AsyncStorage
    from .storage.sync import Storage
    from .storage.view import View

    service = AsyncStorage(executor, View(scope, signer))
    return service if is_async else Storage(service)


_SERVICES: Final[Mapping[str, Callable[[Executor, Scope, Signer, bool], Any]]] = {
    "storage": _storage,
}


def _labels(tenant: Tenant) -> dict[str, str]:
    labels = {"cm_platform.tenant.id": tenant.id}
    if tenant.site_id is not None:
        labels["cm_platform.site.id"] = tenant.site_id
    if tenant.user_id is not None:
        labels["user.id"] = tenant.user_id
    return labels


def _signer(config: Config) -> Signer:
    keys = {key_id: key.get_secret_value().encode() for key_id, key in config.signing.keys.items()}
    if not keys or config.signing.current is None:
        # Good for this process: enough for a script. `doctor` tells who needs more.
        return Signer({"process": secrets.token_bytes(32)}, "process")
    return Signer(keys, config.signing.current)


_NOT_EXECUTABLE: Final = "this version reads migrations and does not carry them out yet"


def _refuse_migrations(config: Config) -> None:
    for kind, settings in config.kinds.items():
        for number, rule in enumerate(settings.rules, 1):
            if rule.route.migration is not None:
                raise ConfigInvalidError(
                    f"{kind}.rules[{number}]: the route {rule.route} cannot be used: "
                    f"{_NOT_EXECUTABLE}. Route these tenants to a backend"
                )


def _executable(known: Callable[[Route], str | None]) -> Callable[[Route], str | None]:
    def refusal(route: Route) -> str | None:
        return known(route) or (_NOT_EXECUTABLE if route.migration is not None else None)

    return refusal


def _ignore(event: RouteEvent) -> None:
    pass


def _warn_if_open(platform: Platform | AsyncPlatform, remedy: str) -> None:
    core: _Core | None = getattr(platform, "_core", None)
    if core is not None and not core.opener.closed and core.opener.is_open:
        warnings.warn(
            f"{type(platform).__name__} was left open: use a with block or {remedy}",
            ResourceWarning,
            source=platform,
            stacklevel=2,
        )


_CORES: Final[weakref.WeakSet[_Core]] = weakref.WeakSet()


def _after_fork() -> None:
    for core in list(_CORES):
        core.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

__all__ = ["AsyncPlatform", "Health", "Platform", "read_config"]
