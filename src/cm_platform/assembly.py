"""A configuration brought to life: what both faces of a platform share."""

from __future__ import annotations

import os
import secrets
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

from .config import Config, KindConfig, NamespaceConfig
from .endpoints import TenantEndpoints
from .errors import ConfigInvalidError, InvalidArgumentError, PlatformError
from .executor import Executor
from .migration.control import AsyncMigration
from .migration.ledger import Subject
from .migration.opening import MOVABLE
from .migration.whereabouts import LedgerWhereabouts
from .opening import Opener
from .registry import Registry
from .routing import KINDS, Kind, Route, RouteEvent, RouteTable, Rule, Rules, Stage, known_routes
from .runtime import Clock, drive
from .services import SERVICES, Parts
from .signing import Signer
from .tenant import Layout, Scope, Tenant

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


class Assembly:
    """A configuration, its route tables, its endpoints and its services, under one face."""

    def __init__(
        self,
        config: Config,
        *,
        is_async: bool,
        registry: Registry,
        clock: Clock,
        on_route_event: OnRouteEvent | None,
    ) -> None:
        from .routing.openfeature import (
            Registration,
            RulesProvider,
            openfeature_evaluator,
            subscribe,
        )

        check_startable(config)
        self.config = config
        self._homes = _homes(config)
        self.clock = clock
        self.is_async = is_async
        self.services: dict[tuple[str, Tenant], Any] = {}
        self.signer = _signer(config)
        self.opener = Opener(config, registry, clock, is_async=is_async)
        self._whereabouts: LedgerWhereabouts | None = None
        if config.ledger is not None:
            self._whereabouts = LedgerWhereabouts(
                lambda: drive(self.opener.whereabouts()), self._resting
            )
        self._registration = Registration(RulesProvider(_rules(config)))
        self._ends: list[Callable[[], None]] = []
        self.tables: dict[str, RouteTable] = {}
        self.layouts: dict[str, Layout] = {}
        self._shared: dict[str, weakref.WeakValueDictionary[Any, Any]] = {
            kind: weakref.WeakValueDictionary() for kind in config.kinds
        }
        for routed, settings in _routed(config):
            remote = settings.flags == "openfeature"
            evaluate = (
                openfeature_evaluator(routed) if remote else self._registration.evaluator(routed)
            )
            name = routed.name.partition(".")[0]
            table = RouteTable(
                routed,
                evaluate,
                known=partial(self._refusal, name),
                ttl=settings.route_ttl,
                clock=clock,
                on_event=on_route_event or _ignore,
                # Where nothing can be lost and nothing moves, the flags alone decide.
                ledger=self._whereabouts if routed.holds_data or settings.migrations else None,
                home=partial(self._home, routed.name, name),
                end=partial(self._end, name),
            )
            self.tables[routed.name] = table
            self.layouts[name] = Layout(settings.layout)
            changed = table.invalidate
            self._ends.append(
                subscribe(changed) if remote else self._registration.subscribe(changed)
            )
        _ASSEMBLIES.add(self)

    def _refusal(self, kind: str, route: Route) -> str | None:
        settings = self.config.kinds[kind]
        return known_routes(settings.backends, settings.migrations)(route)

    def _home(self, flag: str, kind: str, tenant_id: str, requested: Route | None) -> Route:
        """The route of a tenant that was never migrated: where its data is by the operator's
        word, and under the lease of the migration that may begin there."""
        home = self._homes[flag].evaluate(tenant_id)
        if requested is not None and requested.backend is not None and not KINDS[kind].holds_data:
            home = requested
        asked = requested.migration if requested is not None else None
        return self._resting(kind, home.backend or "", asked)

    def _resting(self, kind: str, backend: str, preferred: str | None) -> Route:
        """The route to data that is on one backend alone: under the lease of a migration that
        may begin there, so that it can begin while the tenant works."""
        migrations = self.config.kinds[kind.partition(".")[0]].migrations
        ways = [name for name, found in migrations.items() if found.source == backend]
        if not ways:
            return Route(backend=backend)
        return Route(migration=preferred if preferred in ways else ways[0], stage=Stage.OFF)

    def _end(self, kind: str, route: Route) -> Route:
        if route.migration is None or route.stage not in (Stage.OFF, Stage.COMPLETE):
            return route
        found = self.config.kinds[kind].migrations[route.migration]
        return Route(backend=found.source if route.stage is Stage.OFF else found.target)

    def reload(self, config: Config) -> None:
        """Go on with other rules, and with backends that are new.

        Raises `config_invalid`, and changes nothing, when anything else differs: what is open
        was opened with it.
        """
        check_startable(config)
        if changed := _changed(self.config, config):
            raise ConfigInvalidError(
                "a reload takes other rules and new backends; start anew for changes of: "
                + ", ".join(changed)
            )
        self.config = config
        self._homes = _homes(config)
        self.opener.use(config)
        self._registration.provider.update(_rules(config))
        # The provider tells them, too, in a thread of the SDK's: a moment later.
        for table in self.tables.values():
            table.invalidate()

    def service(self, kind: Any, tenant: Any) -> Any:
        if not isinstance(tenant, Tenant):
            raise InvalidArgumentError(
                f"a tenant is a cm_platform.Tenant, not {type(tenant).__name__}: "
                "Tenant('<uuid or slug>')"
            )
        settings = self.config.kinds.get(kind) if isinstance(kind, str) else None
        if settings is None:
            self._refuse(kind)
        labels = _labels(tenant) if self.config.telemetry.tenant_attribute else None

        def executor(namespace: str) -> Executor:
            # A namespace without routes of its own goes where its kind goes.
            table = self.tables.get(f"{kind}.{namespace}", self.tables[kind])
            endpoints = TenantEndpoints(kind, tenant.id, table, self.opener, is_async=self.is_async)
            return Executor(kind, endpoints, labels=labels)

        scope = Scope(tenant, self.layouts[kind])
        service = SERVICES[kind](
            Parts(scope, self.signer, settings, executor, self._shared[kind]), self.is_async
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
            endpoint = await self.opener.open(kind, Route(backend=backend), None)
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
        endpoint = await self.opener.open(kind, Route(backend=backend), None)
        return endpoint.backend.native()

    async def migration(self, kind: Any, tenant: Any, name: str | None) -> AsyncMigration:
        if not isinstance(tenant, Tenant):
            raise InvalidArgumentError(f"a tenant is a Tenant, not {type(tenant).__name__}")
        settings = self.config.kinds.get(kind.partition(".")[0]) if isinstance(kind, str) else None
        if settings is None:
            self._refuse(kind)
        if kind not in self.tables:
            raise InvalidArgumentError(
                f"{kind!r} has no route of its own: it moves with the rest of the "
                f"{kind.partition('.')[0]}, unless its namespace has a default"
            )
        known = ", ".join(sorted(settings.migrations)) or "none"
        if name is None:
            if len(settings.migrations) != 1:
                raise InvalidArgumentError(f"say which migration; {kind} has: {known}")
            name = next(iter(settings.migrations))
        if name not in settings.migrations:
            raise InvalidArgumentError(f"no migration of {kind} has this name; there are: {known}")
        moving = await self.opener.moving(kind, name, tenant.id)
        session = self.opener.session()
        return AsyncMigration(
            await self.opener.ledger(),
            Subject(kind, tenant.id),
            moving.terms,
            moving.mover,
            session.runtime,
            max_divergence=settings.migrations[name].max_divergence,
            home=self._homes[kind].evaluate(tenant.id).backend,
        )

    async def close(self) -> None:
        self.services.clear()
        while self._ends:
            self._ends.pop()()
        self._registration.close()
        if self._whereabouts is not None:
            self._whereabouts.close()
        await self.opener.close()

    def after_fork(self) -> None:
        if self._whereabouts is not None:
            self._whereabouts.after_fork()
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


def check_startable(config: Config) -> None:
    """Raise `config_invalid` for what is well-formed and must not run.

    Without a ledger nothing may move a tenant's data, or a tenant of a kind that holds data by
    anything but the operator's word.
    """
    ledger = config.ledger
    problems: list[str] = []
    for name, settings in config.kinds.items():
        rules = [(f"{name}.rules[{n}]", rule) for n, rule in enumerate(settings.rules)]
        rules += [
            (f"{name}.namespaces.{namespace}.rules[{n}]", rule)
            for namespace, found in settings.namespaces.items()
            for n, rule in enumerate(found.rules)
        ]
        for where, rule in rules:
            if rule.route.migration is not None and ledger is None:
                problems.append(
                    f"{where}: the route {rule.route} needs a ledger, which knows where each "
                    "tenant's data is: add a [ledger] table, or route these tenants to a backend"
                )
            if rule.route.migration is not None and name not in MOVABLE:
                problems.append(f"{where}: this version does not move {name}")
            if rule.percent is not None and KINDS[name].holds_data and ledger is None:
                problems.append(f"{where}.percent: {_UNPROVEN}")
        if settings.flags == "openfeature" and KINDS[name].holds_data and ledger is None:
            problems.append(f"{name}.flags: {_UNPROVEN}")
    if problems:
        raise ConfigInvalidError("\n".join(problems))


_UNPROVEN: Final = (
    "refused without a ledger that knows where each tenant's data is; name the tenants instead"
)


def _homes(config: Config) -> dict[str, Rules]:
    """The rules without what only requests: the operator's word for where data has always been."""

    def told(rules: Iterable[Rule]) -> list[Rule]:
        return [rule for rule in rules if rule.percent is None and rule.route.backend is not None]

    homes: dict[str, Rules] = {}
    for routed, settings in _routed(config):
        kind, _, namespace = routed.name.partition(".")
        default = settings.namespaces[namespace].default if namespace else settings.default
        rules = settings.namespaces[namespace].rules if namespace else settings.rules
        homes[routed.name] = Rules(kind, told(rules), Route.parse(default or settings.default))
    return homes


def _rules(config: Config) -> dict[str, Rules]:
    rules = {
        kind: Rules(kind, settings.rules, Route.parse(settings.default))
        for kind, settings in config.kinds.items()
    }
    for kind, settings in config.kinds.items():
        for name, namespace in settings.namespaces.items():
            if namespace.default is not None:
                flag = f"{kind}.{name}"
                rules[flag] = Rules(flag, namespace.rules, Route.parse(namespace.default))
    return rules


def _routed(config: Config) -> Iterator[tuple[Kind, KindConfig]]:
    """What has routes: each kind, and each of its namespaces that has a default of its own."""
    for name, settings in config.kinds.items():
        yield KINDS[name], settings
        for namespace, found in settings.namespaces.items():
            if found.default is not None:
                yield KINDS[name].namespace(namespace), settings


def _changed(before: Config, after: Config) -> list[str]:
    """The settings that differ and cannot be taken over, by path."""
    if before.kinds.keys() != after.kinds.keys():
        return ["the kinds that are configured"]
    changed = [
        name
        for name in ("ledger", "signing", "telemetry")
        if getattr(before, name) != getattr(after, name)
    ]
    for kind, old in before.kinds.items():
        new = after.kinds[kind]
        names = ("layout", "flags", "route_ttl", "timeout", "retry", "breaker", "tenants")
        changed += [f"{kind}.{n}" for n in names if getattr(old, n) != getattr(new, n)]
        if _fixed(old.namespaces) != _fixed(new.namespaces):
            changed.append(f"{kind}.namespaces")
        changed += [
            f"{kind}.backends.{name}"
            for name, backend in old.backends.items()
            if new.backends.get(name) != backend
        ]
        changed += [
            f"{kind}.migrations.{name}"
            for name, migration in old.migrations.items()
            if new.migrations.get(name) != migration
        ]
    return changed


def _fixed(namespaces: Mapping[str, NamespaceConfig]) -> dict[str, object]:
    """What of namespaces a reload cannot change: all but where they lead."""
    return {
        name: (found.encoding, found.ttl, found.consistency, found.default is None)
        for name, found in namespaces.items()
    }


def _ignore(event: RouteEvent) -> None:
    pass


_ASSEMBLIES: Final[weakref.WeakSet[Assembly]] = weakref.WeakSet()


def _after_fork() -> None:
    for assembly in list(_ASSEMBLIES):
        assembly.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

__all__ = ["Assembly", "Health", "OnRouteEvent", "check_startable"]
