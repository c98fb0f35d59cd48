"""The file of `cache.local`: its modes, its life, and what is wrong with it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cm_platform.cache.local.file import FileStore
from cm_platform.cache.local.table import Table
from cm_platform.errors import (
    ConfigInvalidError,
    IntegrityError,
    PermissionDeniedError,
    PlatformError,
    UnavailableError,
)
from cm_platform.sqlite import Connections, classify
from cm_platform.sqlite import connections as connections_module
from cm_platform.sqlite.connections import KEPT

from .opened import MovingClock, opened


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> str:
    found = request.param
    assert isinstance(found, str)
    return found


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Somebody else keeps the file to himself."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def test_file_and_directories_are_for_the_owner_alone(face: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "cache"
    before = os.umask(0)
    try:
        with opened(face, path) as cache:
            cache.set("a")
            files = sorted(file.name for file in path.parent.iterdir())
            assert files == ["cache", "cache-shm", "cache-wal"]
            for file in path.parent.iterdir():
                assert file.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["cache"]


def test_what_is_kept_outlives_the_process(face: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with opened(face, path) as cache:
        cache.set("a", b"1")
        cache.set("b", b"2", ttl=10)
    with opened(face, path) as cache:
        assert cache.get_many(["a", "b"]) == [b"1", b"2"]
        cache.clock.pass_(10)
        assert cache.get_many(["a", "b"]) == [b"1", None]


def test_two_that_open_one_file_share_it(face: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with opened(face, path) as one, opened("sync", path) as other:
        one.set("a", b"1")
        assert other.get("a") == b"1"
        assert other.swap("a", b"1", b"2")
        assert one.get("a") == b"2"
        assert [one.count("n").value, other.count("n").value, one.count("n").value] == [1, 2, 3]


def test_two_that_open_memory_do_not_share_it(face: str) -> None:
    with opened(face) as one, opened(face) as other:
        one.set("a")
        assert other.get("a") is None


def test_memory_is_forgotten_when_it_is_closed(face: str) -> None:
    with opened(face) as cache:
        cache.set("a")
        cache.run(cache.cache.close())
        assert cache.get("a") is None


@pytest.mark.parametrize(("fsync", "synchronous"), [(False, 1), (True, 2)])
def test_fsync_decides_whether_each_write_is_synced(
    tmp_path: Path, fsync: bool, synchronous: int
) -> None:
    with opened("sync", tmp_path / "cache"):
        pass
    connections = Connections(tmp_path / "cache", fsync=fsync, busy_timeout=1, cure="delete it")
    with connections.lent() as db:
        # SQLite's numbers: 1 is NORMAL, 2 is FULL.
        assert db.execute("PRAGMA synchronous").fetchone() == (synchronous,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connections.close()


def test_a_file_that_is_no_database_is_named_and_left_alone(face: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    content = b"My diary. " * 1000
    path.write_bytes(content)
    with (
        pytest.raises(IntegrityError, match="damaged, or no file of SQLite") as failure,
        opened(face, path),
    ):
        pass
    assert str(path) in str(failure.value)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(face: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE entries (id)")
        db.commit()
    content = path.read_bytes()
    with pytest.raises(ConfigInvalidError, match="another program"), opened(face, path):
        pass
    assert path.read_bytes() == content


def test_a_file_of_another_version_is_refused(face: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with opened("sync", path):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(ConfigInvalidError, match="form 2, and this one has 1"), opened(face, path):
        pass


def test_damage_is_told_as_such_when_it_is_met(face: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with opened(face, path) as cache:
        for number in range(500):
            cache.set(f"k{number}", b"secret" * 50)
    content = bytearray(path.read_bytes())
    # All but the first page, which names the tables.
    content[4096:] = b"\xee" * (len(content) - 4096)
    path.write_bytes(content)
    with opened(face, path) as cache:
        for act in (lambda: cache.get("k7"), lambda: cache.set("k7", b"secret")):
            with pytest.raises((IntegrityError, sqlite3.DatabaseError)) as failure:
                act()
            told = failure.value
            if not isinstance(told, PlatformError):
                translated = cache.cache.translate(told)
                assert isinstance(translated, PlatformError)
                told = translated
            assert isinstance(told, IntegrityError)
            assert "delete it" in str(told)
            assert "secret" not in str(told)
            assert "k7" not in str(told)


def test_a_directory_in_the_place_of_the_file_is_refused(face: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalidError, match="name a file in it"), opened(face, tmp_path):
        pass


def test_a_file_in_the_place_of_a_directory_is_refused(face: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(ConfigInvalidError, match="cannot use the file"),
        opened(face, tmp_path / "file" / "cache"),
    ):
        pass


def test_an_empty_file_is_made_one_of_ours(face: str, tmp_path: Path) -> None:
    # As it is left by a process that was killed between making the file and filling it.
    path = tmp_path / "cache"
    path.write_bytes(b"")
    path.chmod(0o600)
    with opened(face, path) as cache:
        assert cache.set("a")


def test_a_file_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache"
    with opened("sync", path):
        pass
    assert not caplog.records
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING), opened("sync", path):
        pass
    assert "chmod 600" in caplog.text


def test_ping_tells_a_file_that_is_gone(face: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with opened(face, path) as cache:
        cache.run(cache.cache.ping())
        cache.set("a")
        path.unlink()
        with pytest.raises(PermissionDeniedError, match="not there any more"):
            cache.run(cache.cache.ping())


def test_a_file_that_is_gone_is_not_made_again_by_a_connection(tmp_path: Path) -> None:
    connections = Connections(tmp_path / "cache", fsync=False, busy_timeout=1, cure="delete it")
    with pytest.raises(sqlite3.OperationalError) as failure, connections.lent():
        pass
    told = classify(failure.value, "delete it")
    assert isinstance(told, UnavailableError)
    assert told.retryable
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_takes_too_long_makes_others_unavailable(face: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with opened(face, path, busy_timeout=0.05) as cache:
        cache.set("a", b"1")
        with writing(path):
            with pytest.raises(UnavailableError, match="busy_timeout") as failure:
                cache.set("a", b"2")
            assert failure.value.retryable
            assert failure.value.not_sent
            # Readers wait for no writer.
            assert cache.get("a") == b"1"
        assert cache.set("a", b"3")
        assert cache.get("a") == b"3"


def test_a_read_of_what_is_old_waits_for_no_writer(face: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with opened(face, path, max_bytes=64 * 1024, busy_timeout=30) as cache:
        for key in ("a", "b", "c"):
            cache.set(key, b"x" * 20_000)
        with writing(path):
            assert cache.get("a") == b"x" * 20_000
        # It could not be made young then, and is now.
        assert cache.get("a")
        cache.set("d", b"x" * 20_000)
        assert cache.get("a")
        assert cache.get("b") is None


def test_a_closed_cache_says_so(face: str, tmp_path: Path) -> None:
    with opened(face, tmp_path / "cache") as cache:
        cache.run(cache.cache.close())
        with pytest.raises(UnavailableError, match="closed") as failure:
            cache.get("a")
        assert failure.value.not_sent


def test_threads_share_connections_and_none_is_left_open(tmp_path: Path) -> None:
    with opened("sync", tmp_path / "cache") as cache:
        start = threading.Barrier(24)
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                start.wait(10)
                for turn in range(20):
                    cache.set(f"{number}:{turn}", b"%d" % turn)
                    assert cache.get(f"{number}:{turn}") == b"%d" % turn
                    cache.count("n")
            except BaseException as error:  # noqa: BLE001 - shown below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert cache.get("n") == b"480"
        assert 0 < open_files(tmp_path) <= 3 * KEPT
    assert open_files(tmp_path) == 0


def open_files(directory: Path) -> int:
    """How many files below a directory this process has open."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += str(link.readlink()).startswith(str(directory))
        except OSError:
            continue
    return found


def forked(work: Callable[[], None]) -> int | None:
    """Do it in a child; how that ended."""
    # A fork of a process with threads is what is tested here; newer Pythons warn of it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
    child.join(30)
    return child.exitcode


def test_no_connection_is_carried_over_a_fork(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with opened("sync", path) as cache:

        def work() -> None:
            assert open_files(tmp_path) == 0
            assert cache.get("a") == b"parent"
            cache.set("a", b"child")
            for _ in range(50):
                cache.count("n")
            cache.run(cache.cache.close())
            assert open_files(tmp_path) == 0

        cache.set("a", b"parent")
        assert open_files(tmp_path) > 0
        assert forked(work) == 0
        # The parent let go before the fork, and has not come back yet.
        assert open_files(tmp_path) == 0
        assert cache.get("a") == b"child"
        assert cache.count("n").value == 51
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_fork_that_calls_no_hook_before_it_leaves_no_connection(tmp_path: Path) -> None:
    # As a server forks that embeds Python: the child's hook is all that runs.
    path = tmp_path / "cache"
    with opened("sync", path):
        pass
    connections = Connections(path, fsync=False, busy_timeout=1, cure="delete it")
    with connections.lent() as db:
        db.execute("SELECT bytes FROM store").fetchone()
    assert open_files(tmp_path) > 0
    connections.after_fork_in_child()
    assert open_files(tmp_path) == 0
    with connections.lent() as db:
        assert db.execute("SELECT bytes FROM store").fetchone() == (0,)
    connections.close()


def test_a_fork_waits_for_threads_that_use_the_file(tmp_path: Path) -> None:
    with opened("sync", tmp_path / "cache") as cache, using(tmp_path / "cache") as end:
        threading.Timer(0.2, end.set).start()

        def work() -> None:
            assert end.is_set()
            assert cache.count("n").value == 1

        assert forked(work) == 0
        assert cache.count("n").value == 2


def test_a_child_that_inherits_an_open_file_refuses_to_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache"
    monkeypatch.setattr(connections_module, "FORK_PATIENCE", 0.05)
    with opened("sync", path) as cache, using(path):

        def work() -> None:
            for use in (lambda: cache.get("a"), lambda: opened("sync", path).__enter__()):
                with pytest.raises(UnavailableError, match="was forked while"):
                    use()

        assert forked(work) == 0
        assert cache.get("a") is None


@contextmanager
def using(path: Path) -> Iterator[threading.Event]:
    """A thread reads the file until the event is set, or the block ends."""
    store = FileStore(path, MovingClock(), 64 * 1024, fsync=False, busy_timeout=5)
    begun, end = threading.Event(), threading.Event()

    def work(table: Table) -> None:
        begun.set()
        end.wait(30)

    thread = threading.Thread(target=store.read, args=(work,))
    thread.start()
    assert begun.wait(10)
    try:
        yield end
    finally:
        end.set()
        thread.join(30)
        store.close()


def test_importing_it_imports_no_client_and_no_event_loop() -> None:
    script = (
        "import sys, cm_platform.cache.local; "
        "print(*{'asyncio', 'redis', 'httpx', 'boto3', 'cloudflare'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    assert done.stdout.strip() == ""
