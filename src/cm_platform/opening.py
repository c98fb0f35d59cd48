"""Opening backends: lazily, once per process, event loop and configuration.

Clients and pools are shared by all tenants whose configuration is the same. After a fork the
child lets go of them without closing them: the sockets belong to its parent too.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from .config import BackendConfig, Config, KindConfig
from .errors import ConfigInvalidError, InternalError, PlatformError, UnavailableError
from .executor import Endpoint
from .migration.guarding import Guarded, Unbroken
from .migration.ledger import Ledger, Subject, Terms
from .migration.mover import Moving, Sides
from .migration.opening import assembler
from .registry import Registry, missing_sdk
from .resilience import CircuitBreaker, RetryBudget, RetryPolicy
from .routing import Route
from .runtime import AsyncRuntime, BlockingRuntime, Clock, Runtime
from .session import MOVING_KEPT, Moved, Session
from .tenant import Layout

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger("cm_platform.platform")


class Opener:
    """Opens the backends of one platform. moving_kept: see `MovingTable`."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        clock: Clock,
        *,
        is_async: bool,
        moving_kept: int = MOVING_KEPT,
    ) -> None:
        self._config = config
        self._registry = registry
        self._clock = clock
        self._is_async = is_async
        self._moving_kept = moving_kept
        self._unbroken = Unbroken(clock)
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
        session = Session(runtime, loop, moving_kept=self._moving_kept)
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
                session.forget()
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
        moved = await self._moved(kind, route.migration, tenant_id)
        if moved.moving.prepare is not None:
            # Each time: the route may have another stage by now.
            await moved.moving.prepare()
        return moved.endpoint

    async def moving(self, kind: str, migration: str, tenant_id: str) -> Moving:
        """A tenant's migration, put together; its two backends are opened on first use.

        kind: as in `open`.
        """
        return (await self._moved(kind, migration, tenant_id)).moving

    async def _moved(self, kind: str, migration: str, tenant_id: str) -> Moved:
        key = (kind, migration, tenant_id)
        session = self.session()
        if (found := session.moving.get(key)) is not None:
            return found
        name = kind.partition(".")[0]
        settings = self._config.kinds[name]
        config = settings.migrations[migration]
        source = await self._backend(name, config.source, tenant_id)
        target = await self._backend(name, config.target, tenant_id)
        moving = assembler(kind, settings)(
            Sides(*(self._side(session, one, settings) for one in (source, target))),
            await self._shared_ledger(session, settings),
            Subject(kind, tenant_id),
            Terms(migration, config.source, config.target, config.lease, soak=config.soak),
            config,
            session.runtime,
            act=settings.timeout,
            prefix=Layout(settings.layout).tenant_prefix(tenant_id),
        )
        budget = session.budgets.setdefault((name, migration), RetryBudget(self._clock))
        endpoint = Endpoint(
            migration,
            moving.backend,
            session.runtime,
            policy=source.policy,
            timeout=settings.timeout,
            breaker=self._unbroken,
            budget=budget,
            loop=session.loop,
        )
        return await session.keep(key, Moved(endpoint, moving))

    def _side(self, session: Session, endpoint: Endpoint, settings: KindConfig) -> Guarded:
        """A backend behind the breaker that serves those who do not move, too."""
        if (found := session.sides.get(endpoint)) is not None:
            return found
        guarded = Guarded(
            endpoint.backend,
            endpoint.breaker,
            self._clock,
            name=endpoint.name,
            patience=settings.timeout * _UNANSWERED,
        )
        return session.sides.setdefault(endpoint, guarded)

    async def _shared_ledger(self, session: Session, settings: KindConfig) -> Ledger:
        """The ledger behind one breaker; a short one, because nothing is written without it."""
        guarded: Any = session.guarded
        if guarded is None:
            guarded = session.guarded = Guarded(
                await self.ledger(),
                CircuitBreaker(
                    self._clock, failures=settings.breaker.failures, open_for=_LEDGER_RESTS
                ),
                self._clock,
                name="ledger",
                patience=settings.timeout * _UNANSWERED,
            )
        ledger: Ledger = guarded
        return ledger

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
            session.forget()
        self._sessions = {}
        return sessions

    def after_fork(self) -> None:
        """In the child: open anew what is needed, leave alone what is the parent's.

        The old clients are kept, unused: their destructors would say goodbye on sockets that
        the parent still talks on.
        """
        self._guard = threading.Lock()
        self._inherited += self._forget_all()


# Of an operation's time: what was cancelled after so much of it waited for an answer.
_UNANSWERED: Final = 0.5
# Seconds between two attempts to reach a ledger that does not answer.
_LEDGER_RESTS: Final = 1.0

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

__all__ = ["PATIENCE", "Opener"]
