"""A migration of a cache on virtual time: processes that use it, an operator who moves it, and
faults; all of it the real code, but for the stores' servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from cm_platform.cache.keys import DEFAULT_NAMESPACE
from cm_platform.cache.service import AsyncCache
from cm_platform.cache.space import Space
from cm_platform.config import MigrationConfig
from cm_platform.errors import PlatformError
from cm_platform.executor import Endpoint, Executor
from cm_platform.migration.cache.assembling import assemble
from cm_platform.migration.control import AsyncMigration
from cm_platform.migration.ledger import Side, Subject, Terms, authority
from cm_platform.migration.mover import Sides
from cm_platform.resilience import CircuitBreaker, RetryPolicy
from cm_platform.routing import Stage
from cm_platform.tenant import Layout, Scope, Tenant
from cm_platform.testing.simulation import (
    NO_FAULTS,
    FaultRates,
    FaultyLedger,
    RandomFaults,
    SimulatedRuntime,
    Simulation,
    Task,
)
from cm_platform.testing.simulation.migrating.world import LedgerServer

from .oracles import Act, History
from .simulated import Server, SimulatedCache

TENANT: Final = Tenant("acme")
SUBJECT: Final = Subject("cache", TENANT.id)
KEYS: Final = ("a", "b")
UNWRITTEN: Final = "c"
TAG: Final = "red"
COUNTERS: Final = ("n", "m")

LEASE: Final = 0.5
ACT: Final = 2.0
LIFETIME: Final = 1.0
BOUND: Final = 3.0
LATE: Final = 2.0
SKEW: Final = 0.2
SOAK: Final = 3600.0
EVER: Final = float("inf")

THERE: Final = tuple(Stage)[1:]
AND_BACK: Final = (*THERE[:4], Stage.LIVE, Stage.SHADOW, Stage.DUALWRITE, Stage.OFF)
AND_ANEW: Final = (*THERE[:3], Stage.SHADOW, Stage.DUALWRITE, Stage.OFF, *THERE)
AND_AGAIN: Final = (*THERE[:3], Stage.SHADOW, *THERE[2:])


@dataclass(frozen=True, slots=True)
class Scenario:
    """source_late, target_late: seconds. way: stages, after `off`. counting: whether there are
    counters. clients: tasks in each of two processes.
    lease: seconds.
    hurry: how often the operator does not rest between two stages, 0 to 1.
    """

    seed: int
    way: Sequence[Stage] = THERE
    source_late: float = 0.0
    target_late: float = 0.0
    faults: float = 0.03
    crash: float = 0.0
    slow: float = 0.1
    counting: bool = True
    clients: int = 2
    hurry: float = 0.3
    lease: float = LEASE
    traced: bool = False


class _Fixed:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def current(self) -> Endpoint | None:
        return self._endpoint

    async def refresh(self) -> Endpoint:
        return self._endpoint


class Member:
    """One process: its cache, and its hand on the migration."""

    def __init__(self, world: World, name: str, *, calm: bool) -> None:
        simulation, scenario = world.simulation, world.scenario
        skew = 0.0 if calm else simulation.random.uniform(-SKEW / 2, SKEW / 2)
        self.process = simulation.process(
            name, wall=skew, monotonic=simulation.random.uniform(0, 1000)
        )
        self.runtime = SimulatedRuntime(self.process)
        stores = NO_FAULTS if calm else world.store_faults
        ledger = FaultyLedger(
            world.ledger,
            self.process,
            NO_FAULTS if calm else world.ledger_faults,
            lifetime=LEASE / 2,
            longest_way=LEASE / 4,
        )
        sides = Sides(
            *(
                SimulatedCache(server, self.process, stores, late=late, lifetime=LIFETIME)
                for server, late in (
                    (world.source, scenario.source_late),
                    (world.target, scenario.target_late),
                )
            )
        )
        config = MigrationConfig(
            source="old",
            target="new",
            lease=scenario.lease,
            soak=SOAK,
            staleness=BOUND,
            shadow_sample=0.5,
        )
        terms = Terms("to-new", "old", "new", lease=scenario.lease, soak=SOAK)
        moving = assemble(
            sides, ledger, SUBJECT, terms, config, self.runtime, act=ACT, prefix="acme/"
        )
        self.moving = moving
        self.cache = cache_over(moving.backend, self.runtime)
        self.straight = cache_over(sides.target, self.runtime)
        self.migration = AsyncMigration(
            ledger, SUBJECT, moving.terms, moving.mover, self.runtime, who="operator"
        )


def cache_over(backend: Any, runtime: SimulatedRuntime) -> AsyncCache:
    """The service over one backend. It tries once: what is repeated may be late."""
    endpoint = Endpoint(
        "moving",
        backend,
        runtime,
        policy=RetryPolicy(attempts=1),
        timeout=ACT,
        breaker=CircuitBreaker(runtime.clock, failures=10_000, open_for=0.1),
    )
    scope = Scope(TENANT, Layout())
    known: dict[Any, Any] = {}

    def space(name: str) -> Space:
        return Space(scope, name, 300.0, "entry", Executor("cache", _Fixed(endpoint)), known)

    return AsyncCache(space(DEFAULT_NAMESPACE), space)


class World:
    """What all processes share."""

    def __init__(self, simulation: Simulation, scenario: Scenario, server: LedgerServer) -> None:
        self.simulation = simulation
        self.scenario = scenario
        self.ledger = server.begin(simulation)
        self.source = Server(simulation, "old", evicts=not scenario.source_late)
        self.target = Server(simulation, "new", evicts=not scenario.target_late)
        rates = FaultRates.even(scenario.faults, crash=scenario.crash, slow=scenario.slow)
        self.store_faults = RandomFaults(simulation.random, rates)
        self.ledger_faults = RandomFaults(simulation.random, rates)
        self.history = History()
        self.over = False
        self._written = 0

    # What clients do -----------------------------------------------------------------------

    async def client(self, member: Member) -> None:
        """Reads, writes, deletes, clears and counts until the operator is done."""
        dice, cache = self.simulation.random, member.cache
        name = member.process.name
        while not self.over:
            await self.simulation.sleep(dice.random() * 0.3)
            rolled = dice.random()
            key = dice.choice(KEYS)
            if self.scenario.counting and rolled < 0.2:
                await self.count(member, dice.choice(COUNTERS))
            elif rolled < 0.65:
                key = dice.choice((*KEYS, UNWRITTEN))
                act = self.history.begin("read", key, self.simulation.now, name)
                await self._done(act, cache.get(key))
            elif rolled < 0.9:
                self._written += 1
                ttl = dice.choice([1.0, 5.0, 100.0, None])
                tag = TAG if not self.scenario.counting and dice.random() < 0.4 else ""
                act = self.history.begin(
                    "set", key, self.simulation.now, name, value=self._written, ttl=ttl, tag=tag
                )
                tags = (tag,) if tag else ()
                call = cache.set(key, str(self._written), ttl=ttl, tags=tags)
                await self._done(act, call, keep=True)
            elif rolled < 0.97:
                act = self.history.begin("delete", key, self.simulation.now, name)
                await self._done(act, cache.delete(key), keep=True)
            elif self.scenario.counting:
                continue
            elif rolled < 0.99:
                act = self.history.begin("invalidate", "", self.simulation.now, name, tag=TAG)
                await self._done(act, cache.invalidate_tag(TAG), keep=True)
            else:
                act = self.history.begin("clear", "", self.simulation.now, name)
                await self._done(act, cache.clear(), keep=True)

    async def count(self, member: Member, key: str) -> None:
        """One more."""
        name = member.process.name
        if self.simulation.random.random() < 0.3:
            act = self.history.begin("read", key, self.simulation.now, name)
            await self._done(act, member.cache.get(key))
            return
        act = self.history.begin("increment", key, self.simulation.now, name)
        await self._done(act, member.cache.increment(key, ttl=SOAK))

    async def _done(self, act: Act, call: Any, *, keep: bool = False) -> None:
        try:
            value = await call
        except PlatformError as error:
            self.simulation.note(f"{act}: {error!r}")
            if act.what == "read":
                self.history.acts.remove(act)
            return
        if not keep:
            act.value = int(value) if isinstance(value, str) else value
        act.end = self.simulation.now
        self.simulation.note(f"{act}")

    # What the operator does ----------------------------------------------------------------

    async def operate(self, member: Member) -> None:
        """Walks the way; nothing befalls whoever does."""
        migration, sleep = member.migration, self.simulation.sleep
        # What somebody left there long ago.
        for key in (*KEYS, UNWRITTEN):
            await member.straight.set(key, "0", ttl=None)
        if not self.scenario.source_late:
            self.history.prompt.append((0.0, EVER))
        await sleep(1)
        await migration.start(accept_losses=True, no_other_writers=True)
        for to in self.scenario.way:
            # Some are in a hurry, and back they go in one breath.
            if self.simulation.random.random() >= self.scenario.hurry:
                await sleep(1 + self.simulation.random.random())
            stage = (await migration.state()).stage
            if stage in (Stage.DUALWRITE, Stage.SHADOW) and to in (Stage.SHADOW, Stage.LIVE):
                with suppress(PlatformError):
                    await migration.backfill()
                await migration.verify()
            if to is Stage.COMPLETE and self.scenario.counting:
                # The soak time is not waited for, at the end of which they would have ended, too.
                for key in COUNTERS:
                    await self.count_surely(member, key)
            self.changes(authority(stage), None)
            await migration.advance(to, override="simulated")
            self.changes(authority(stage), authority(to))
        await sleep(2)
        self.over = True

    def changes(self, before: Side, after: Side | None) -> None:
        """Note from when to when the side that is right shows its writes at once. after: None
        while it is about to change."""
        prompt, now = self.history.prompt, self.simulation.now
        late = {"source": self.scenario.source_late, "target": self.scenario.target_late}
        if after is None:
            if prompt and prompt[-1][1] == EVER:
                prompt[-1] = (prompt[-1][0], now)
        elif not late[after]:
            # Until everybody has heard of it.
            again = before == after and prompt
            prompt.append((prompt.pop()[0] if again else now + self.scenario.lease, EVER))

    async def count_surely(self, member: Member, key: str) -> None:
        """As `count`, by whom nothing befalls."""
        act = self.history.begin("increment", key, self.simulation.now, "operator")
        await self._done(act, member.cache.increment(key, ttl=SOAK))


def simulate(
    scenario: Scenario,
    server: LedgerServer,
    watched: Callable[[World], None] | None = None,
) -> World:
    """Run a scenario to its end."""
    with Simulation(
        scenario.seed, stall=0.02, longest_stall=LEASE / 2, traced=scenario.traced
    ) as simulation:
        world = World(simulation, scenario, server)
        if watched is not None:
            watched(world)
        tasks: list[Task[None]] = []
        for name in ("app-1", "app-2"):
            member = Member(world, name, calm=False)
            tasks += [
                member.process.spawn(world.client(member), f"client-{number}")
                for number in range(scenario.clients)
            ]
        operator = Member(world, "operator", calm=True)
        tasks.append(operator.process.spawn(world.operate(operator), "operate"))
        simulation.run(until=tasks, max_steps=3_000_000)
        return world


def problems(world: World) -> list[str]:
    """What its users cannot have seen."""
    scenario = world.scenario
    late = scenario.source_late or scenario.target_late
    return world.history.problems(bound=BOUND if late else 0.0, skew=SKEW)
