"""The file of `ledger.sqlite`: its modes, its life, what is wrong with it, and its time."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cm_platform.errors import (
    ConfigInvalidError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    PlatformError,
    UnavailableError,
    UnsupportedError,
)
from cm_platform.migration.ledger import Busy, Fenced, Intent, Ledger, Move
from cm_platform.migration.ledgers.sqlite import SqliteConfig, SqliteLedger
from cm_platform.migration.ledgers.sqlite.ledger import MEMORY
from cm_platform.routing import Stage
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.testing.faces import FACES

from .sqlite_ledgers import ACME, OFF, TERMS, Opened, StandingClock, opened


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    found = request.param
    assert isinstance(found, str)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down" / "ledger"


def test_it_is_a_ledger() -> None:
    ledger: Ledger = SqliteLedger(SqliteConfig(path=MEMORY), BlockingRuntime())
    drive(ledger.close())


# The file ------------------------------------------------------------------------------------


def test_file_and_directories_are_for_the_owner_alone(face: str, path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(path, face) as ledger:
            ledger.to_dualwrite()
            files = sorted(file.name for file in path.parent.iterdir())
            assert files == ["ledger", "ledger-shm", "ledger-wal"]
            for file in path.parent.iterdir():
                assert file.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["ledger"]


def test_what_it_knows_outlives_the_process(face: str, path: Path) -> None:
    with opened(path, face) as ledger:
        ledger.to_dualwrite()
        ledger.begins("id")
    with opened(path, face) as ledger:
        assert ledger.state(ACME).stage is Stage.DUALWRITE
        assert ledger.is_pending(ACME, "key")
        assert [line.id for line in ledger.log(ACME)] == ["start", "dualwrite"]


@pytest.mark.parametrize(("fsync", "synchronous"), [(True, 2), (False, 1)])
def test_a_write_is_synced_unless_it_is_said_otherwise(
    path: Path, fsync: bool, synchronous: int
) -> None:
    assert SqliteConfig(path=path).fsync is True
    with opened(path, fsync=fsync) as ledger:
        database: Any = ledger.ledger._database
        with database._connections.lent() as db:
            assert db.execute("PRAGMA synchronous").fetchone() == (synchronous,)
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_another_programs_database_is_refused_and_left_alone(face: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE migrations (id)")
        db.commit()
    content = path.read_bytes()
    with pytest.raises(ConfigInvalidError, match="another program"), opened(path, face):
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_file_of_another_version_is_told_and_left_alone(
    face: str, path: Path, version: int
) -> None:
    with opened(path, face):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    content = path.read_bytes()
    told = rf"\(form {version}, and this one has 2\): .*forget where each tenant's data is"
    with pytest.raises(ConfigInvalidError, match=told), opened(path, face):
        pass
    assert path.read_bytes() == content


def test_a_file_that_is_no_database_is_named_and_left_alone(face: str, tmp_path: Path) -> None:
    path = tmp_path / "diary"
    content = b"My diary. " * 1000
    path.write_bytes(content)
    with (
        pytest.raises(IntegrityError, match="put back the newest copy") as caught,
        opened(path, face),
    ):
        pass
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_directory_in_the_place_of_the_file_is_refused(face: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigInvalidError, match=r"ledger\.sqlite keeps one file"),
        opened(tmp_path, face),
    ):
        pass


def test_without_its_tables_it_says_so(path: Path) -> None:
    ledger = SqliteLedger(SqliteConfig(path=path), BlockingRuntime())
    acts: tuple[Callable[[], Any], ...] = (
        lambda: drive(ledger.state(ACME)),
        lambda: drive(ledger.start(ACME, TERMS, OFF)),
        lambda: drive(ledger.end("writer", ["id"])),
        lambda: drive(ledger.ping()),
    )
    path.parent.mkdir(parents=True)
    for content in (None, b""):
        if content is not None:
            path.write_bytes(content)
        for act in acts:
            with pytest.raises(ConfigInvalidError, match="not there"):
                act()
    drive(ledger.close())


def test_a_file_that_was_taken_away_is_not_written_to_any_more(face: str, path: Path) -> None:
    with opened(path, face) as ledger:
        ledger.to_dualwrite()
        path.rename(path.with_name("moved"))
        acts: tuple[Callable[[], Any], ...] = (
            lambda: ledger.state(ACME),
            lambda: ledger.begins("id"),
            lambda: ledger.ping(),
        )
        for act in acts:
            with pytest.raises(ConfigInvalidError, match="not there, or another is in its place"):
                act()
        # Others have made a new one, and know nothing of what this one knew.
        with (
            opened(path) as other,
            pytest.raises(ConfigInvalidError, match="another is in its place"),
        ):
            assert other.state(ACME) is None
            ledger.begins("id")


def test_a_damaged_file_is_not_to_be_deleted(face: str, path: Path) -> None:
    with opened(path, face) as ledger:
        ledger.to_dualwrite()
        for number in range(200):
            ledger.skip(ACME, f"secret-key-{number}", "reason" * 20)
    content = bytearray(path.read_bytes())
    # All but the first page, which names the tables.
    content[4096:] = b"\xee" * (len(content) - 4096)
    path.write_bytes(content)
    with opened(path, face) as ledger:
        acts: tuple[Callable[[], Any], ...] = (
            lambda: ledger.state(ACME),
            lambda: ledger.skip(ACME, "secret-key", "x"),
        )
        for act in acts:
            with pytest.raises(IntegrityError, match="put back the newest copy") as caught:
                act()
            assert "secret" not in str(caught.value)


def test_who_keeps_the_file_to_himself_makes_others_wait_no_longer_than_is_said(
    face: str, path: Path
) -> None:
    with opened(path, face, busy_timeout=0.05) as ledger:
        ledger.to_dualwrite()
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            with pytest.raises(UnavailableError, match="busy_timeout") as caught:
                ledger.begins("id")
            assert caught.value.retryable
            assert caught.value.not_sent
            # Who only asks waits for nobody.
            assert ledger.state(ACME).epoch == 2
            assert ledger.claim(ACME, "repairer", 5.0, 10) == []
            db.execute("ROLLBACK")
        ledger.begins("id")
        assert ledger.pending(ACME).count == 1


def test_the_log_only_grows(path: Path) -> None:
    with opened(path) as ledger:
        ledger.to_dualwrite()
        before = ledger.log(ACME)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            (row,) = db.execute("SELECT * FROM transitions WHERE epoch = 1").fetchall()
            added = "INSERT INTO transitions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            for statement, values in (
                ("UPDATE transitions SET who = 'nobody'", ()),
                ("DELETE FROM transitions", ()),
                ("DELETE FROM transitions WHERE epoch = 2", ()),
                (added.replace("INSERT", "INSERT OR REPLACE"), row),
                (added, (*row[:2], -1, "id", *row[4:])),
            ):
                with pytest.raises(sqlite3.IntegrityError, match="the log only grows"):
                    db.execute(statement, values)
        assert ledger.log(ACME) == before


# Settings and arguments ----------------------------------------------------------------------


def test_a_configuration_is_not_in_memory(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="memory is for tests"):
        SqliteConfig(path=tmp_path / ":memory:")


@pytest.mark.parametrize("timeout", [0, -1, 61, float("nan"), float("inf")])
def test_an_impossible_timeout_is_refused(path: Path, timeout: float) -> None:
    with pytest.raises(ValidationError):
        SqliteConfig(path=path, busy_timeout=timeout)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_what_is_no_time_is_refused(seconds: float) -> None:
    with opened(MEMORY) as ledger:
        ledger.to_dualwrite()
        for act in (
            lambda: ledger.begins("id", lease=seconds),
            lambda: ledger.leave("writer", ["id"], seconds),
            lambda: ledger.extend("writer", ["id"], seconds),
            lambda: ledger.claim(ACME, "repairer", seconds, 1),
            lambda: ledger.announce(ACME, 2, seconds),
            lambda: ledger.pause(ACME, 2, seconds),
        ):
            with pytest.raises(InvalidArgumentError, match="seconds") as caught:
                act()
            assert caught.value.not_sent
        assert ledger.pending(ACME).count == 0


def test_what_cannot_be_kept_is_refused(face: str, path: Path) -> None:
    for where in (path, MEMORY):
        with opened(where, face) as ledger:
            ledger.to_dualwrite()
            for act in (
                lambda: ledger.begins("id", "lone \ud800 surrogate"),
                lambda: ledger.is_pending(ACME, "lone \ud800 surrogate"),
                lambda: ledger.count(ACME, {("a", "b"): 2**63}),
                lambda: ledger.note(ACME, "name", {"a": object()}),
                lambda: ledger.note(ACME, "name", {"a": float("nan")}),
                lambda: ledger.move(ACME, 2, Move("id", Stage.SHADOW, "me", {"a": {1, 2}})),
                lambda: ledger.claim(ACME, "repairer", 5.0, 0),
                lambda: ledger.skipped(ACME, 0),
                lambda: ledger.start(ACME, TERMS, Move("other", Stage.LIVE, "me")),
                lambda: ledger.move(ACME, 2, Move("start", Stage.SHADOW, "me")),
            ):
                with pytest.raises(InvalidArgumentError):
                    act()
            assert ledger.state(ACME).epoch == 2
            assert ledger.pending(ACME).count == 0


# Memory --------------------------------------------------------------------------------------


def test_memory_is_ones_own(face: str) -> None:
    with opened(MEMORY, face) as one, opened(MEMORY, face) as other:
        one.to_dualwrite()
        assert other.state(ACME) is None


def test_memory_is_reset_to_nothing(face: str) -> None:
    with opened(MEMORY, face) as ledger:
        for _ in range(3):
            assert ledger.state(ACME) is None
            ledger.to_dualwrite()
            ledger.begins("id")
            ledger.note(ACME, "verify", {})
            ledger.count(ACME, {("a", "b"): 1})
            ledger.skip(ACME, "key", "reason")
            ledger.ledger.reset()
            assert ledger.pending(ACME).count == 0
            assert (ledger.log(ACME), ledger.notes(ACME)) == ([], {})
            assert (ledger.counts(ACME), ledger.skipped(ACME, 10)) == ({}, [])
        database: Any = ledger.ledger._database
        ledger.to_dualwrite()
        with pytest.raises(sqlite3.IntegrityError, match="the log only grows"):
            database._db.execute("DELETE FROM transitions")


def test_a_file_is_not_reset(path: Path) -> None:
    with opened(path) as ledger, pytest.raises(UnsupportedError):
        ledger.ledger.reset()


# Time ----------------------------------------------------------------------------------------


class SlowClock(StandingClock):
    """When it has been asked, so many seconds pass, once: a commit on a disk that is slow."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0.0

    def wall(self) -> float:
        before = self.now
        self.now += self.passes
        self.passes = 0.0
        return before


@pytest.fixture(params=["file", "memory"])
def slow(request: pytest.FixtureRequest, path: Path) -> Any:
    """A ledger in the stage dualwrite, and its clock."""
    clock = SlowClock()
    with opened(path if request.param == "file" else MEMORY, clock=clock) as ledger:
        ledger.to_dualwrite()
        yield ledger, clock


def test_an_announcement_counts_from_its_commit(slow: tuple[Opened, SlowClock]) -> None:
    # Until then, others were granted leases.
    ledger, clock = slow
    clock.passes = 7.0
    ledger.announce(ACME, 2, 1000.0)
    ledger.pause(ACME, 2, 1000.0)
    live = Move("live", Stage.LIVE, "operator")
    clock.now += 4.9
    with pytest.raises(Busy, match="announced"):
        ledger.move(ACME, 2, live)
    clock.now += 0.1
    assert ledger.move(ACME, 2, live).stage is Stage.LIVE


def test_an_announcement_that_runs_out_during_a_flip_grants_no_lease(path: Path) -> None:
    # The flip was sure of it, and is being committed; what is read meanwhile is of before.
    clock = StandingClock()
    with opened(path, clock=clock, busy_timeout=0.05) as ledger:
        ledger.to_dualwrite()
        ledger.announce(ACME, 2, 10.0)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            clock.now += 11.0
            assert ledger.state(ACME).lease == 0
            db.execute("ROLLBACK")
        assert ledger.state(ACME).lease == 5.0


def test_an_announcement_begins_anew_after_a_lease_was_granted(
    slow: tuple[Opened, SlowClock],
) -> None:
    ledger, clock = slow
    ledger.announce(ACME, 2, 10.0)
    ledger.pause(ACME, 2, 1000.0)
    clock.now += 11.0
    assert ledger.state(ACME).lease == 5.0
    ledger.announce(ACME, 2, 1000.0)
    clock.now += 4.9
    live = Move("live", Stage.LIVE, "operator")
    with pytest.raises(Busy, match="announced"):
        ledger.move(ACME, 2, live)
    clock.now += 0.2
    assert ledger.move(ACME, 2, live).stage is Stage.LIVE


def test_an_announcement_that_nobody_saw_end_goes_on(slow: tuple[Opened, SlowClock]) -> None:
    ledger, clock = slow
    ledger.announce(ACME, 2, 10.0)
    ledger.pause(ACME, 2, 1000.0)
    clock.now += 11.0
    live = Move("live", Stage.LIVE, "operator")
    with pytest.raises(Busy, match="announced"):
        ledger.move(ACME, 2, live)
    ledger.announce(ACME, 2, 10.0)
    assert ledger.move(ACME, 2, live).stage is Stage.LIVE


def test_an_announcement_whose_time_was_not_noted_does_not_count(
    slow: tuple[Opened, SlowClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its process died in between.
    ledger, clock = slow
    with monkeypatch.context() as patched:
        patched.setattr(
            "cm_platform.migration.ledgers.sqlite.stages.stamp_announcement", lambda *_: None
        )
        ledger.announce(ACME, 2, 1000.0)
    ledger.pause(ACME, 2, 1000.0)
    clock.now += 100.0
    live = Move("live", Stage.LIVE, "operator")
    assert ledger.state(ACME).lease == 0
    with pytest.raises(Busy, match="announced"):
        ledger.move(ACME, 2, live)
    ledger.announce(ACME, 2, 1000.0)
    with pytest.raises(Busy, match="announced"):
        ledger.move(ACME, 2, live)
    clock.now += 5.0
    assert ledger.move(ACME, 2, live).stage is Stage.LIVE


def test_the_age_of_a_stage_counts_from_its_commit(slow: tuple[Opened, SlowClock]) -> None:
    ledger, clock = slow
    clock.passes = 7.0
    assert ledger.move(ACME, 2, Move("shadow", Stage.SHADOW, "operator")).age == 0
    clock.now += 3.0
    assert ledger.state(ACME).age == 3.0


def test_the_age_of_a_stage_counts_from_when_it_was_seen(
    slow: tuple[Opened, SlowClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who moved died before it could be noted.
    ledger, clock = slow
    with monkeypatch.context() as patched:
        patched.setattr("cm_platform.migration.ledgers.sqlite.stages.settle", lambda *_: None)
        ledger.move(ACME, 2, Move("shadow", Stage.SHADOW, "operator"))
    clock.now += 100.0
    assert [state.age for _, state in ledger.subjects()] == [0.0]
    assert ledger.state(ACME).age == 0.0
    clock.now += 3.0
    assert ledger.state(ACME).age == 3.0


def test_a_clock_that_was_set_back_makes_nobody_younger_than_nothing(
    slow: tuple[Opened, SlowClock],
) -> None:
    ledger, clock = slow
    ledger.begins("id")
    ledger.note(ACME, "verify", {})
    clock.now -= 3600.0
    assert ledger.state(ACME).age == 0.0
    assert ledger.pending(ACME).oldest == 0.0
    assert ledger.notes(ACME)["verify"].age == 0.0


# Callers that go away, and forks -------------------------------------------------------------


class HaltingClock(StandingClock):
    """Stops the thread that asks for the time; a write asks when it has its transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.goes = threading.Event()
        self.goes.set()

    def wall(self) -> float:
        self.asked.set()
        assert self.goes.wait(30)
        return super().wall()


def test_a_caller_cancelled_within_its_transaction_leaves_nothing(path: Path) -> None:
    clock = HaltingClock()
    with opened(path, "async", clock=clock) as ledger:
        ledger.to_dualwrite()
        clock.asked.clear()
        clock.goes.clear()

        async def act() -> None:
            begins = ledger.ledger.begin
            intents = [[Intent(id_, id_)] for id_ in "ab"]
            first = asyncio.create_task(begins(ACME, 2, "writer", intents[0], 60))
            await asyncio.to_thread(clock.asked.wait, 30)
            second = asyncio.create_task(begins(ACME, 2, "writer", intents[1], 60))
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            clock.goes.set()
            await second

        ledger.run(act())
        assert not ledger.is_pending(ACME, "a")
        assert ledger.is_pending(ACME, "b")


def open_files(directory: Path) -> int:
    """How many files below a directory this process has open."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += str(link.readlink()).startswith(str(directory))
        except OSError:
            continue
    return found


def test_a_fork_and_its_parent_share_the_file_and_no_connection(path: Path) -> None:
    with opened(path) as ledger:
        ledger.to_dualwrite()
        ledger.begins("parent", "a")
        assert open_files(path.parent) > 0

        def work() -> None:
            assert open_files(path.parent) == 0
            assert ledger.is_pending(ACME, "a")
            ledger.begins("child", "b")
            ledger.pause(ACME, 2, 60)

        with warnings.catch_warnings():
            # Newer Pythons warn of a fork where there are threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
        child.join(30)
        assert child.exitcode == 0
        assert ledger.pending(ACME).count == 2
        with pytest.raises(Fenced):
            ledger.begins("late")
    assert open_files(path.parent) == 0


def test_an_error_of_another_kind_is_told_without_its_words(path: Path) -> None:
    with opened(path) as ledger:
        ledger.to_dualwrite()
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON intents "
                "BEGIN SELECT RAISE(ABORT, 'secret words'); END"
            )
        with pytest.raises(PlatformError) as caught:
            ledger.begins("id")
        assert isinstance(caught.value, InternalError)
        assert "secret" not in str(caught.value)
        assert caught.value.not_sent
