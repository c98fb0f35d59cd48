"""What `cm-platform migrate` refuses, in which words and with which exit code."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .migrate_scene import CONFIG, DAY, Scene, scene

__all__ = ["scene"]

KEYS = ("a", "press/one", "press/two")


def refused(scene: Scene, *command: str, code: int = 8, error: str = "precondition_failed") -> str:
    """The words of a refusal, which are the same for programs."""
    done = scene.migrate(*command)
    assert (done.code, done.stdout) == (code, "")
    assert done.stderr.startswith(f"{error}: ")
    told = scene.migrate(*command, "--json")
    assert told.code == code
    assert told.error["code"] == error
    return str(told.error["message"])


def test_nothing_was_started(scene: Scene) -> None:
    for command in ("status", "advance", "backfill", "verify", "rollback", "complete", "log"):
        assert "never started" in refused(scene, command, code=4, error="not_found")


def test_a_start_wants_a_declaration(scene: Scene) -> None:
    assert "--no-other-writers" in refused(scene, "start")
    dry = scene.document("start", "--dry-run", code=8)
    assert len(dry["missing"]) == 1
    assert "--no-other-writers" in dry["missing"][0]


def test_a_start_wants_losses_accepted_one_and_all(scene: Scene) -> None:
    scene.put(*KEYS)
    # Something lies on the target that the source does not have.
    new_first = CONFIG.replace('default = "old"', 'default = "new"').replace("to-new", "other")
    (scene.home / "cm_platform.toml").write_text(new_first)
    scene.put("only there")
    (scene.home / "cm_platform.toml").write_text(CONFIG)
    plan = scene.document("plan")
    (loss,) = plan["losses"]
    assert (loss["count"], loss["examples"]) == (1, ["only there"])
    assert "only there" in scene.migrate("plan").stdout
    assert "--accept-losses" in refused(scene, "start", "--no-other-writers")
    dry = scene.document("start", "--no-other-writers", "--dry-run", code=8)
    assert "--accept-losses" in dry["missing"][0]
    assert scene.migrate("start", "--no-other-writers", "--accept-losses").code == 0


def test_a_start_is_refused_while_something_stands_in_the_way(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.damage("old", "a")
    done = scene.migrate("plan")
    assert done.code == 6
    assert "obstacles" in done.stdout
    assert "cannot be described: integrity" in done.stdout
    assert scene.document("plan", code=6)["obstacles"][0]["examples"] == ["a"]
    assert "obstacles" in refused(scene, "start", "--no-other-writers", "--accept-losses")


def test_a_migration_is_started_once(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("dualwrite")
    assert "under way" in refused(scene, "start", "--no-other-writers")
    dry = scene.document("start", "--no-other-writers", "--dry-run", code=8)
    assert "under way already, in the stage dualwrite" in dry["missing"][0]


def test_nothing_is_brought_over_or_compared_outside_the_mirrored_stages(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("off")
    for command in ("backfill", "verify"):
        assert "dualwrite first" in refused(scene, command)
    assert scene.document("backfill", "--dry-run", code=8)["missing"]


def test_each_stage_wants_its_evidence(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("dualwrite")
    assert "the backfill is not complete" in refused_with_document(scene, "advance")
    assert scene.migrate("backfill").code == 0
    assert scene.migrate("advance").code == 0
    assert "nothing was verified" in refused_with_document(scene, "advance")
    assert scene.migrate("verify", "--sample", "0").code == 0
    assert scene.migrate("advance").code == 0
    assert scene.migrate("advance").code == 0
    lacks = refused_with_document(scene, "complete")
    for lack in ("only a sample", "from before the flip", "the soak time is not over"):
        assert lack in lacks
    scene.clock.sleep(DAY)
    assert scene.migrate("verify").code == 0
    assert scene.migrate("complete").code == 0


def refused_with_document(scene: Scene, command: str) -> str:
    """What is missing: on stderr for people, in the document for programs, in a dry run too."""
    before = scene.stage()
    done = scene.migrate(command)
    assert (done.code, done.stdout) == (8, "")
    told = scene.migrate(command, "--json")
    assert told.code == 8
    assert told.document["moved"] is False
    missing = told.document["missing"]
    assert missing
    dry = scene.document(command, "--dry-run", code=8)
    # How long it still takes is another number each time.
    assert [timeless(lack) for lack in dry["missing"]] == [timeless(lack) for lack in missing]
    assert all(timeless(lack) in timeless(done.stderr) for lack in missing)
    assert scene.stage() == before
    return "; ".join(missing)


def timeless(text: str) -> str:
    """The text without its seconds."""
    return re.sub(r"\d+ more seconds", "more seconds", text)


def test_an_override_goes_on_and_is_written_down(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("dualwrite")
    assert refused(scene, "advance", "--override", " ", code=2, error="invalid_argument")
    dry = scene.migrate("advance", "--override", "a rehearsal", "--dry-run")
    assert dry.code == 0
    assert "overriding" in dry.stdout
    done = scene.migrate("advance", "--override", "a rehearsal")
    assert done.code == 0
    assert "overridden: the backfill is not complete" in done.stdout
    assert "the backfill is not complete: a rehearsal" in scene.migrate("log").stdout
    assert scene.document("log")["log"][-1]["reason"] == "a rehearsal"


def test_an_override_of_skipped_keys_says_what_becomes_of_them(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("dualwrite")
    scene.damage("old", "a")
    assert scene.migrate("backfill").code == 9
    for options in (("--dry-run",), ()):
        done = scene.migrate("advance", "--override", "a rehearsal", *options)
        assert done.code == 0
        assert "nobody reads them; they stay here, for a way back" in done.stderr


@pytest.mark.parametrize(
    ("stage", "command", "words"),
    [
        ("dualwrite", ("advance", "--to", "live"), "one stage at a time"),
        ("dualwrite", ("complete",), "one stage at a time"),
        ("dualwrite", ("rollback", "--to", "live"), "a rollback goes back"),
        ("off", ("rollback",), "no stage before"),
        ("complete", ("rollback",), "the migration is complete"),
        ("complete", ("advance",), "the migration is complete"),
    ],
)
def test_a_step_that_is_none_is_wrong_usage(
    scene: Scene, stage: str, command: tuple[str, ...], words: str
) -> None:
    scene.put("a")
    scene.reach(stage)
    assert words in refused(scene, *command, code=2, error="invalid_argument")
    assert words in refused(scene, *command, "--dry-run", code=2, error="invalid_argument")


@pytest.mark.parametrize(
    "options",
    [
        ("verify", "--sample", "1.5"),
        ("backfill", "--concurrency", "0"),
        ("backfill", "--rate", "-1"),
        ("advance", "--to", "nowhere"),
        ("advance", "--patience", "0"),
        ("plan", "--migration", "nope"),
        ("plan", "--service", "nope"),
    ],
)
def test_wrong_options_are_wrong_usage(scene: Scene, options: tuple[str, ...]) -> None:
    done = scene.migrate(*options)
    assert (done.code, done.stdout) == (2, "")


def test_a_migration_has_to_be_configured(scene: Scene) -> None:
    without = CONFIG.partition("[storage.migrations")[0] + "[ledger]" + CONFIG.split("[ledger]")[1]
    (scene.home / "cm_platform.toml").write_text(without)
    assert "add [storage.migrations.<name>]" in refused(
        scene, "status", code=3, error="config_invalid"
    )


def test_a_migration_of_another_name_is_in_the_way(scene: Scene, run: Any) -> None:
    more = (
        '\n[storage.migrations.again]\nsource = "old"\ntarget = "new"\n'
        "lease = 0.05\nupload_ttl = 1\n"
    )
    (scene.home / "cm_platform.toml").write_text(CONFIG + more)
    done = scene.migrate("plan")
    assert done.code == 2
    assert "say which migration of storage, with --migration: again, to-new" in done.stderr
    scene.put("a")
    for command in (("start", "--no-other-writers"), ("advance",)):
        assert scene.migrate(*command, "--migration", "to-new").code == 0
    assert "another migration" in refused(scene, "advance", "--migration", "again")
