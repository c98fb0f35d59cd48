"""What `cm-platform migrate` shows: where it is, what was skipped, in which words and how wide."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from cm_platform import Platform, Tenant
from cm_platform.cli.invocation import Invocation
from cm_platform.cli.migrate_opening import opened_ledger
from cm_platform.cli.migrate_output import SHOWN
from cm_platform.cli.output import Output
from cm_platform.config import load
from cm_platform.migration.ledger import Subject
from cm_platform.runtime import drive

from .migrate_scene import CONFIG, Scene, scene

__all__ = ["scene"]

KEYS = ("a", "press/one", "press/two")


def test_people_read_how_far_it_is_and_what_is_missing(scene: Scene) -> None:
    scene.put(*KEYS)
    shown = scene.migrate("plan").stdout
    assert "old -> new" in shown
    assert "--no-other-writers" in shown
    scene.reach("shadow")
    with scene.storage() as storage:
        storage.get("press/one").read()
    shown = scene.migrate("status").stdout
    for words in (
        "to-new", "storage of acme", "old (source)", "complete: 3 objects",
        "the same on both sides", "press/", "nothing is missing for live",
    ):  # fmt: skip
        assert words in shown
    assert scene.migrate("advance").stdout.startswith("shadow -> live, epoch 4; writers waited")
    shown = scene.migrate("status").stdout
    assert "new (target)" in shown
    assert "1 d" in shown  # of soak
    scene.migrate("advance")
    assert "the soak time is not over" in scene.migrate("status").stdout
    shown = scene.migrate("log").stdout
    assert len(shown.splitlines()) == 7
    assert "dualwrite" in shown


def test_status_says_what_shadow_reads_found_by_class_of_keys(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("shadow")
    (sidecar,) = (scene.home / "new/objects/acme/press").glob("one~object.json")
    sidecar.unlink()
    with scene.storage() as storage:
        for key in KEYS:
            storage.get(key).read()
    shadow = scene.document("status")["shadow"]
    assert (shadow["compared"], shadow["differed"]) == (3, 1)
    assert shadow["classes"]["press/"]["differed"] == {"missing on the target": 1}
    assert shadow["classes"]["(no folder)"]["same"] == 1
    assert "missing on the target: 1" in scene.migrate("status").stdout
    (lack,) = scene.document("advance", code=8)["missing"]
    assert "shadow reads differed" in lack


def test_status_without_a_tenant_lists_every_migration(scene: Scene, run: Any) -> None:
    assert run("migrate", "status").stdout == "no migration was ever started\n"
    scene.put(*KEYS)
    scene.reach("shadow")
    run("migrate", "start", "--tenant", "other", "--no-other-writers")
    listed = run("migrate", "status", "--json").document["migrations"]
    assert [(one["tenant"], one["stage"], one["authority"]) for one in listed] == [
        ("acme", "shadow", "source"),
        ("other", "off", "source"),
    ]
    assert (listed[0]["looked"], listed[0]["objects"]) == (3, 3)
    shown = run("migrate", "status").stdout
    for words in ("to-new:shadow", "to-new:off", "100%"):
        assert words in shown
    assert shown.endswith("2 migrations\n")


def test_skipped_keys_are_listed_with_their_reasons(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("dualwrite")
    scene.damage("old", "press/one")
    done = scene.migrate("backfill")
    assert done.code == 9
    assert "press/one" in done.stdout
    assert "integrity: an object's sidecar is damaged" in done.stdout
    (skipped,) = scene.document("backfill", code=9)["skipped"]
    assert skipped["key"] == "press/one", "by the tenant's own name, not by the store's"
    status = scene.document("status")
    assert status["skipped"] == [skipped]
    assert status["missing"] == ["keys that could not be moved: 1"]
    assert "keys that could not be moved: 1" in scene.migrate("advance").stderr

    scene.put("press/one")
    assert scene.migrate("backfill").code == 0
    assert scene.document("status")["skipped"] == []


def test_more_skipped_keys_than_are_shown_are_counted_and_all_are_in_the_json(
    scene: Scene,
) -> None:
    scene.put("a")
    scene.reach("dualwrite")
    subject, many = Subject("storage", "acme"), SHOWN + 2
    call = Invocation(None, False, False, Output(as_json=False), scene.clock)
    with opened_ledger(call) as (ledger, _, _):
        for number in range(many):
            drive(ledger.skip(subject, f"acme/k{number:04}", "internal: a test"))
    shown = scene.migrate("status").stdout
    assert "skipped: 1002 keys" in shown
    assert "k0999" in shown
    assert "k1000" not in shown
    assert shown.endswith("... and 2 more: --json lists all\n")
    skipped = scene.document("status")["skipped"]
    assert [one["key"] for one in skipped] == [f"k{number:04}" for number in range(many)]


def test_a_key_that_begins_with_the_site_keeps_it(scene: Scene) -> None:
    layout = '[storage]\nlayout = "media/{tenant}/{site}/{key}"\n'
    path = scene.home / "cm_platform.toml"
    path.write_text(CONFIG.replace("[storage]\n", layout, 1))
    with Platform(load(path), clock=scene.clock) as platform:
        platform.get_service("storage", Tenant("acme", site_id="paris")).put("menu", b"")
    for sidecar in scene.home.glob("old/objects/media/acme/paris/menu~object.json"):
        sidecar.write_text("{")
    (obstacle,) = scene.document("plan", code=6)["obstacles"]
    assert obstacle["examples"] == ["paris/menu"]


def test_a_plan_says_that_the_data_is_elsewhere(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("complete")
    (obstacle,) = scene.document("plan", code=6)["obstacles"]
    assert obstacle["what"].startswith("this tenant's data is on new, and to-new moves it from old")


def test_tables_fit_into_80_columns(
    scene: Scene, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    scene.put(*KEYS)
    scene.reach("dualwrite")
    assert scene.migrate("advance", "--override", "a rehearsal " * 10).code == 0
    scene.migrate("backfill")
    scene.migrate("verify")
    for done in (
        run("migrate", "status"), scene.migrate("status"), scene.migrate("log"),
        scene.migrate("plan"),
    ):  # fmt: skip
        assert done.code == 0
        assert max(map(len, done.stdout.splitlines())) <= 80
    assert "to-new:shadow" in run("migrate", "status").stdout
    # A moment is one word: were the table too wide, it would be in pieces.
    assert len(re.findall(r"^\S+Z  ", scene.migrate("log").stdout, re.MULTILINE)) == 3


def test_an_advance_says_what_comes_next(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("off")
    said = scene.migrate("advance").stderr
    assert "next: cm-platform migrate backfill (waits for " in said
    scene.migrate("backfill")
    scene.migrate("verify")
    assert "migrate status" in scene.migrate("advance").stderr
    assert "rollback is the way back" in scene.migrate("advance").stderr
    assert "verify, then complete (1 d after" in scene.migrate("advance").stderr
    assert scene.migrate("rollback").stderr == ""


def test_a_cache_moves_in_words_of_its_own(scene: Scene, run: Any) -> None:
    path = scene.home / "cm_platform.toml"
    path.write_text(
        CONFIG.replace("[storage", "[cache").replace(
            "[cache]\n", '[cache.namespaces.shared]\nencoding = "raw"\n[cache]\n'
        )
    )
    cache = ("--service", "cache", "--tenant", "acme")
    done = run("migrate", "plan", *cache)
    assert done.code == 6
    assert "nothing was recorded of its use" in done.stdout
    assert "keys that are shared with other programs" in done.stdout

    path.write_text(CONFIG.replace("[storage", "[cache"))
    with Platform(load(path), clock=scene.clock) as platform:
        kept = platform.get_service("cache", Tenant("acme"))
        for number in range(20):
            kept.set(f"k{number}", number)
    done = run("migrate", "plan", *cache)
    assert done.code == 0
    assert "can live in" in done.stdout
    started = ("start", "--no-other-writers", "--accept-losses")
    for command in (started, ("advance",)):
        assert run("migrate", *command, *cache).code == 0
    done = run("migrate", "backfill", *cache)
    assert (
        done.stdout
        == "backfill complete: what the target had from before is outdated, in 1 namespace\n"
    )
    done = run("migrate", "verify", *cache)
    assert done.stdout.startswith("1 namespace: nothing from before counts on the target")
    for words in ("outdated, in 1 namespace", "nothing from before counts"):
        assert words in run("migrate", "status", *cache).stdout


def test_a_ledger_that_is_down_is_told_of_once(
    scene: Scene, spawn: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    (scene.home / "cm_platform.toml").write_text(
        CONFIG.partition("[ledger]")[0]
        + '[ledger]\ndriver = "postgres"\nurl = "postgresql://u:p@127.0.0.1:9/d"\n'
        "connect_timeout = 0.2\n"
    )
    done = spawn("migrate", "status", "--json")
    assert done.returncode == 5
    assert json.loads(done.stderr)["error"]["code"] == "unavailable"
