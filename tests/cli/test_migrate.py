"""`cm-platform migrate`: a tenant's move, from the plan to the end, and back."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cm_platform.errors import UnavailableError
from cm_platform.migration.points import Point

from .conftest import CANARY
from .migrate_scene import CONFIG, DAY, Scene, at_points, scene

__all__ = ["scene"]

KEYS = ("a", "press/one", "press/two")


def test_a_tenant_moves_from_the_plan_to_the_end_and_loses_nothing(scene: Scene) -> None:
    scene.put(*KEYS)
    plan = scene.document("plan")
    assert (plan["objects"], plan["losses"], plan["obstacles"]) == (3, [], [])
    assert scene.document("start", "--no-other-writers")["stage"] == "off"
    stepped = scene.document("advance", "--to", "dualwrite")
    assert (stepped["from"], stepped["to"], stepped["moved"]) == ("off", "dualwrite", True)
    scene.put("later")
    brought = scene.document("backfill")
    assert (brought["complete"], brought["objects"], brought["skipped"]) == (True, 4, [])
    assert scene.document("verify")["clean"] is True
    assert scene.document("advance")["flips"] is False
    with scene.storage() as storage:
        for key in KEYS:
            storage.get(key).read()
    flipped = scene.document("advance")
    assert (flipped["to"], flipped["flips"]) == ("live", True)
    scene.put("last")
    assert scene.document("advance")["to"] == "rampdown"
    scene.clock.sleep(DAY)
    assert scene.document("verify")["objects"] == 5
    assert scene.document("complete")["to"] == "complete"
    with scene.storage() as storage:
        found = {listed.key: storage.get(listed.key).read() for listed in storage.list()}
    assert found == {key: key.encode() for key in (*KEYS, "later", "last")}

    log = scene.document("log")["log"]
    assert [line["from"] for line in log] == [
        None, "off", "dualwrite", "shadow", "live", "rampdown",
    ]  # fmt: skip
    assert [line["epoch"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert all(line["who"] and line["reason"] is None for line in log)
    assert log[3]["evidence"]["verification"]["clean"] is True


def test_a_rollback_goes_back_one_stage_or_step_by_step(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("live")
    scene.put("written at the new one")
    way = scene.document("rollback", "--to", "dualwrite", "--dry-run")
    assert (way["way"], way["flips"]) == (["shadow", "dualwrite"], True)
    assert scene.stage() == "live"
    assert scene.migrate("rollback").stdout.startswith("live -> shadow, epoch 5")
    back = scene.document("rollback", "--to", "off")
    assert (back["from"], back["to"], back["epoch"]) == ("shadow", "off", 7)
    with scene.storage() as storage:
        assert storage.get("written at the new one").read() == b"written at the new one"


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        (None, ("start", "--no-other-writers")),
        ("off", ("advance",)),
        ("dualwrite", ("backfill",)),
        ("shadow", ("advance",)),
        ("live", ("rollback",)),
        ("rampdown", ("complete", "--override", "a rehearsal")),
    ],
)
def test_a_dry_run_changes_nothing(
    scene: Scene, stage: str | None, command: tuple[str, ...]
) -> None:
    scene.put(*KEYS)
    if stage is not None:
        scene.reach(stage)

    def known() -> list[Any]:
        files = sorted(
            (str(path), path.read_bytes())
            for folder in ("old/objects", "new/objects")
            for path in (scene.home / folder).rglob("*")
            if path.is_file()
        )
        log = scene.migrate("log", "--json")
        status = {} if stage is None else scene.document("status")
        told = {name: status.get(name) for name in ("stage", "epoch", "intents", "skipped")}
        return [files, log.stdout, told, bool(status.get("backfill"))]

    before = known()
    assert scene.migrate(*command, "--dry-run").stdout.startswith("would")
    assert scene.document(*command, "--dry-run")["dry_run"] is True
    assert known() == before


def test_an_interrupted_backfill_says_so_and_goes_on_where_it_stopped(scene: Scene) -> None:
    scene.put(*(f"k{number:03}" for number in range(150)))
    scene.reach("dualwrite")

    def interrupt(point: Point) -> None:
        if point is Point.BACKFILL_NOTED:
            raise KeyboardInterrupt

    with at_points(interrupt):
        done = scene.migrate("backfill")
    assert (done.code, done.stdout) == (130, "")
    assert "goes on where it stopped" in done.stderr
    assert "100 of 150 (67%) objects" in scene.migrate("status").stdout

    dry = scene.migrate("backfill", "--dry-run").stdout
    assert "begins: 100 of 150 (67%) objects" in dry
    assert scene.document("backfill", "--dry-run")["resumes"] is True
    assert scene.document("backfill", "--dry-run", "--no-resume")["resumes"] is False

    pages: list[Point] = []
    with at_points(lambda point: pages.append(point) if point == "backfill-noted" else None):
        brought = scene.document("backfill")
    assert (brought["complete"], brought["objects"]) == (True, 150)
    assert len(pages) == 3, "one page of the source was left, and two of the target to look through"
    assert scene.document("verify")["clean"] is True

    with at_points(lambda point: pages.append(point) if point == "backfill-noted" else None):
        scene.document("backfill", "--no-resume")
    assert len(pages) == 3 + 4


def test_a_backfill_that_a_store_stopped_says_how_to_go_on(scene: Scene) -> None:
    scene.put("a")
    scene.reach("dualwrite")

    def down(point: Point) -> None:
        if point is Point.BACKFILL_DONE:
            raise UnavailableError("the store is down", retryable=True)

    with at_points(down):
        done = scene.migrate("backfill")
    assert done.code == 5
    assert "goes on where it stopped" in done.stderr
    with at_points(down):
        assert scene.migrate("backfill", "--json").error["code"] == "unavailable"


def test_ctrl_c_ends_a_process_that_waits(tmp_path: Path, command: list[str], scene: Scene) -> None:
    scene.put("a")
    scene.reach("dualwrite")
    # This process's clock stands still: what began before takes a minute to be over.
    with subprocess.Popen(  # noqa: S603 - our own command
        [*command, "migrate", "backfill", "--tenant", "acme"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"until every write that began before is over" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert b"goes on where it stopped" in process.stderr.read()
        assert process.stdout.read() == b""
        assert process.wait(30) == 130


def test_a_verification_that_is_not_clean_names_each_key(scene: Scene) -> None:
    scene.put(*KEYS)
    scene.reach("shadow")
    (stored,) = (scene.home / "new/objects/acme").glob("a~*.data")
    stored.chmod(0o600)
    stored.write_bytes(b"b")
    scene.damage("new", "press/one")
    done = scene.migrate("verify")
    assert done.code == 6
    assert "1 differ, 1 unreadable" in done.stdout
    found = scene.document("verify", code=6)
    assert {one["key"]: one["how"] for one in found["differences"]} == {
        "a": "bytes",
        "press/one": "unread: integrity: an object's sidecar is damaged or belongs to another "
        "key; put the object again, or delete it",
    }
    sample = scene.document("verify", "--sample", "0", code=6)
    assert (sample["divergent"], sample["full"]) == (0, False)


@pytest.mark.parametrize("given", [("--concurrency", "1"), ("--rate", "5")])
def test_the_pace_is_the_migration_s_unless_an_option_says_another(
    scene: Scene, given: tuple[str, str]
) -> None:
    scene.put(*(f"k{number:03}" for number in range(101)))
    scene.reach("dualwrite")
    scene.clock.sleep(DAY)
    busy: list[int] = []
    peak = 0

    def count(point: Point) -> None:
        nonlocal peak
        if point is Point.COPY_BEGUN:
            busy.append(1)
            peak = max(peak, len(busy))
        elif point is Point.OTHER_CHANGED:
            busy.pop()

    before = scene.clock.monotonic()
    with at_points(count):
        assert scene.migrate("backfill", *given).code == 0
    took = scene.clock.monotonic() - before
    if given[0] == "--rate":
        # Two pages of 100 and 1, and two more to look for leftovers: all but the first wait.
        assert 40 <= took < 100
    else:
        assert peak == 1
        assert took < 20


def test_the_pace_of_the_configuration_holds_where_no_option_is_given(scene: Scene) -> None:
    slow = CONFIG.replace('target = "new"', 'target = "new"\nrate = 5')
    (scene.home / "cm_platform.toml").write_text(slow)
    scene.put(*(f"k{number:03}" for number in range(101)))
    scene.reach("dualwrite")
    scene.clock.sleep(DAY)
    before = scene.clock.monotonic()
    assert scene.migrate("backfill").code == 0
    assert scene.clock.monotonic() - before >= 40


def test_explain_shows_ledger_and_migrations(scene: Scene, run: Any) -> None:
    shown = run("config", "explain", "--json").document["settings"]
    found = {setting["path"]: (setting["value"], setting["source"]) for setting in shown}
    assert found["ledger.driver"] == ("sqlite", "cm_platform.toml")
    assert found["storage.migrations.to-new.target"] == ("new", "cm_platform.toml")
    assert found["storage.migrations.to-new.concurrency"] == (8, "default")
    assert found["storage.migrations.to-new.rate"] == (0.0, "default")


def test_doctor_says_whether_the_ledger_answers_and_how_far_migrations_are(
    scene: Scene, run: Any
) -> None:
    def findings() -> dict[tuple[str, str], dict[str, Any]]:
        found = run("doctor", "--json").document["findings"]
        return {(one["check"], one["subject"]): one for one in found}

    assert findings()["migrations", "storage.to-new"]["detail"] == "no tenant has begun"
    scene.put(*KEYS)
    scene.reach("shadow")
    found = findings()
    assert found["ledger", "sqlite"]["status"] == "ok"
    assert found["migrations", "storage.to-new"]["detail"] == "1 tenant: 1 shadow"
    assert found["migrations", "storage of acme"]["detail"] == (
        "to-new:shadow; backfilled 3 of 3 (100%)"
    )
    (scene.home / "ledger.db").unlink()
    (scene.home / "ledger.db").mkdir()
    done = run("doctor", "--json")
    assert done.code == 6
    (ledger,) = [one for one in done.document["findings"] if one["check"] == "ledger"]
    assert ledger["status"] == "failed"
    assert ledger["detail"].startswith("config_invalid: ")


def test_doctor_warns_of_migrations_without_a_ledger(scene: Scene, run: Any) -> None:
    (scene.home / "cm_platform.toml").write_text(CONFIG.partition("[ledger]")[0])
    found = run("doctor", "--json").document["findings"]
    (ledger,) = [one for one in found if one["check"] == "ledger"]
    assert ledger["status"] == "warning"
    assert "storage.to-new" in ledger["detail"]
    done = scene.migrate("plan")
    assert done.code == 3
    assert "[ledger]" in done.stderr


def test_init_prepares_the_ledger_and_may_be_repeated(scene: Scene, run: Any) -> None:
    for _ in range(2):
        assert run("migrate", "init", "--json").document == {"ok": True, "ledger": "sqlite"}
    assert (scene.home / "ledger.db").exists()
    assert run("migrate", "init", "--print-sql").code == 2


def test_init_prints_the_statements_of_postgres_and_connects_to_nothing(
    scene: Scene, run: Any
) -> None:
    secret = CANARY
    (scene.home / "cm_platform.toml").write_text(
        CONFIG.partition("[ledger]")[0]
        + f'[ledger]\ndriver = "postgres"\nurl = "postgresql://u:{secret}@127.0.0.1:9/d"\n'
        'table_schema = "moves"\nconnect_timeout = 0.2\n'
    )
    done = run("migrate", "init", "--print-sql")
    assert done.code == 0
    assert 'CREATE SCHEMA IF NOT EXISTS "moves"' in done.stdout
    told = run("migrate", "init", "--print-sql", "--json")
    assert told.document["sql"].rstrip("\n") == done.stdout.rstrip("\n")
    for args in (("init",), ("status",), ("advance", "--tenant", "acme")):
        for extra in ((), ("--json",), ("--debug",)):
            failed = run("migrate", *args, *extra)
            assert failed.code == 5
            assert secret not in failed.stdout + failed.stderr
    assert secret not in json.dumps(run("doctor", "--timeout", "1", "--json").document)
    assert secret not in run("config", "explain").stdout


@pytest.mark.parametrize("extra", [(), ("--json",), ("--debug",)], ids=["plain", "json", "debug"])
def test_no_command_prints_a_secret(scene: Scene, extra: tuple[str, ...]) -> None:
    far = f"""
driver = "s3"
bucket = "media"
endpoint = "http://127.0.0.1:9"
access_key_id = "id-{CANARY}"
secret_access_key = "key-{CANARY}"
"""
    scene.put(*KEYS)
    scene.reach("dualwrite")
    near = 'driver = "local"\npath = "new"\n'
    assert near in CONFIG
    (scene.home / "cm_platform.toml").write_text(
        CONFIG.replace(near, far).replace("[storage]", "[storage]\ntimeout = 1")
    )
    for command in (
        ("plan",),
        ("start", "--no-other-writers"),
        ("backfill",),
        ("verify",),
        ("status",),
        ("log",),
        ("advance", "--override", "a rehearsal"),
        ("rollback",),
    ):
        done = scene.migrate(*command, *extra)
        assert done.stdout + done.stderr
        assert CANARY not in done.stdout + done.stderr
