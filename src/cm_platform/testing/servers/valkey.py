"""Valkey, the free continuation of Redis: the real server, in a child process on loopback.

with ValkeyServer(password="...", durable=True) as server:
    ...                     # a client on server.url
    server.kill()           # SIGKILL; what was acknowledged is on disk
    server.start()          # the same port, the same data
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from cm_platform.testing.servers.process import ChildServer, ServerStartError, free_port
from cm_platform.testing.servers.serve_valkey import CONFIGURATION, PORT_TAKEN

_HOST = "127.0.0.1"
_STARTS = 3
_SLOTS = 16_384
_CLUSTER_SECONDS = 30.0
_POLL_SECONDS = 0.05


class ValkeyServer:
    """One server. Use as a context manager, or call `start()` and `stop()`.

    password: of the user `default`, who else needs none.
    users: rules (ACL) by name, such as {"reader": "on >secret ~* +@read"}.
    durable: every write is on disk before it is acknowledged (appendfsync always).
    cluster: make it a node; see `ValkeyCluster`.
    settings: further lines of its configuration, such as {"maxmemory": "2mb"}.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        users: Mapping[str, str] | None = None,
        durable: bool = False,
        cluster: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._password = password
        self._users = dict(users or {})
        self._durable = durable
        self._cluster = cluster
        self._settings = dict(settings or {})
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildServer | None = None
        self._port = 0
        self._bus = 0
        self._pid = 0

    @property
    def port(self) -> int:
        """Where it listens; the same after a restart."""
        if not self._port:
            raise RuntimeError("the server is not running; use it as a context manager")
        return self._port

    @property
    def pid(self) -> int:
        """The process id of `valkey-server` itself."""
        if self._child is None:
            raise RuntimeError("the server is not running; call start() first")
        return self._pid

    @property
    def url(self) -> str:
        """As a client's configuration takes it, with the password."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The same by way of another port: a proxy's."""
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{login}{_HOST}:{port}"

    def start(self) -> None:
        """Start it, with the data of its last life. Raises `ServerStartError`."""
        if self._child is not None:
            raise RuntimeError("the server is already running")
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="cm-valkey-")
        # A port can be lost between its choice and its use: before it was known, take another.
        starts = 1 if self._port else _STARTS
        for attempt in range(1, starts + 1):
            port = self._port or free_port(_HOST)
            if not self._port:
                # Not again: the other nodes of a cluster know it.
                self._bus = free_port(_HOST)
            lines = json.dumps(self._lines(port))
            child = ChildServer(
                "cm_platform.testing.servers.serve_valkey",
                [self._directory.name, "--remove"],
                environment={CONFIGURATION: lines},
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
        """SIGKILL: no goodbye, nothing is written any more. `start()` brings it back."""
        os.kill(self.pid, signal.SIGKILL)
        self._end()

    def pause(self) -> None:
        """SIGSTOP: it listens and answers nothing, until `resume()`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop it for good, and remove its data."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self.resume()
        self._end()
        if self._directory is not None:
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

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def _lines(self, port: int) -> list[list[str]]:
        lines = [
            ["bind", _HOST],
            ["port", str(port)],
            ["daemonize", "no"],
            ["save", '""'],
            ["appendonly", "yes" if self._durable else "no"],
            ["appendfsync", "always" if self._durable else "no"],
        ]
        if self._password is not None:
            lines.append(["requirepass", self._password])
        if self._cluster:
            lines += [
                ["cluster-enabled", "yes"],
                ["cluster-port", str(self._bus)],
                ["cluster-node-timeout", "2000"],
            ]
        lines += [["user", name, rules] for name, rules in self._users.items()]
        lines += [[name, value] for name, value in self._settings.items()]
        return lines


class ValkeyCluster:
    """Nodes of one cluster that share the slots evenly, without replicas.

    Use as a context manager. nodes: the servers, in the order of their slots.
    """

    def __init__(self, size: int = 3) -> None:
        self.nodes: Sequence[ValkeyServer] = [ValkeyServer(cluster=True) for _ in range(size)]
        self._stack = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """Of the first node; it knows the others."""
        return self.nodes[0].url

    def slots(self, index: int) -> range:
        """The slots that a node had at first."""
        size = len(self.nodes)
        return range(_SLOTS * index // size, _SLOTS * (index + 1) // size)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._form()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _form(self) -> None:
        first = self.nodes[0]
        bus = ask(first.port, "CONFIG", "GET", "cluster-port")[1]
        for index, node in enumerate(self.nodes):
            slots = self.slots(index)
            ask(node.port, "CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])
            if node is not first:
                ask(node.port, "CLUSTER", "MEET", _HOST, first.port, bus)
        deadline = time.monotonic() + _CLUSTER_SECONDS
        while not all(self._is_whole(node) for node in self.nodes):
            if time.monotonic() > deadline:
                raise ServerStartError("the nodes did not agree on a cluster in time")
            time.sleep(_POLL_SECONDS)

    def _is_whole(self, node: ValkeyServer) -> bool:
        info = ask(node.port, "CLUSTER", "INFO").decode()
        return (
            "cluster_state:ok" in info
            and f"cluster_known_nodes:{len(self.nodes)}" in info
            and len(ask(node.port, "CLUSTER", "SLOTS")) >= len(self.nodes)
        )


def ask(port: int, *command: str | int | bytes) -> Any:
    """What a server on this machine replies to one command; RuntimeError for a refusal."""
    # Untyped: its stub knows commands of one word only.
    hiredis: Any = import_module("hiredis")
    reader = hiredis.Reader(notEnoughData=...)
    with socket.create_connection((_HOST, port), timeout=10.0) as connection:
        connection.sendall(hiredis.pack_command(command))
        while (reply := reader.gets()) is ...:
            received = connection.recv(65_536)
            if not received:
                raise RuntimeError("the server closed the connection")
            reader.feed(received)
    if isinstance(reply, hiredis.ReplyError):
        raise RuntimeError(str(reply))
    return reply


__all__ = ["ValkeyCluster", "ValkeyServer", "ask"]
