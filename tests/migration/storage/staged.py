"""A storage backend that is a migration held at one stage, for the suites that open one backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from cm_platform.config import MigrationConfig
from cm_platform.migration.ledger import Ledger, Move, Side, Subject, Terms, authority
from cm_platform.migration.ledgers.sqlite import SqliteConfig, SqliteLedger
from cm_platform.migration.ledgers.sqlite.ledger import MEMORY
from cm_platform.migration.mover import Sides
from cm_platform.migration.stages import is_flip
from cm_platform.migration.storage.assembling import assemble
from cm_platform.registry import REGISTRY, Backend
from cm_platform.routing import Stage
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings
from cm_platform.storage.backend import (
    REVISION,
    Attributes,
    StorageBackend,
    StorageCapability,
    Written,
)
from cm_platform.testing.storage import StorageFace, StorageHarness

ACT: Final = 60.0
LEASE: Final = 5.0


class StagedConfig(Settings):
    """source, target: backends' tables, as in `[storage.backends.<name>]`. stage: where it is.

    lease: seconds; how long a move to the target takes at least.
    """

    source: Mapping[str, Any]
    target: Mapping[str, Any]
    stage: Stage
    lease: float = 0.05

    @property
    def lacks(self) -> frozenset[StorageCapability]:
        """What one of both cannot do."""
        able = frozenset(StorageCapability)
        for table in (self.source, self.target):
            descriptor, settings = _described(table)
            able &= {StorageCapability(name) for name in descriptor.promises(settings)}
        return frozenset(StorageCapability) - able


class StagedStorage:
    """A migrating storage that owns its two sides and its ledger."""

    def __init__(
        self, moving: StorageBackend, sides: Sides, ledger: Ledger, authority: Side
    ) -> None:
        self._moving = moving
        self._right: StorageBackend = sides.source if authority == "source" else sides.target
        self._sides = sides
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._moving, name)

    async def put(
        self, key: str, data: bytes | memoryview, attributes: Attributes, **conditions: Any
    ) -> Written:
        """See `StorageBackend.put`. What others write, who give no revision, does not come this
        way: they write to the store itself."""
        way = self._moving if REVISION in attributes.metadata else self._right
        return await way.put(key, data, attributes, **conditions)

    async def close(self) -> None:
        """Close all of it."""
        await self._moving.close()
        for side in self._sides:
            await side.close()
        await self._ledger.close()


async def reach_stage(
    ledger: Ledger, subject: Subject, terms: Terms, stage: Stage, runtime: Runtime
) -> None:
    """Start a migration and take it there, stage by stage; the data is the caller's affair."""
    state = await ledger.start(subject, terms, Move("start", Stage.OFF, "suite"))
    for to in list(Stage)[1 : list(Stage).index(stage) + 1]:
        if is_flip(state.stage, to):
            await ledger.announce(subject, state.epoch, 60)
            await runtime.sleep(terms.lease * 1.1)
            await ledger.pause(subject, state.epoch, 60)
        state = await ledger.move(subject, state.epoch, Move(f"to-{to}", to, "suite"))


def _described(table: Mapping[str, Any]) -> tuple[Backend[Any], Any]:
    descriptor = REGISTRY.get("storage", table["driver"])
    settings = {name: value for name, value in table.items() if name != "driver"}
    return descriptor, descriptor.config.model_validate(settings)


async def _opened(table: Mapping[str, Any], runtime: Runtime) -> Any:
    descriptor, settings = _described(table)
    return await descriptor.open(settings, runtime)


async def _open(config: StagedConfig, runtime: Runtime) -> StagedStorage:
    sides = Sides(await _opened(config.source, runtime), await _opened(config.target, runtime))
    ledger = SqliteLedger(SqliteConfig(path=MEMORY), runtime)
    await ledger.prepare()
    subject = Subject("storage", "all-of-the-suite")
    terms = Terms("to-target", "source", "target", lease=config.lease)
    # As long as the service signs a URL by default: what is declared to be shorter is refused.
    migration = MigrationConfig(
        source="source", target="target", lease=config.lease, upload_ttl=3600
    )
    moving = assemble(sides, ledger, subject, terms, migration, runtime, act=ACT, prefix="")
    await reach_stage(ledger, subject, moving.terms, config.stage, runtime)
    return StagedStorage(moving.backend, sides, ledger, authority(config.stage))


STAGED: Final = Backend(
    name="storage.staged",
    config=StagedConfig,
    open=_open,
    capabilities=frozenset(StorageCapability),
)


def over(name: str) -> Any:
    """For a suite's class: its fixture `face`, over one face only."""

    @pytest.fixture(scope="class", params=[name])  # type: ignore[misc]
    @classmethod
    def face(
        cls: type[StorageHarness],
        request: pytest.FixtureRequest,
        storage_backend: Mapping[str, Any],
    ) -> Iterator[StorageFace]:
        with StorageFace(request.param, storage_backend, layout=cls.layout) as found:
            yield found

    return face


def staged(source: Mapping[str, Any], target: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """The table of a migration at a stage, for a suite."""
    return {"driver": STAGED, "source": source, "target": target, "stage": stage}
