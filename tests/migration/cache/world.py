"""A world in which a cache moves: one thread, a clock that is driven, stores that can be stepped
between, and processes that know of the stage what the ledger last told each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cm_platform.cache.backend import CacheCapability
from cm_platform.cache.keys import DEFAULT_NAMESPACE
from cm_platform.cache.local.cache import LocalCache, LocalConfig
from cm_platform.cache.service import AsyncCache
from cm_platform.cache.space import Space
from cm_platform.cache.sync import Cache
from cm_platform.config import MigrationConfig, NamespaceConfig
from cm_platform.executor import Endpoint, Executor
from cm_platform.migration.cache.assembling import assemble
from cm_platform.migration.control import AsyncMigration
from cm_platform.migration.ledger import Subject, Terms
from cm_platform.migration.ledgers.sqlite import SqliteConfig, SqliteLedger
from cm_platform.migration.ledgers.sqlite.ledger import MEMORY
from cm_platform.migration.mover import Sides
from cm_platform.resilience import CircuitBreaker, RetryPolicy
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.tenant import Layout, Scope, Tenant
from migration.doubles import CalmRuntime, DrivenClock, Watched

TENANT: Final = Tenant("acme")
SUBJECT: Final = Subject("cache", TENANT.id)
PREFIX: Final = "acme/"
LEASE: Final = 5.0
ACT: Final = 10.0
BOUND: Final = 120.0
SOAK: Final = 3600.0
LATE: Final = frozenset(CacheCapability)
"""What a store lacks that shows its writes late, as Workers KV does."""


class Store(Watched):
    """A cache in memory between whose calls a test may step."""

    def __init__(self, clock: DrivenClock, lacks: frozenset[CacheCapability]) -> None:
        runtime = CalmRuntime(clock)
        super().__init__(LocalCache(LocalConfig(lacks=lacks), runtime))
        # A store that cannot establish a lost generation does not lose any.
        self.evicts = CacheCapability.CONDITIONAL_SET not in lacks

    def raw(self, key: str) -> bytes | None:
        """What is there, past all who watch."""
        (found,) = drive(self.inner.get_many(PREFIX, [key]))
        value: bytes | None = found
        return value

    def plant(self, key: str, value: bytes, ttl: float | None = None) -> None:
        """Put it there, past all who watch."""
        drive(self.inner.set(PREFIX, key, value, ttl=ttl))

    def lose(self, key: str) -> None:
        """Drop it, as a store that is full does."""
        drive(self.inner.delete_many(PREFIX, [key]))


class World:
    """Two stores, a ledger and their clock."""

    def __init__(
        self,
        *,
        source_lacks: frozenset[CacheCapability] = frozenset(),
        target_lacks: frozenset[CacheCapability] = frozenset(),
        namespaces: Mapping[str, NamespaceConfig] | None = None,
        **config: Any,
    ) -> None:
        self.clock = DrivenClock()
        self.source = Store(self.clock, source_lacks)
        self.target = Store(self.clock, target_lacks)
        self.ledger: Any = Watched(SqliteLedger(SqliteConfig(path=MEMORY), CalmRuntime(self.clock)))
        drive(self.ledger.inner.prepare())
        self.namespaces = {DEFAULT_NAMESPACE: NamespaceConfig()} | dict(namespaces or {})
        self.config: dict[str, Any] = {"lease": LEASE, "soak": SOAK, "staleness": BOUND} | config
        self._processes: list[Process] = []

    def process(self) -> Process:
        """Another one."""
        made = Process(self)
        self._processes.append(made)
        return made

    def close(self) -> None:
        """Let go."""
        for process in self._processes:
            process.runtime.drop()
        drive(self.ledger.inner.close())


class Process:
    """Its cache, and its hand on the migration."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runtime = CalmRuntime(world.clock)
        config = MigrationConfig(source="old", target="new", **world.config)
        terms = Terms("to-new", "old", "new", lease=config.lease, soak=config.soak)
        moving = assemble(
            Sides(world.source, world.target),
            world.ledger,
            SUBJECT,
            terms,
            config,
            self.runtime,
            act=ACT,
            prefix=PREFIX,
            namespaces=world.namespaces,
        )
        self.moving = moving
        self.backend = moving.backend
        self.mover: Any = moving.mover
        self.cache = cache_over(self.backend, self.runtime)
        self.migration = AsyncMigration(
            world.ledger, SUBJECT, moving.terms, moving.mover, self.runtime, who="tester"
        )

    def to(self, stage: Stage) -> Process:
        """Start, if need be, and go there as it should be gone."""
        order = list(Stage)
        state = drive(self.world.ledger.inner.state(SUBJECT))
        if state is None:
            drive(self.migration.start(accept_losses=True, no_other_writers=True))
        while (now := drive(self.migration.state()).stage) is not stage:
            ahead = order.index(stage) > order.index(now)
            if ahead and now in (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN):
                if now in (Stage.DUALWRITE, Stage.SHADOW):
                    drive(self.migration.backfill())
                drive(self.migration.verify())
            if ahead and now is Stage.RAMPDOWN:
                self.world.clock.advance(SOAK)
            step = order[order.index(now) + (1 if ahead else -1)]
            drive(self.migration.advance(step))
        self.learn()
        return self

    def learn(self) -> Process:
        """Hear of the stage."""
        self.world.clock.advance(LEASE)
        drive(self.backend.prepare())
        return self

    def background(self) -> int:
        """Do what waits in the background."""
        return self.runtime.background()

    def space(self, name: str) -> Cache:
        """Another namespace."""
        return self.cache.namespace(name)


def cache_over(backend: Any, runtime: CalmRuntime, attempts: int = 1) -> Cache:
    """The service over one backend."""
    endpoint = Endpoint(
        "moving",
        backend,
        runtime,
        policy=RetryPolicy(attempts=attempts),
        timeout=ACT,
        breaker=CircuitBreaker(runtime.clock, failures=10_000, open_for=0.1),
    )
    scope = Scope(TENANT, Layout())
    known: dict[Any, Any] = {}

    def space(name: str) -> Space:
        return Space(scope, name, 300.0, "entry", Executor("cache", _Fixed(endpoint)), known)

    return Cache(AsyncCache(space(DEFAULT_NAMESPACE), space))


class _Fixed:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def current(self) -> Endpoint | None:
        return self._endpoint

    async def refresh(self) -> Endpoint:
        return self._endpoint


def once(step: Callable[[], object]) -> Callable[[], object]:
    """A step that does nothing when it is taken again, by itself for example."""
    done: list[bool] = []

    def taken() -> object:
        if done:
            return None
        done.append(True)
        return step()

    return taken
