"""A proxy that does to Redis' protocol what networks do: loses replies, cuts, stalls.

with ValkeyProxy(server.port) as proxy:
    proxy.lose_reply("INCRBY", times=20)     # executed; then the connection is closed
    ...                                       # a client on server.url_at(proxy.port)
    assert proxy.forwarded("INCRBY") == 200

It hands commands and replies on unchanged, one after the other.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Self

_HOST = "127.0.0.1"
_TIMEOUT_SECONDS = 60.0
_BYTES = (b"$", b"=", b"!")
"""Replies that tell their length in bytes."""
_PARTS = {b"*": 1, b"~": 1, b">": 1, b"%": 2}
"""Replies that tell how many of what, each of so many replies, follow."""
_CHUNK = 1_048_576


@dataclass(slots=True)
class Fault:
    """What happens to commands of a name. Wait until it `hit()`; `release()` ends a stall."""

    command: str | None
    remaining: int
    every: int
    reached: bool
    closes: bool
    _seen: int = 0
    _hit: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def hit(self, *, timeout: float = 5.0) -> bool:
        """Whether it applied to a command, waiting at most `timeout` seconds for one."""
        return self._hit.wait(timeout)

    def release(self) -> None:
        """Let what is stalled go on."""
        self._released.set()

    def wait(self) -> None:
        """Used by the proxy: stand still until the release."""
        self._released.wait()

    def takes(self, name: str) -> bool:
        """Used by the proxy: whether it applies to this command; counts it."""
        if self.remaining <= 0 or self.command not in (None, name):
            return False
        self._seen += 1
        if self._seen % self.every:
            return False
        self.remaining -= 1
        self._hit.set()
        return True


class ValkeyProxy:
    """A proxy in front of one server on this machine. Use as a context manager.

    tls: certificate and key, as files: then clients must speak TLS to it.

    reads: pieces that arrived from clients, which is to say writes of theirs, if these are
    small and far enough apart.
    """

    def __init__(self, upstream: int, *, tls: tuple[str, str] | None = None) -> None:
        self._upstream = upstream
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._seen: list[tuple[str, bool]] = []
        self._sockets: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._listener: socket.socket | None = None
        self.port = 0
        self.reads = 0
        self.connections = 0

    # The log

    @property
    def commands(self) -> list[str]:
        """The names of all commands so far, in capitals."""
        with self._lock:
            return [name for name, _ in self._seen]

    def forwarded(self, command: str) -> int:
        """How many commands of this name reached the server."""
        with self._lock:
            return sum(reached and name == command for name, reached in self._seen)

    def clear(self) -> None:
        """Forget the log and all faults; what is stalled goes on."""
        with self._lock:
            faults, self._faults, self._seen = self._faults, [], []
            self.reads = 0
        for fault in faults:
            fault.release()

    # The faults

    def lose_reply(self, command: str | None = None, *, times: int = 1, every: int = 1) -> Fault:
        """Let the command take effect, then close without a byte of its reply.

        times: how often; every: at each so many-th command only.
        """
        return self._add(Fault(command, times, every, reached=True, closes=True))

    def cut(self, command: str | None = None, *, times: int = 1, every: int = 1) -> Fault:
        """Close the connection when the command comes; the server does not see it."""
        return self._add(Fault(command, times, every, reached=False, closes=True))

    def stall(self, command: str | None = None, *, times: int = 1, reached: bool = False) -> Fault:
        """Answer nothing until the release; reached: after the server has executed it."""
        return self._add(Fault(command, times, 1, reached=reached, closes=False))

    @contextlib.contextmanager
    def down(self) -> Generator[None, None, None]:
        """Refuse new connections, as a stopped server does, and drop those that are open."""
        self._close_listener()
        self.drop()
        try:
            yield
        finally:
            self._listen()

    def drop(self) -> None:
        """Close every open connection."""
        with self._lock:
            sockets = list(self._sockets)
        for connection in sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # Running

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close_listener()
        self.clear()
        self.drop()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(2.0)

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def _listen(self) -> None:
        self._listener = socket.create_server((_HOST, self.port), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _start(self, target: Callable[[socket.socket], None], connection: socket.socket) -> None:
        def run() -> None:
            try:
                target(connection)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="valkey-proxy", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._serve, connection)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            # A client or the server hung up, which is this proxy's daily bread.
            stack.enter_context(contextlib.suppress(OSError, EOFError))
            stack.enter_context(client)
            if self._context is not None:
                client = stack.enter_context(self._context.wrap_socket(client, server_side=True))
            with self._lock:
                self._sockets.add(client)
                self.connections += 1
            stack.callback(self._sockets.discard, client)
            server = stack.enter_context(
                socket.create_connection((_HOST, self._upstream), timeout=_TIMEOUT_SECONDS)
            )
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pass(client, server, stack.enter_context(server.makefile("rb")))

    def _pass(self, client: socket.socket, server: socket.socket, replies: IO[bytes]) -> None:
        buffer = bytearray()
        while True:
            received = client.recv(_CHUNK)
            if not received:
                return
            with self._lock:
                self.reads += 1
            buffer += received
            while (end := _end(buffer)) > 0:
                command = bytes(buffer[:end])
                del buffer[:end]
                if not self._exchange(client, server, replies, command):
                    return

    def _exchange(
        self, client: socket.socket, server: socket.socket, replies: IO[bytes], command: bytes
    ) -> bool:
        name = _name(command)
        with self._lock:
            fault = next((fault for fault in self._faults if fault.takes(name)), None)
            at = len(self._seen)
            self._seen.append((name, fault is None or fault.reached))
        if fault is None:
            server.sendall(command)
            client.sendall(_reply(replies))
            return True
        reply = b""
        if fault.reached:
            server.sendall(command)
            reply = _reply(replies)
        if fault.closes:
            return False
        fault.wait()
        if not fault.reached:
            server.sendall(command)
            reply = _reply(replies)
            with self._lock:
                if at < len(self._seen):
                    self._seen[at] = (name, True)
        client.sendall(reply)
        return True


def _end(buffer: bytearray) -> int:
    """Where the first whole command ends; 0 when it is not whole yet."""
    at = buffer.find(b"\r\n")
    if at < 0:
        return 0
    count, at = int(buffer[1:at]), at + 2
    for _ in range(count):
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return 0
        at = end + 2 + int(buffer[at + 1 : end]) + 2
        if at > len(buffer):
            return 0
    return at


def _name(command: bytes) -> str:
    return command.split(b"\r\n", 3)[2].decode().upper()


def _reply(stream: IO[bytes]) -> bytes:
    """One whole reply, as it came."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    kind = line[:1]
    if kind in _BYTES and (size := int(line[1:])) >= 0:
        return line + stream.read(size + 2)
    if kind in _PARTS and (count := int(line[1:])) > 0:
        return line + b"".join(_reply(stream) for _ in range(count * _PARTS[kind]))
    return line


__all__ = ["Fault", "ValkeyProxy"]
