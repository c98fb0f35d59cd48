"""`cm-platform migrate --service cache`: all stages and back, as people and programs see them."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cm_platform import Platform, Tenant
from cm_platform.cache.sync import Cache
from cm_platform.cli.app import app
from cm_platform.cli.invocation import Invocation
from cm_platform.config import load
from cm_platform.testing.clocks import LeapingClock

DAY = 86_400.0

CONFIG = """
[cache]
default = "old"
[cache.backends.old]
driver = "local"
path = "old.db"
[cache.backends.new]
driver = "local"
path = "new.db"
[cache.migrations.to-new]
source = "old"
target = "new"
lease = 0.05
[ledger]
driver = "sqlite"
path = "ledger.db"
fsync = false
"""


class Scene:
    """A tenant whose cache is in `old` and is to come to `new`."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.clock = LeapingClock(lambda seconds: None, calendar=True)
        self.config = home / "cm_platform.toml"
        self.configure()
        patch.setattr("cm_platform.cli.app.Invocation", partial(Invocation, clock=self.clock))

    def configure(self, **lacks: list[str]) -> None:
        """Write the configuration. lacks: what a backend cannot do."""
        text = CONFIG
        for name, some in lacks.items():
            line = f'path = "{name}.db"\n'
            text = text.replace(line, f"{line}lacks = {json.dumps(some)}\n")
        self.config.write_text(text, encoding="utf-8")

    def migrate(self, command: str, *options: str, code: int = 0) -> str:
        """Run `migrate`, for the tenant's cache; what it prints."""
        args = ["--config", str(self.config), "migrate", command]
        args += ["--service", "cache", "--tenant", "acme", *options]
        result = CliRunner().invoke(app, args)
        assert result.exit_code == code, (command, result.output)
        return result.stdout or result.stderr

    def document(self, command: str, *options: str, code: int = 0) -> Any:
        """The same with --json."""
        return json.loads(self.migrate(command, *options, "--json", code=code))

    @contextmanager
    def cache(self) -> Generator[Cache, None, None]:
        """The tenant's cache, as an application sees it."""
        with Platform(load(self.config), clock=self.clock) as platform:
            yield platform.get_service("cache", Tenant("acme"))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_a_tenants_cache_moves_from_the_plan_to_the_end(scene: Scene) -> None:
    with scene.cache() as cache:
        cache.set("key", "value", ttl=30 * DAY)
        assert cache.increment("visits", ttl=3600) == 1
    plan = scene.document("plan")
    assert plan["obstacles"] == []
    assert plan["namespaces"]["default"]["home"] == "durable_objects"
    assert "increments" in plan["namespaces"]["default"]["why"][0]
    scene.migrate("start", "--no-other-writers")
    visits = 1
    for acts, to in (
        ((), "dualwrite"),
        (("backfill", "verify"), "shadow"),
        (("verify",), "live"),
        ((), "rampdown"),
    ):
        for act in acts:
            scene.migrate(act)
        stepped = scene.document("advance")
        assert (stepped["to"], stepped["flips"]) == (to, to == "live")
        with scene.cache() as cache:
            visits += 1
            assert cache.increment("visits", ttl=3600) == visits
            assert cache.get("key") == "value"
    assert "the soak time is not over" in scene.migrate("complete", code=8)
    scene.clock.sleep(DAY)
    scene.migrate("verify")
    assert scene.document("complete")["to"] == "complete"
    with scene.cache() as cache:
        assert cache.get("key") == "value"
    assert scene.document("status")["stage"] == "complete"
    assert len(scene.document("log")["log"]) == 6


def test_a_rollback_goes_back_to_the_beginning_and_counts_on(scene: Scene) -> None:
    with scene.cache() as cache:
        assert cache.increment("visits", 5, ttl=3600) == 5
        cache.set("deleted", 1, ttl=3600)
    scene.migrate("start", "--no-other-writers")
    scene.migrate("advance")
    scene.migrate("backfill")
    scene.migrate("verify")
    scene.migrate("advance")
    scene.migrate("advance")
    with scene.cache() as cache:
        assert cache.increment("visits", ttl=3600) == 6
        assert cache.get("deleted") == 1
        cache.delete("deleted")
    assert scene.document("rollback", "--to", "off", "--dry-run")["flips"] is True
    back = scene.document("rollback", "--to", "off")
    assert (back["from"], back["to"]) == ("live", "off")
    with scene.cache() as cache:
        assert cache.get("deleted") is None
        assert cache.increment("visits", ttl=3600) == 7


def test_a_target_that_cannot_count_is_refused_by_name(scene: Scene) -> None:
    scene.configure(new=["atomic_increment", "compare_and_set"])
    with scene.cache() as cache:
        cache.increment("visits", ttl=3600)
    (obstacle,) = scene.document("plan", code=6)["obstacles"]
    assert "increments, which the target cannot do (atomic_increment)" in obstacle["what"]
    assert obstacle["count"] >= 1
    assert obstacle["examples"] == ["default"]
    shown = scene.migrate("start", "--no-other-writers", "--accept-losses", code=8)
    assert "obstacles" in shown


def test_what_was_used_long_ago_can_be_forgotten(scene: Scene) -> None:
    scene.configure(new=["atomic_increment", "compare_and_set"])
    with scene.cache() as cache:
        cache.increment("visits", ttl=3600)
    scene.document("plan", code=6)
    assert scene.document("plan", "--forget-use")["obstacles"] == []
    with scene.cache() as cache:
        cache.increment("visits", ttl=3600)
    scene.document("plan", code=6)


def test_what_was_seen_only_later_keeps_it_from_going_live(scene: Scene) -> None:
    scene.configure(new=["atomic_increment", "compare_and_set"])
    with scene.cache() as cache:
        cache.set("key", "value", ttl=60)
    scene.migrate("start", "--no-other-writers", "--accept-losses")
    scene.migrate("advance")
    scene.migrate("backfill")
    scene.migrate("verify")
    scene.migrate("advance")
    with scene.cache() as cache:
        cache.increment("visits", ttl=3600)
    verified = scene.document("verify", code=6)
    assert "increments" in verified["problems"][0]
    assert "not clean" in scene.migrate("advance", code=8)
