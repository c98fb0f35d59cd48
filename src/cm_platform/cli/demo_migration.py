"""The demo's acts with a migration: a tenant's files change stores while clients work on them."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from cm_platform.config import Config
from cm_platform.errors import IntegrityError, NotFoundError
from cm_platform.migration.progress import Report
from cm_platform.migration.sync import Migration
from cm_platform.platform import Platform
from cm_platform.routing import Stage
from cm_platform.storage.sync import Storage

from .demo_acts import MAGAZINE, Original, Step
from .demo_traffic import Traffic

MIGRATION = "to-store-b"
"""As the demo's configuration calls it."""


@dataclass(slots=True)
class StageRow:
    """One stage that the tenant was in.

    authority: the side that was right. did: what was done there. writes, reads: of its clients
    meanwhile. paused: milliseconds that writing waited when it was entered.
    """

    stage: str
    authority: str
    did: str
    writes: int = 0
    reads: int = 0
    paused: float = 0.0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**asdict(self), "seconds": round(self.seconds, 6), "paused": round(self.paused, 3)}


@dataclass(frozen=True, slots=True)
class Migrated:
    """What came of it."""

    steps: list[Step]
    stages: list[StageRow]


def migrate(config: Config, originals: Sequence[Original], report: Report) -> Migrated:
    """Move the magazine from store-a to store-b, live. Raises `integrity` where something is not
    as it must be.

    report: told how far it has come.
    """
    step = Step("magazine: moves while it works")
    began = time.monotonic()
    with Platform.from_config(config) as platform:
        storage = platform.get_service("storage", MAGAZINE)
        with Traffic(storage) as traffic:
            acts = _Acts(platform.migration("storage", MAGAZINE), traffic, report)
            acts.walk()
        drafts = traffic.check(storage)
        for found in originals:
            if _digest(storage, found.key) != found.sha256:
                raise IntegrityError(f"{found.key} is not the file that was uploaded")
        # Out of the way of the acts that follow, which compare with the files alone.
        storage.delete_many(list(traffic.drafts()))
    writes = sum(row.writes for row in acts.rows)
    step.objects = len(originals) + drafts
    step.size = sum(found.size for found in originals)
    step.verified = len(originals)
    step.seconds = time.monotonic() - began
    step.where = "store-a to store-b"
    step.detail = (
        f"{writes} writes and as many reads by {len(originals)} files' neighbours meanwhile; "
        "nothing lost, nothing back from the dead, once there and back and there again"
    )
    return Migrated([step], acts.rows)


def _digest(storage: Storage, key: str) -> str | None:
    try:
        return storage.verify(key).sha256
    except NotFoundError:
        return None


class _Acts:
    def __init__(self, control: Migration, traffic: Traffic, report: Report) -> None:
        self.rows: list[StageRow] = []
        self._control = control
        self._traffic = traffic
        self._report = report
        self._paused = 0.0

    def walk(self) -> None:
        """Every stage, with a rollback on the way."""
        control = self._control
        with self._in(Stage.OFF, "a plan, and a declaration that nobody else writes"):
            control.start(no_other_writers=True, report=self._report)
        self._advance(Stage.DUALWRITE)
        with self._in(Stage.DUALWRITE, "") as row:
            filled = control.backfill(report=self._report)
            row.did = f"backfill: {filled['objects']} objects looked at"
        self._advance(Stage.SHADOW)
        with self._in(Stage.SHADOW, "") as row:
            row.did = self._verified()
        self._advance(Stage.LIVE)
        with self._in(Stage.LIVE, "nothing: to see whether it goes back"):
            time.sleep(0.2)
        self._paused = control.rollback(report=self._report).paused
        with self._in(Stage.SHADOW, "rolled back: the old store had everything"):
            time.sleep(0.2)
        self._advance(Stage.LIVE)
        with self._in(Stage.LIVE, "again"):
            time.sleep(0.1)
        self._advance(Stage.RAMPDOWN)
        with self._in(Stage.RAMPDOWN, "") as row:
            row.did = self._verified()
        self._advance(Stage.COMPLETE)
        with self._in(Stage.COMPLETE, "the old store is not written any more"):
            time.sleep(0.1)

    def _verified(self) -> str:
        found = self._control.verify(report=self._report)
        if not found["clean"]:
            raise IntegrityError("the two stores differ")
        return f"verified: {found['objects']} objects, byte by byte"

    def _advance(self, to: Stage) -> None:
        self._paused = self._control.advance(to, report=self._report).paused

    @contextmanager
    def _in(self, stage: Stage, did: str) -> Generator[StageRow]:
        before = self._traffic.writes, self._traffic.reads
        began = time.monotonic()
        row = StageRow(str(stage), "", did, paused=self._paused * 1000)
        self._paused = 0.0
        yield row
        row.authority = self._control.state().authority
        row.writes = self._traffic.writes - before[0]
        row.reads = self._traffic.reads - before[1]
        row.seconds = time.monotonic() - began
        self.rows.append(row)


__all__ = ["MIGRATION", "Migrated", "StageRow", "migrate"]
