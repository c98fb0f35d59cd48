"""A cache backend that is a migration held at one stage, for the suites that open one backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from cm_platform.cache.backend import CacheCapability
from cm_platform.config import MigrationConfig
from cm_platform.migration.cache.assembling import assemble
from cm_platform.migration.cache.backend import MigratingCache
from cm_platform.migration.ledger import Ledger, Move, State, Subject, Terms
from cm_platform.migration.ledgers.sqlite import SqliteConfig, SqliteLedger
from cm_platform.migration.ledgers.sqlite.ledger import MEMORY
from cm_platform.migration.mover import Sides
from cm_platform.migration.stages import is_flip
from cm_platform.registry import REGISTRY, Backend
from cm_platform.routing import Stage
from cm_platform.runtime import SYSTEM_CLOCK, Runtime
from cm_platform.settings import Settings
from cm_platform.testing.cache import CacheFace, CacheHarness
from cm_platform.testing.isolation.cache import IsolationHarness

ACT: Final = 60.0

FORWARD: Final = tuple(Stage)


class StagedConfig(Settings):
    """source, target: backends' tables, as in `[cache.backends.<name>]`. way: the stages, from
    `off` to where it is.

    ledger: the file that platforms share which are to be processes of one migration; without one
        each has a migration of its own.
    lease: seconds; how long a change of sides takes at least.
    """

    source: Mapping[str, Any]
    target: Mapping[str, Any]
    way: Sequence[Stage]
    ledger: Path | None = None
    lease: float = 0.05


class StagedCache:
    """A migrating cache that owns its two sides and its ledger."""

    def __init__(self, moving: MigratingCache, sides: Sides, ledger: Ledger) -> None:
        self._moving = moving
        self._sides = sides
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._moving, name)

    async def close(self) -> None:
        """Close all of it."""
        await self._moving.close()
        for side in self._sides:
            await side.close()
        await self._ledger.close()


async def go(
    ledger: Ledger, subject: Subject, terms: Terms, way: Sequence[Stage], runtime: Runtime
) -> State:
    """Start a migration and take it this way, stage by stage, `off` first.

    The ledger goes by the machine's clock, whatever the runtime's does: so does this.
    """
    clock, seconds = SYSTEM_CLOCK, terms.lease * 1.1
    state = await ledger.start(subject, terms, Move("start", Stage.OFF, "suite"))
    for number, to in enumerate(way[1:]):
        if is_flip(state.stage, to) or to is Stage.COMPLETE:
            await ledger.announce(subject, state.epoch, 600)
            await (
                clock.sleep_async(seconds)
                if runtime.is_async
                else runtime.call(clock.sleep, seconds)
            )
            await ledger.pause(subject, state.epoch, 600)
        state = await ledger.move(subject, state.epoch, Move(f"{number}-{to}", to, "suite"))
    return state


def _described(table: Mapping[str, Any]) -> tuple[Backend[Any], Any]:
    driver: Any = table["driver"]
    descriptor = REGISTRY.get("cache", driver) if isinstance(driver, str) else driver
    settings = {name: value for name, value in table.items() if name != "driver"}
    return descriptor, descriptor.config.model_validate(settings)


async def _opened(table: Mapping[str, Any], runtime: Runtime) -> Any:
    descriptor, settings = _described(table)
    return await descriptor.open(settings, runtime)


async def _open(config: StagedConfig, runtime: Runtime) -> StagedCache:
    sides = Sides(await _opened(config.source, runtime), await _opened(config.target, runtime))
    path = MEMORY if config.ledger is None else config.ledger
    ledger = SqliteLedger(SqliteConfig(path=path, fsync=False), runtime)
    await ledger.prepare()
    subject = Subject("cache", "all-of-the-suite")
    terms = Terms("to-target", "source", "target", lease=config.lease)
    migration = MigrationConfig(source="source", target="target", lease=config.lease)
    moving = assemble(sides, ledger, subject, terms, migration, runtime, act=ACT, prefix="")
    if await ledger.state(subject) is None:
        await go(ledger, subject, moving.terms, config.way, runtime)
    await moving.backend.prepare()
    return StagedCache(moving.backend, sides, ledger)


STAGED: Final = Backend(
    name="cache.staged",
    config=StagedConfig,
    open=_open,
    capabilities=frozenset(CacheCapability),
)


def staged(
    source: Mapping[str, Any],
    target: Mapping[str, Any],
    way: Sequence[Stage],
    ledger: Path | None = None,
) -> dict[str, Any]:
    """The table of a migration that has come this way, for a suite. ledger: see `StagedConfig`."""
    return {
        "driver": STAGED,
        "source": source,
        "target": target,
        "way": list(way),
        "ledger": ledger,
    }


class LocalAtAStage(CacheHarness):
    """Two caches in memory."""

    way: ClassVar[Sequence[Stage]]
    disposable = True
    shared = False
    examples = 8

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls) -> Mapping[str, Any]:
        return staged({"driver": "local"}, {"driver": "local"}, cls.way)


class IsolatedAtAStage(IsolationHarness):
    """The same for the suite of isolation."""

    way: ClassVar[Sequence[Stage]]
    layouts = ("{tenant}/{key}",)
    examples = 8

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls) -> Mapping[str, Any]:
        return staged({"driver": "local"}, {"driver": "local"}, cls.way)


def face_of(
    harness: type[CacheHarness], request: pytest.FixtureRequest, table: Mapping[str, Any]
) -> Iterator[CacheFace]:
    """What the fixture `face` of a suite is, for those who want one face only."""
    name = request.param
    with CacheFace(
        name, table, layout=harness.layout, backend_clock=harness.backend_clock()
    ) as face:
        if CacheCapability.READ_YOUR_WRITES not in face.capabilities:
            face.settle = harness.settle
        yield face


def up_to(stage: Stage) -> Sequence[Stage]:
    """The way to a stage."""
    return FORWARD[: FORWARD.index(stage) + 1]


def back_to(stage: Stage) -> Sequence[Stage]:
    """The way to `rampdown`, and back to a stage."""
    way = [*up_to(Stage.RAMPDOWN), Stage.LIVE, Stage.SHADOW, Stage.DUALWRITE, Stage.OFF]
    return way[: len(way) - 1 - way[::-1].index(stage) + 1]


__all__ = [
    "STAGED",
    "IsolatedAtAStage",
    "LocalAtAStage",
    "StagedCache",
    "StagedConfig",
    "back_to",
    "face_of",
    "go",
    "staged",
    "up_to",
]
