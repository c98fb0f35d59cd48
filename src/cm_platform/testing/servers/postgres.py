"""Postgres: the real server, in a child process on loopback.

with PostgresServer() as server:
    ...                     # a client on server.url, or on server.new_database()
    server.kill()           # SIGKILL; what was acknowledged is there
    server.start()          # the same port, the same data
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import LiteralString, Self
from urllib.parse import quote

from cm_platform.testing.servers.process import ChildServer, ServerStartError, free_port
from cm_platform.testing.servers.serve_postgres import CONFIGURATION, PORT_TAKEN

_HOST = "127.0.0.1"
_USER = "postgres"
_STARTS = 3
_CONNECT_SECONDS = 10
_GONE_SECONDS = 5.0
_POLL_SECONDS = 0.01
_SHARED_MEMORY_LINE = 6
_REMOVE = 0  # IPC_RMID


class PostgresServer:
    """One server. Use as a context manager, or call `start()` and `stop()`.

    password: of the superuser `postgres`; left out, one that nobody can guess.
    durable: what is acknowledged survives a power cut, too; a kill it survives in any case.
    settings: further settings of the server, such as {"max_connections": "20"}.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._password = password or secrets.token_urlsafe(16)
        self._durable = durable
        self._settings = dict(settings or {})
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildServer | None = None
        self._port = 0
        self._pid = 0
        self._numbers = count(1)

    @property
    def port(self) -> int:
        """Where it listens; the same after a restart."""
        if not self._port:
            raise RuntimeError("the server is not running; use it as a context manager")
        return self._port

    @property
    def pid(self) -> int:
        """The process id of `postgres` itself, whose children serve one connection each."""
        if self._child is None:
            raise RuntimeError("the server is not running; call start() first")
        return self._pid

    @property
    def url(self) -> str:
        """As a client's configuration takes it, with the password."""
        return self.url_at(self.port)

    def url_at(self, port: int, database: str = "postgres") -> str:
        """The same by way of another port, a proxy's, or to another database."""
        login = f"{_USER}:{quote(self._password, safe='')}"
        return f"postgresql://{login}@{_HOST}:{port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; its URL. For a test that wants one to itself.

        It takes some 8 MB of disk, until `drop_database` or the end of the server.
        """
        name = f"test_{next(self._numbers)}"
        self._administer("CREATE DATABASE {}", name)
        return self.url_at(self.port, name)

    def drop_database(self, url: str) -> None:
        """Remove what `new_database` made; who is still connected to it loses the connection."""
        self._administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", url.rpartition("/")[2])

    def start(self) -> None:
        """Start it, with the data of its last life. Raises `ServerStartError`."""
        if self._child is not None:
            raise RuntimeError("the server is already running")
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="cm-postgres-")
        # A port can be lost between its choice and its use: before it was known, take another.
        starts = 1 if self._port else _STARTS
        for attempt in range(1, starts + 1):
            port = self._port or free_port(_HOST)
            configuration = {"password": self._password, "settings": self._lines(port)}
            child = ChildServer(
                "cm_platform.testing.servers.serve_postgres",
                [self._directory.name, "--remove"],
                environment={CONFIGURATION: json.dumps(configuration)},
                start_timeout=40.0,
                stop_grace=3.0,
            )
            try:
                announced = child.start()
            except ServerStartError as error:
                if attempt == starts or PORT_TAKEN not in str(error):
                    raise
            else:
                self._child = child
                self._port, self._pid = (int(text) for text in announced.split())
                return

    def kill(self) -> None:
        """SIGKILL to all of its processes: no goodbye. `start()` brings it back."""
        # Stopped first, it has no child that is not in the list.
        os.kill(self.pid, signal.SIGSTOP)
        family = self._family()
        for pid in family:
            _send(pid, signal.SIGKILL)
        deadline = time.monotonic() + _GONE_SECONDS
        # One that still holds the shared memory would keep the next life from beginning.
        while any(_is_alive(pid) for pid in family[1:]):
            if time.monotonic() > deadline:
                raise RuntimeError("processes of the server did not end")
            time.sleep(_POLL_SECONDS)
        self._end()

    def pause(self) -> None:
        """SIGSTOP to all of its processes: connections stay and get no answer, until `resume()`."""
        os.kill(self.pid, signal.SIGSTOP)
        for pid in self._family():
            _send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        for pid in reversed(self._family()):
            _send(pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop it for good, and remove its data."""
        if self._child is not None:
            self.resume()
        self._end()
        if self._directory is not None:
            _forget_shared_memory(Path(self._directory.name))
            self._directory.cleanup()
            self._directory = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _administer(self, statement: LiteralString, name: str) -> None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.url, autocommit=True, connect_timeout=_CONNECT_SECONDS) as db:
            db.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def _family(self) -> list[int]:
        return [self.pid, *_children(self.pid)]

    def _lines(self, port: int) -> dict[str, str]:
        synced = "on" if self._durable else "off"
        return {
            "port": str(port),
            "listen_addresses": _HOST,
            "unix_socket_directories": "",
            # Files among its data, which go with them; /dev/shm would keep them after a kill.
            "dynamic_shared_memory_type": "mmap",
            "fsync": synced,
            "full_page_writes": synced,
            # Else a kill would take what was acknowledged in the last fifth of a second.
            "synchronous_commit": "on",
            "shared_buffers": "32MB",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "io_method": "sync",
            "jit": "off",
            **self._settings,
        }


def _children(parent: int) -> list[int]:
    processes = Path("/proc")
    if not (processes / "self" / "stat").exists():
        command = ["ps", "-A", "-o", "pid=,ppid="]
        table = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        rows = [line.split() for line in table.stdout.splitlines()]
        return [int(pid) for pid, above in rows if int(above) == parent]
    found: list[int] = []
    for directory in processes.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # "pid (name) state ppid ...": a name may have spaces and parentheses.
            stat = (directory / "stat").read_text()
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(directory.name))
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    # A zombie, which nobody may ever reap in a container, holds nothing any more.
    return state != "Z"


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _forget_shared_memory(home: Path) -> None:
    """Remove the 56 bytes that a killed server has left in the kernel, where nobody else would."""
    try:
        line = (home / "data" / "postmaster.pid").read_text().splitlines()[_SHARED_MEMORY_LINE]
        segment = int(line.split()[1])
    except (OSError, IndexError, ValueError):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).shmctl(segment, _REMOVE, None)


__all__ = ["PostgresServer"]
