"""All stages and back, under traffic and faults; then every history is judged."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from cm_platform.config import Config
from cm_platform.errors import NotFoundError, PlatformError
from cm_platform.migration.control import AsyncMigration
from cm_platform.migration.ledger import State
from cm_platform.migration.progress import Progress, Report, unwatched
from cm_platform.platform import AsyncPlatform
from cm_platform.registry import REGISTRY, Registry
from cm_platform.routing import Stage
from cm_platform.storage.service import AsyncStorage
from cm_platform.tenant import Tenant
from cm_platform.testing.simulation import Fault, FaultRates, Operation, RandomFaults

from .clients import ApplicationProcess
from .faults import faulty
from .histories import Histories

RATES: Final = FaultRates.even(0.08, slow=0.05)
_TRIES: Final = 40
# Seconds that what is in doubt may hold up a change of sides, in a storm of faults.
_SHORT: Final = 15.0


@dataclass(slots=True)
class Proof:
    """What was done and what was seen.

    stages: in the order in which they were entered. operations: by kind and outcome.
    faults: that came. killed: processes. paused: seconds of the longest pause of writing.
    violations: keys whose history cannot be told as one story. divergent: keys that differed
    in the end. left: intents that could not be worked off.
    """

    seed: int
    seconds: float = 0.0
    stages: list[str] = field(default_factory=list[str])
    operations: Counter[str] = field(default_factory=Counter[str])
    keys: int = 0
    faults: Counter[Fault] = field(default_factory=Counter[Fault])
    killed: int = 0
    paused: float = 0.0
    violations: dict[str, list[Operation]] = field(default_factory=dict[str, list[Operation]])
    divergent: int = 0
    left: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, resurrected, torn apart or left over."""
        return not (self.violations or self.divergent or self.left)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            "holds": self.holds,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "stages": self.stages,
            "operations": dict(self.operations),
            "keys": self.keys,
            "faults": {str(fault): count for fault, count in self.faults.items()},
            "killed": self.killed,
            "paused": round(self.paused, 4),
            "violations": {
                key: [str(operation) for operation in history]
                for key, history in self.violations.items()
            },
            "divergent": self.divergent,
            "left": self.left,
        }


async def prove(
    config: Config,
    migration: str,
    tenant: Tenant,
    *,
    seed: int,
    seconds: float = 30.0,
    processes: int = 3,
    clients: int = 2,
    rates: FaultRates = RATES,
    registry: Registry = REGISTRY,
    report: Report = unwatched,
) -> Proof:
    """Move a scratch tenant through every stage and back, again and again.

    config: with the migration and a ledger; its storage's `timeout` is how long an intent of a
        killed process is waited for, so a short one makes it quick.
    tenant: made for this: what it has is deleted at the end.
    seconds: of traffic, at least; one walk through all stages takes as long as it takes.
    processes, clients: platforms of their own, and clients of each.
    """
    dice = random.Random(seed)  # noqa: S311 - reproducible, no secret
    once = _asking_once(config)
    faults = RandomFaults(dice, rates)
    wrapped = _registry(config, registry, faults, dice)
    histories = Histories(dice)
    proof = Proof(seed)
    began = time.monotonic()

    def process(number: int) -> ApplicationProcess:
        return ApplicationProcess(f"p{number}", once, wrapped, tenant, histories, dice, clients)

    async with AsyncPlatform(config, registry=wrapped) as operator:
        control = await operator.migration("storage", tenant, migration)
        calm = _Calm(faults)
        walk = _Walk(control, proof, report, calm)
        await walk.repeat(lambda: control.start(no_other_writers=True))
        proof.stages.append("off")
        running = [process(number) for number in range(processes)]
        killer = asyncio.create_task(_killing(running, process, processes, dice, proof, calm))
        try:
            await walk.there_and_back()
            while time.monotonic() - began < seconds:
                await walk.there_and_back()
            await walk.there()
        except DivergedError as error:
            report(Progress("ends early", waiting=str(error)))
        finally:
            killer.cancel()
            await asyncio.gather(killer, return_exceptions=True)
            await asyncio.gather(*(one.stop() for one in running))
        faults.stop()
        await _finished(operator, control, tenant, histories, walk)
    proof.faults = faults.seen
    proof.operations = histories.counts
    proof.keys = len(histories.operations)
    proof.violations = histories.judge()
    proof.seconds = time.monotonic() - began
    return proof


class DivergedError(Exception):
    """The verdict is known before the walk is over."""


class _Calm:
    """Moments without faults that leave doubt, and without deaths.

    Where a request may land a minute later, what is in doubt holds up a change of sides for that
    minute; under a storm of such faults it would never come.
    """

    def __init__(self, faults: RandomFaults) -> None:
        self._faults = faults
        self.may_kill = asyncio.Event()
        self.may_kill.set()

    @contextmanager
    def kept(self) -> Generator[None, None, None]:
        """For the block."""
        self._faults.doubt = False
        self.may_kill.clear()
        try:
            yield
        finally:
            self._faults.doubt = True
            self.may_kill.set()


class _Walk:
    """The operator, who is met by the same faults as everybody and tries again."""

    def __init__(self, control: AsyncMigration, proof: Proof, report: Report, calm: _Calm) -> None:
        self.control = control
        self.proof = proof
        self.report = report
        self.calm = calm

    async def there(self) -> None:
        """From off, or where it is, to rampdown."""
        control = self.control
        await self._to(Stage.DUALWRITE)
        await self.repeat(lambda: control.backfill(report=self.report))
        await self._to(Stage.SHADOW)
        await self.verified()
        await self._to(Stage.LIVE)
        await self._to(Stage.RAMPDOWN)

    async def there_and_back(self) -> None:
        """To rampdown and all the way back to off, through every stage."""
        await self.there()
        for stage in (Stage.LIVE, Stage.SHADOW, Stage.DUALWRITE, Stage.OFF):
            await self.repeat(partial(self._back, stage))

    async def verified(self) -> None:
        """Until a verification is clean: under traffic and faults some cannot read everything."""
        for _ in range(_TRIES):
            found = await self.repeat(lambda: self.control.verify(report=self.report))
            if found["clean"]:
                return
            if found["divergent"]:
                self.proof.divergent += found["divergent"]
                raise DivergedError("the two sides differ")
            await self.repeat(self.control.repair)
        self.proof.divergent += 1
        raise DivergedError("no verification could read everything")

    async def repeat(self, act: Callable[[], Any]) -> Any:
        """The act, until no fault comes in between."""
        for _ in range(_TRIES):
            try:
                return await act()
            except PlatformError as error:
                if not (error.retryable or isinstance(error, ConnectionError | TimeoutError)):
                    raise
                self.report(Progress("again", waiting=f"{error.code}: {error.message}"))
                await asyncio.sleep(0.1)
        return await act()

    async def _to(self, stage: Stage) -> None:
        async def step() -> None:
            state = await self.control.state()
            if state.stage is stage:
                return
            with self._weather(state, stage):
                stepped = await self.control.advance(stage, report=self.report)
            self.proof.paused = max(self.proof.paused, stepped.paused)

        await self.repeat(step)
        self.proof.stages.append(str(stage))
        self.report(Progress(str(stage)))

    async def _back(self, stage: Stage) -> None:
        state = await self.control.state()
        if state.stage is not stage:
            with self._weather(state, stage):
                stepped = await self.control.rollback(stage, report=self.report)
            self.proof.paused = max(self.proof.paused, stepped.paused)
        self.proof.stages.append(str(stage))
        self.report(Progress(str(stage)))

    @contextmanager
    def _weather(self, state: State, to: Stage) -> Generator[None, None, None]:
        """Calm for a change of sides that would have to wait for long."""
        longest = state.terms.longest
        if longest <= _SHORT or {state.stage, to} != {Stage.SHADOW, Stage.LIVE}:
            yield
            return
        self.report(
            Progress(str(to), waiting=f"no faults that leave doubt, for up to {longest:.0f} s")
        )
        with self.calm.kept():
            yield


async def _killing(
    running: list[ApplicationProcess],
    process: Callable[[int], ApplicationProcess],
    made: int,
    dice: random.Random,
    proof: Proof,
    calm: _Calm,
) -> None:
    """Every now and then a process dies, and another takes its place."""
    while True:
        await asyncio.sleep(1 + dice.random() * 2)
        await calm.may_kill.wait()
        index = dice.randrange(len(running))
        victim = running[index]
        running[index] = process(made)
        made += 1
        await victim.kill()
        proof.killed += 1


async def _finished(
    operator: AsyncPlatform,
    control: AsyncMigration,
    tenant: Tenant,
    histories: Histories,
    walk: _Walk,
) -> None:
    """No traffic and no faults any more: work off what is left, compare, look at every key."""
    proof = walk.proof
    state = await control.state()
    end = time.monotonic() + state.terms.longest * 2 + 10
    while True:
        await control.repair()
        proof.left = (await control.evidence()).pending.count
        if not proof.left or time.monotonic() > end:
            break
        walk.report(Progress("finish", waiting=f"{proof.left} intents of the dead are not due"))
        await asyncio.sleep(0.2)
    found = await control.verify(report=walk.report)
    proof.divergent += found["divergent"] + found["unread"] + found["busy"]
    storage = operator.get_service("storage", tenant)
    for key in histories.operations:
        await histories.record("the end", key, "read", partial(_content, storage, key))
    await storage.delete_many([listed.key async for listed in storage.list()])


async def _content(storage: AsyncStorage, key: str) -> bytes | None:
    try:
        return await (await storage.get(key)).read()
    except NotFoundError:
        return None


def _asking_once(config: Config) -> Config:
    """Without the executor's retries. An unconditional write that was answered by an error may be
    sent again by them, over what others wrote meanwhile (docs/errors.md): true of every store, and
    no story that this proof could tell from one that a migration has torn apart."""
    storage = config.kinds["storage"]
    retry = storage.retry.model_copy(update={"attempts": 1})
    kinds = {**config.kinds, "storage": storage.model_copy(update={"retry": retry})}
    return config.model_copy(update={"kinds": kinds})


def _registry(
    config: Config, registry: Registry, faults: RandomFaults, dice: random.Random
) -> Registry:
    wrapped = Registry()
    backends: Mapping[str, Any] = config.kinds["storage"].backends
    for driver in {found.driver for found in backends.values()}:
        wrapped.register(faulty(registry.get("storage", driver), faults, dice))
    return wrapped


__all__ = ["RATES", "Proof", "prove"]
