"""Two directories, a ledger and a clock that leaps: a migration's days take no time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cm_platform import Platform, Tenant
from cm_platform.cli.invocation import Invocation
from cm_platform.config import load
from cm_platform.migration import points
from cm_platform.migration.points import Point
from cm_platform.storage.sync import Storage
from cm_platform.testing.clocks import LeapingClock

from .conftest import Done

DAY = 86_400.0

CONFIG = """
[storage]
default = "old"
[storage.backends.old]
driver = "local"
path = "old"
[storage.backends.new]
driver = "local"
path = "new"
[storage.migrations.to-new]
source = "old"
target = "new"
lease = 0.05
upload_ttl = 1
shadow_sample = 1.0
shadow_per_second = 10000
[ledger]
driver = "sqlite"
path = "ledger.db"
fsync = false
"""


class Scene:
    """A tenant whose files lie in `old` and are to come to `new`.

    home: where the configuration lies. run: runs a command.
    """

    def __init__(
        self, home: Path, run: Callable[..., Done], patch: pytest.MonkeyPatch, *, config: str
    ) -> None:
        self.home = home
        self.clock = LeapingClock(lambda seconds: None, calendar=True)
        self._run = run
        (home / "cm_platform.toml").write_text(config, encoding="utf-8")
        patch.setattr("cm_platform.cli.app.Invocation", partial(Invocation, clock=self.clock))

    def migrate(self, command: str, *options: str) -> Done:
        """Run `migrate`, for the tenant."""
        return self._run("migrate", command, "--tenant", "acme", *options)

    def document(self, command: str, *options: str, code: int = 0) -> Any:
        """What it says with --json, and that it ends with that code."""
        done = self.migrate(command, *options, "--json")
        assert done.code == code, done
        return done.document

    def reach(self, stage: str) -> None:
        """From the beginning to a stage, with all that is asked for."""
        steps: dict[str, list[tuple[str, ...]]] = {
            "off": [("start", "--no-other-writers")],
            "dualwrite": [("advance",)],
            "shadow": [("backfill",), ("verify",), ("advance",)],
            "live": [("advance",)],
            "rampdown": [("advance",)],
            "complete": [("verify",), ("complete",)],
        }
        for to, commands in steps.items():
            if to == "complete":
                self.clock.sleep(DAY)
            for command in commands:
                done = self.migrate(*command)
                assert done.code == 0, (to, command, done)
            if to == stage:
                return

    def stage(self) -> str:
        """Where the ledger says that it is."""
        found: str = self.document("status")["stage"]
        return found

    @contextmanager
    def storage(self) -> Iterator[Storage]:
        """The tenant's files, as an application sees them."""
        with Platform(load(self.home / "cm_platform.toml"), clock=self.clock) as platform:
            yield platform.get_service("storage", Tenant("acme"))

    def put(self, *keys: str) -> None:
        """Write a few files, each with its key in it."""
        with self.storage() as storage:
            for key in keys:
                storage.put(key, key.encode())

    def damage(self, backend: str, key: str) -> None:
        """Make what describes an object unreadable."""
        sidecar = self.home / backend / "objects" / "acme" / f"{key}~object.json"
        assert sidecar.exists()
        sidecar.write_text("{", encoding="utf-8")


@contextmanager
def at_points(told: Callable[[Point], None]) -> Iterator[None]:
    """Tell where the protocol is; what `told` raises happens there."""

    async def hook(point: Point) -> None:
        told(point)

    points.hook = hook
    try:
        yield
    finally:
        points.hook = None


@pytest.fixture
def scene(tmp_path: Path, run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The scene of a test."""
    return Scene(tmp_path, run, monkeypatch, config=CONFIG)


__all__ = ["CONFIG", "DAY", "Scene", "at_points", "scene"]
