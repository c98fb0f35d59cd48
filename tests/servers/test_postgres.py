"""The real Postgres starts, is killed, comes back with its data, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cm_platform.testing.servers import ServerStartError
from cm_platform.testing.servers.postgres import PostgresServer
from cm_platform.testing.servers.serve_postgres import installation

from .test_process import SOURCE, gone_within, is_alive


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as db:
        cursor = db.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def entrance() -> Iterator[Path]:
    """A directory of temporary files that every user may enter; pytest's own is private."""
    path = Path(tempfile.mkdtemp(prefix="cm-postgres-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_killed_server_has_what_it_acknowledged() -> None:
    with PostgresServer() as server:
        port, pid = server.port, server.pid
        with psycopg.connect(server.url, autocommit=True) as db:
            serving = db.info.backend_pid
            db.execute("CREATE TABLE a (n int)")
            db.execute("INSERT INTO a VALUES (1)")
            server.kill()
            assert not is_alive(pid)
            assert not is_alive(serving)
            with pytest.raises(psycopg.OperationalError):
                db.execute("INSERT INTO a VALUES (2)")
        with pytest.raises(psycopg.OperationalError, match="refused"):
            asked(server.url, "SELECT 1")
        server.start()
        assert (server.port, server.pid != pid) == (port, True)
        assert asked(server.url, "SELECT n FROM a") == [(1,)]


def test_nothing_is_left_when_it_stops() -> None:
    with PostgresServer() as server:
        pid = server.pid
        db = psycopg.connect(server.url)
        serving = db.info.backend_pid
    db.close()
    assert not is_alive(pid)
    assert not is_alive(serving)
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


def test_the_password_is_asked_for_and_shown_to_nobody() -> None:
    with PostgresServer(password="p@ss/word") as server:
        assert asked(server.url, "SHOW password_encryption") == [("scram-sha-256",)]
        wrong = server.url.replace("p%40ss%2Fword", "guess")
        assert wrong != server.url
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            asked(wrong, "SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="no password"):
            asked(wrong.replace(":guess", ""), "SELECT 1")
        assert "p@ss" not in Path(f"/proc/{server.pid}/cmdline").read_text()
        assert b"p@ss" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_it_listens_on_loopback_alone_and_its_data_are_private() -> None:
    with PostgresServer() as server:
        assert asked(server.url, "SHOW listen_addresses") == [("127.0.0.1",)]
        assert asked(server.url, "SHOW unix_socket_directories") == [("",)]
        [(data,)] = asked(server.url, "SHOW data_directory")
        assert stat.S_IMODE(Path(data).stat().st_mode) == 0o700
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


@pytest.mark.parametrize("durable", [False, True])
def test_durable_means_synced(durable: bool) -> None:
    with PostgresServer(durable=durable, settings={"max_connections": "7"}) as server:
        synced = "on" if durable else "off"
        assert asked(server.url, "SHOW fsync") == [(synced,)]
        assert asked(server.url, "SHOW synchronous_commit") == [("on",)]
        assert asked(server.url, "SHOW max_connections") == [("7",)]


def test_a_database_is_its_own() -> None:
    with PostgresServer() as server:
        one, other = server.new_database(), server.new_database()
        asked(one, "CREATE TABLE a (n int)")
        assert asked(other, "SELECT to_regclass('a')") == [(None,)]
        with psycopg.connect(one) as db:
            server.drop_database(one)
            with pytest.raises(psycopg.OperationalError):
                db.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            asked(one, "SELECT 1")


def test_a_paused_server_is_silent_until_it_goes_on() -> None:
    with PostgresServer() as server, psycopg.connect(server.url, autocommit=True) as db:
        server.pause()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(server.url, connect_timeout=2)
        server.resume()
        assert db.execute("SELECT 1").fetchall() == [(1,)]
        assert asked(server.url, "SELECT 1") == [(1,)]
        serving = db.info.backend_pid
        server.pause()
        server.stop()
        assert not is_alive(serving)


def test_a_setting_that_is_refused_is_shown() -> None:
    with pytest.raises(ServerStartError, match="max_connections"):
        PostgresServer(settings={"max_connections": "many"}).__enter__()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its privileges up")
def test_root_is_told_when_nobody_may_enter_the_directory(tmp_path: Path) -> None:
    script = (
        "from cm_platform.testing.servers.postgres import PostgresServer\n"
        "PostgresServer().__enter__()\n"
    )
    tmp_path.chmod(0o700)
    run = subprocess.run(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": SOURCE, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "must be able to enter the directory of temporary files" in run.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its privileges up")
def test_root_may_have_its_packages_in_a_private_directory(tmp_path: Path) -> None:
    private = tmp_path / "packages"
    package = installation().parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, private / part.name, ignore=shutil.ignore_patterns("pginstall"))
    private.chmod(0o700)
    script = (
        "from cm_platform.testing.servers.postgres import PostgresServer\n"
        "with PostgresServer() as server:\n"
        "    server.kill()\n"
        "    server.start()\n"
        "    print('served')\n"
    )
    run = subprocess.run(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((SOURCE, str(private)))},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert run.stdout == "served\n", run.stderr


def test_it_dies_with_a_parent_that_is_killed_and_takes_its_directory_along(
    entrance: Path,
) -> None:
    script = (
        "import time, psycopg\n"
        "from cm_platform.testing.servers.postgres import PostgresServer\n"
        "server = PostgresServer().__enter__()\n"
        "db = psycopg.connect(server.url, autocommit=True)\n"
        "print(server.pid, db.info.backend_pid, flush=True)\n"
        "db.execute('SELECT pg_sleep(60)')\n"
    )
    parent = subprocess.Popen(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE, "TMPDIR": str(entrance)},
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        pids = [int(text) for text in output.readline().split()]
        assert all(is_alive(pid) for pid in pids)
        assert list(entrance.iterdir())
        parent.kill()
        parent.wait()
    assert all(gone_within(pid, 5) for pid in pids)
    deadline = time.monotonic() + 5
    while list(entrance.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
