"""Opening backends: lazily, once per process, event loop and configuration.

Clients and pools are shared by all tenants whose configuration is the same. After a fork the
child lets go of them without closing them: the sockets belong to its parent too.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from .config import BackendConfig, Config, KindConfig
from .errors import (
    ConfigInvalidError,
    DeadlineExceededError,
    InternalError,
    PlatformError,
    UnavailableError,
)
from .executor import Endpoint
from .migration.ledger import Ledger, Subject, Terms
from .migration.opening import Moving, Sides, assembler
from .registry import Registry, missing_sdk
from .resilience import CircuitBreaker, RetryPolicy
from .routing import Route, RouteTable
from .runtime import AsyncRuntime, BlockingRuntime, Clock, Runtime
from .tenant import Layout

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger("cm_platform.platform")

Key = tuple[str, str, str | None]
"""Kind, backend, and the tenant if its configuration is its own."""


class Session:
    """What is open in one process, on one event loop (or, blocking, on none)."""

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop | None) -> None:
        self.runtime = runtime
        self.loop = loop
        self.endpoints: dict[Key, Endpoint] = {}
        self.moving: dict[Key, Moving] = {}
        self.ledger: Ledger | None = None
        self.guard = runtime.lock()
        self.closed = False

    async def close(self) -> None:
        """Wait for background work, then close what is open, the last opened first.

        Raises the first failure when everything has been tried.
        """
        failure: Exception | None = None
        # Before the backends: what runs needs them, to finish and to leave no lock behind.
        await self.runtime.close()
        # Who is opening a backend just now is waited for, and what it opened is closed, too.
        async with self.guard:
            self.closed = True
            for endpoint in reversed(list(self.endpoints.values())):
                endpoint.closed = True
                try:
                    await endpoint.backend.close()
                except Exception as error:  # noqa: BLE001 - the others must be closed as well
                    failure = failure or error
            self.endpoints.clear()
            if self.ledger is not None:
                try:
                    await self.ledger.close()
                except Exception as error:  # noqa: BLE001 - as above
                    failure = failure or error
        await self.runtime.close()
        if failure is not None:
            raise failure


class Opener:
    """Opens the backends of one platform."""

    def __init__(self, config: Config, registry: Registry, clock: Clock, *, is_async: bool) -> None:
        self._config = config
        self._registry = registry
        self._clock = clock
        self._is_async = is_async
        self._sessions: dict[int, Session] = {}
        self._guard = threading.Lock()
        self._inherited: list[Session] = []
        self.closed = False
        _OPENERS.add(self)

    async def whereabouts(self) -> Ledger:
        """A ledger of its own under a blocking runtime, whatever the face; for route tables."""
        return await self._ledger(BlockingRuntime(clock=self._clock))

    def use(self, config: Config) -> None:
        """Open from this configuration from now on; what is open stays."""
        self._config = config

    def session(self) -> Session:
        """The session of this process and of the running loop."""
        if self.closed:
            raise _closed()
        loop = _running_loop() if self._is_async else None
        session = self._sessions.get(id(loop))
        # A loop that is gone may have left its id to another.
        if session is not None and session.loop is loop:
            return session
        runtime: Runtime = (
            AsyncRuntime(clock=self._clock)
            if self._is_async
            else BlockingRuntime(clock=self._clock)
        )
        session = Session(runtime, loop)
        with self._guard:
            current = self._sessions.get(id(loop))
            if current is not None and current.loop is loop:
                return current
            self._forget_closed_loops()
            self._sessions[id(loop)] = session
        return session

    def _forget_closed_loops(self) -> None:
        for key, session in list(self._sessions.items()):
            if session.loop is not None and session.loop.is_closed():
                for endpoint in session.endpoints.values():
                    endpoint.closed = True
                del self._sessions[key]

    def timeout(self, kind: str) -> float:
        """Seconds for a whole operation of a kind."""
        return self._config.kinds[kind].timeout

    async def open(self, kind: str, route: Route, tenant_id: str | None) -> Endpoint:
        """The endpoint of a route, as configured for that tenant; opened on first use.

        kind: of what has the route: "cache", or of a namespace "cache.sessions".
        """
        name = kind.partition(".")[0]
        if route.backend is not None:
            return await self._backend(name, route.backend, tenant_id)
        if route.migration is None or tenant_id is None:
            raise InternalError("a migration is a tenant's")
        key = (kind, route.migration, tenant_id)
        session = self.session()
        endpoint = session.endpoints.get(key)
        if endpoint is None:
            moving = await self.moving(kind, route.migration, tenant_id)
            if moving.prepare is not None:
                await moving.prepare()
            endpoint = session.endpoints.setdefault(
                key, self._endpoint(name, route.migration, moving.backend, session)
            )
        return endpoint

    async def moving(self, kind: str, migration: str, tenant_id: str) -> Moving:
        """A tenant's migration, put together; its two backends are opened on first use.

        kind: as in `open`.
        """
        key = (kind, migration, tenant_id)
        session = self.session()
        if (found := session.moving.get(key)) is not None:
            return found
        name = kind.partition(".")[0]
        settings = self._config.kinds[name]
        config = settings.migrations[migration]
        source = await self._backend(name, config.source, tenant_id)
        target = await self._backend(name, config.target, tenant_id)
        made = assembler(kind, settings)(
            Sides(source.backend, target.backend),
            await self.ledger(),
            Subject(kind, tenant_id),
            Terms(migration, config.source, config.target, config.lease, soak=config.soak),
            config,
            session.runtime,
            act=settings.timeout,
            prefix=Layout(settings.layout).tenant_prefix(tenant_id),
        )
        return session.moving.setdefault(key, made)

    async def ledger(self) -> Ledger:
        """The ledger, opened on first use. Raises `config_invalid` where none is configured."""
        session = self.session()
        async with session.guard:
            if session.closed:
                raise _closed()
            if session.ledger is None:
                session.ledger = await self._ledger(session.runtime)
            return session.ledger

    async def _ledger(self, runtime: Runtime) -> Ledger:
        config = self._config.ledger
        if config is None:
            raise ConfigInvalidError(
                "a migration needs a ledger, which knows where each tenant's data is: add a "
                "[ledger] table"
            )
        found: Ledger = await self._native("ledger", config, runtime, PATIENCE)
        return found

    async def _backend(self, kind: str, backend: str, tenant_id: str | None) -> Endpoint:
        kind_config = self._config.kinds[kind]
        own: Mapping[str, BackendConfig] = {}
        if tenant_id is not None:
            own = kind_config.tenants.get(tenant_id, own)
        config = own.get(backend)
        key = (kind, backend, tenant_id if config is not None else None)
        session = self.session()
        endpoint = session.endpoints.get(key)
        if endpoint is None:
            async with session.guard:
                endpoint = session.endpoints.get(key)
                if endpoint is None:
                    if session.closed:
                        raise _closed()
                    endpoint = await self._opened(
                        kind, kind_config, config or kind_config.backends[backend], session
                    )
                    session.endpoints[key] = endpoint
        return endpoint

    async def _opened(
        self, kind: str, kind_config: KindConfig, config: BackendConfig, session: Session
    ) -> Endpoint:
        backend = await self._native(kind, config, session.runtime, kind_config.timeout)
        return self._endpoint(kind, config.name, backend, session)

    async def _native(
        self, kind: str, config: BackendConfig, runtime: Runtime, timeout: float
    ) -> Any:
        descriptor = self._registry.get(kind, config.driver)
        try:
            return await descriptor.open(_impatient(config.settings, timeout), runtime)
        except PlatformError as error:
            error.service, error.backend = error.service or kind, error.backend or config.name
            raise
        except Exception as error:  # whatever a backend raises, ours leaves here
            failure: PlatformError = InternalError(
                f"{descriptor.name} could not be opened: it raised {type(error).__name__}"
            )
            if isinstance(error, ImportError):
                failure = missing_sdk(descriptor.name, descriptor.extra, error)
            failure.service, failure.backend = kind, config.name
            raise failure from error

    def _endpoint(self, kind: str, name: str, backend: Any, session: Session) -> Endpoint:
        kind_config = self._config.kinds[kind]
        retry, breaker = kind_config.retry, kind_config.breaker
        return Endpoint(
            name,
            backend,
            session.runtime,
            policy=RetryPolicy(retry.attempts, retry.initial, retry.max),
            timeout=kind_config.timeout,
            breaker=CircuitBreaker(
                self._clock, failures=breaker.failures, open_for=breaker.open_for
            ),
            loop=session.loop,
        )

    @property
    def is_open(self) -> bool:
        """Whether something is open that ought to be closed."""
        return any(session.endpoints for session in self._sessions.values())

    async def close(self) -> None:
        """Close the session of the running loop; those of other loops cannot be reached."""
        session = self._sessions.get(id(_running_loop() if self._is_async else None))
        self.closed = True
        for other in self._forget_all():
            if other is not session and other.endpoints:
                logger.warning(
                    "clients of another event loop were left open: close a platform on the loop "
                    "that used it"
                )
        if session is not None:
            await session.close()

    def _forget_all(self) -> list[Session]:
        sessions = list(self._sessions.values())
        for session in sessions:
            for endpoint in session.endpoints.values():
                endpoint.closed = True
        self._sessions = {}
        return sessions

    def after_fork(self) -> None:
        """In the child: open anew what is needed, leave alone what is the parent's.

        The old clients are kept, unused: their destructors would say goodbye on sockets that
        the parent still talks on.
        """
        self._guard = threading.Lock()
        self._inherited += self._forget_all()


class TenantEndpoints:
    """Finds the endpoint of one tenant's current route: what the executor asks each time."""

    __slots__ = (
        "_held",
        "_is_async",
        "_kind",
        "_opener",
        "_running_loop",
        "_table",
        "_tenant_id",
    )

    def __init__(
        self, kind: str, tenant_id: str, table: RouteTable, opener: Opener, *, is_async: bool
    ) -> None:
        self._kind = kind
        self._tenant_id = tenant_id
        self._table = table
        self._opener = opener
        self._is_async = is_async
        self._held: tuple[Route, Endpoint] | None = None
        if is_async:
            # Looked up once: an import statement on each call would cost more than the call.
            from asyncio import get_running_loop

            self._running_loop: Callable[[], object] = get_running_loop

    def current(self) -> Endpoint | None:
        """The endpoint, if its route is fresh and it is open on this loop."""
        held = self._held
        if held is None:
            return None
        route, endpoint = held
        if endpoint.closed or self._table.cached(self._tenant_id) is not route:
            return None
        if self._is_async and endpoint.loop is not self._running_loop():
            return None
        return endpoint

    async def refresh(self) -> Endpoint:
        """Find the route, which may ask a flag service, and open its backend."""
        runtime = self._opener.session().runtime
        route = self._table.cached(self._tenant_id)
        if route is None:
            try:
                async with runtime.timeout(self._opener.timeout(self._kind)):
                    route = await runtime.call(self._table.refresh, self._tenant_id)
            except TimeoutError as error:
                raise DeadlineExceededError(
                    "the flag service did not say in time where this tenant is",
                    service=self._kind,
                    retryable=True,
                    not_sent=True,
                ) from error
        endpoint = await self._opener.open(self._table.kind.name, route, self._tenant_id)
        self._held = (route, endpoint)
        return endpoint


PATIENCE: Final = 30.0
"""Seconds for one question to the ledger, at most."""

_PATIENCE: Final = ("connect_timeout", "read_timeout", "busy_timeout", "limiter_wait")


def _impatient(settings: BaseModel, timeout: float) -> BaseModel:
    """The settings, none of whose own timeouts is longer than a whole operation's.

    A blocking call can be interrupted by its socket only: with more patience there, a deadline
    would not hold. By convention these settings are called as in `_PATIENCE`.
    """
    cut: dict[str, Any] = {
        name: timeout
        for name in _PATIENCE
        if isinstance(found := getattr(settings, name, None), int | float) and found > timeout
    }
    for name in type(settings).model_fields:
        inner = getattr(settings, name)
        if isinstance(inner, BaseModel) and (better := _impatient(inner, timeout)) is not inner:
            cut[name] = better
    return settings.model_copy(update=cut) if cut else settings


def _closed() -> UnavailableError:
    return UnavailableError("the platform was closed", not_sent=True)


def _running_loop() -> asyncio.AbstractEventLoop:
    from asyncio import get_running_loop

    return get_running_loop()


_OPENERS: Final[weakref.WeakSet[Opener]] = weakref.WeakSet()


def _after_fork() -> None:
    for opener in list(_OPENERS):
        opener.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

__all__ = ["Opener", "Session", "TenantEndpoints"]
