"""A proxy that does to HTTP what networks do: loses replies, resets, stalls, cuts bodies short.

with FaultProxy.before(server.endpoint) as proxy:
    proxy.lose_reply(method="PUT")          # the next PUT takes effect, its reply never comes
    ...                                     # a client on proxy.endpoint(server.endpoint)
    assert proxy.forwarded(method="PUT") == 2
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cm_platform.testing.servers.endpoint import Endpoint
from cm_platform.testing.servers.http1 import Message, MessageError, read_reply, read_request

PathPredicate = Callable[[str], bool]

_HOST = "127.0.0.1"
_TIMEOUT_SECONDS = 60.0
# SO_LINGER on with no time: close() sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that a client sent to the proxy; `path` has no query."""

    method: str
    path: str
    forwarded: bool


@dataclass(slots=True)
class Fault:
    """A scripted fault. Wait until it `hit()`; `release()` lets stalled requests go on."""

    action: _Action = field(repr=False)
    method: str | None
    path: PathPredicate | None
    remaining: int
    _hit: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def hit(self, *, timeout: float = 5.0) -> bool:
        """Whether it applied to a request, waiting at most `timeout` seconds for one."""
        return self._hit.wait(timeout)

    def release(self) -> None:
        """End a stall or a delay."""
        self._released.set()

    def pause(self, seconds: float | None) -> None:
        """Used by actions: wait for the release, at most `seconds`."""
        self._released.wait(seconds)

    def matches(self, method: str, path: str) -> bool:
        """Whether it applies to this request."""
        return (
            self.remaining > 0
            and self.method in (None, method)
            and (self.path is None or self.path(path))
        )

    def take(self) -> None:
        """Count one application."""
        self.remaining -= 1
        self._hit.set()


class FaultProxy:
    """A threaded HTTP/1.1 proxy in front of one server; use as a context manager.

    Faults apply to the next `times` requests that match: `method` in capitals, `path` a predicate
    over the path as sent, percent-encoded and without its query. The oldest matching fault wins.
    Requests are passed on unchanged, `Host` included, so that signatures hold.
    """

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        self._upstream = (upstream_host, upstream_port)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._exchanges: list[_Exchange] = []
        self._connections: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._listener: socket.socket | None = None
        self._port = 0

    @classmethod
    def before(cls, endpoint: Endpoint) -> FaultProxy:
        """A proxy for the server at this endpoint."""
        parts = urlsplit(endpoint.url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"the endpoint must have a host and a port: {endpoint.url}")
        return cls(parts.hostname, parts.port)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://{_HOST}:{self._port}"

    def endpoint(self, upstream: Endpoint) -> Endpoint:
        """The same account and bucket, reached through the proxy."""
        return replace(upstream, url=self.url)

    # The log

    @property
    def requests(self) -> tuple[Seen, ...]:
        """All requests so far, in the order in which they came; a stalled one is among them."""
        with self._lock:
            exchanges = tuple(self._exchanges)
        return tuple(exchange.seen() for exchange in exchanges)

    def forwarded(self, *, method: str | None = None, path: PathPredicate | None = None) -> int:
        """How many matching requests were sent on to the server."""
        return sum(
            seen.forwarded and method in (None, seen.method) and (path is None or path(seen.path))
            for seen in self.requests
        )

    def clear(self) -> None:
        """Forget the log and all faults; what is stalled goes on."""
        with self._lock:
            faults, self._faults, self._exchanges = self._faults, [], []
        for fault in faults:
            fault.release()

    # The faults

    def refuse(
        self, *, times: int = 1, method: str | None = None, path: PathPredicate | None = None
    ) -> Fault:
        """Close the connection as soon as the request is known. See also `down`."""
        return self._add(_refuse, times, method, path)

    def reset(
        self, *, times: int = 1, method: str | None = None, path: PathPredicate | None = None
    ) -> Fault:
        """Reset the connection (RST); the request does not reach the server."""
        return self._add(_reset, times, method, path)

    def delay(
        self,
        seconds: float,
        *,
        times: int = 1,
        method: str | None = None,
        path: PathPredicate | None = None,
    ) -> Fault:
        """Wait before the request is sent on."""

        def action(exchange: _Exchange, fault: Fault) -> bool:
            fault.pause(seconds)
            return exchange.answer(exchange.forward())

        return self._add(action, times, method, path)

    def lose_reply(
        self, *, times: int = 1, method: str | None = None, path: PathPredicate | None = None
    ) -> Fault:
        """Let the request take effect, then close without a byte of the reply."""
        return self._add(_lose_reply, times, method, path)

    def lose_reply_after(
        self,
        body_bytes: int,
        *,
        times: int = 1,
        method: str | None = None,
        path: PathPredicate | None = None,
    ) -> Fault:
        """Close after the reply's head and this many bytes of its body."""

        def action(exchange: _Exchange, fault: Fault) -> bool:
            reply = exchange.forward()
            exchange.client.sendall(reply.head + reply.body[:body_bytes])
            return False

        return self._add(action, times, method, path)

    def stall(
        self,
        *,
        times: int = 1,
        method: str | None = None,
        path: PathPredicate | None = None,
        reached: bool = False,
    ) -> Fault:
        """Give no answer until the fault is released; `reached` sends the request on at once."""

        def action(exchange: _Exchange, fault: Fault) -> bool:
            if reached:
                reply = exchange.forward()
                fault.pause(None)
            else:
                fault.pause(None)
                reply = exchange.forward()
            return exchange.answer(reply)

        return self._add(action, times, method, path)

    def respond(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        times: int = 1,
        method: str | None = None,
        path: PathPredicate | None = None,
    ) -> Fault:
        """Answer with this instead of asking the server."""
        reason = HTTPStatus(status).phrase
        lines = [f"{name}: {value}\r\n" for name, value in (headers or {}).items()]
        lines.append(f"content-length: {len(body)}\r\n")
        encoded = tuple(line.encode("latin-1") for line in lines)
        reply = Message(f"HTTP/1.1 {status} {reason}\r\n".encode(), encoded, body)

        def action(exchange: _Exchange, fault: Fault) -> bool:
            return exchange.answer(reply)

        return self._add(action, times, method, path)

    @contextlib.contextmanager
    def down(self) -> Generator[None, None, None]:
        """Refuse new connections, as a stopped server does, and drop those that are open."""
        self._close_listener()
        self._drop_connections()
        try:
            yield
        finally:
            self._listen()

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
        self._drop_connections()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(2.0)

    def _add(
        self, action: _Action, times: int, method: str | None, path: PathPredicate | None
    ) -> Fault:
        fault = Fault(action, method, path, times)
        with self._lock:
            self._faults.append(fault)
        return fault

    def _listen(self) -> None:
        self._listener = socket.create_server((_HOST, self._port), backlog=256)
        self._port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # shutdown() wakes the thread that accepts; close() alone would not.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _drop_connections(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _start(self, target: Callable[[socket.socket], None], connection: socket.socket) -> None:
        def run() -> None:
            try:
                target(connection)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="fault-proxy", daemon=True)
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
            with self._lock:
                self._connections.add(connection)
            self._start(self._serve, connection)

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, client.makefile("rb") as stream, client.makefile("wb") as reply:
                while True:
                    request = read_request(stream, reply)
                    if request is None or not self._exchange(client, request):
                        break
        except (OSError, MessageError):
            # A client or the server hung up, which is this proxy's daily bread.
            pass
        finally:
            with self._lock:
                self._connections.discard(client)

    def _exchange(self, client: socket.socket, request: Message) -> bool:
        exchange = _Exchange(client, request, self._upstream)
        with self._lock:
            self._exchanges.append(exchange)
            fault = next(
                (fault for fault in self._faults if fault.matches(request.method, exchange.path)),
                None,
            )
            if fault is not None:
                fault.take()
        if fault is not None:
            return fault.action(exchange, fault)
        return exchange.answer(exchange.forward())


class _Exchange:
    """One request of a client, and what can be done with it."""

    def __init__(self, client: socket.socket, request: Message, upstream: tuple[str, int]) -> None:
        self.client = client
        self.request = request
        self.path = urlsplit(request.target).path
        self.forwarded = False
        self._upstream = upstream

    def seen(self) -> Seen:
        """What the log says about it now."""
        return Seen(self.request.method, self.path, self.forwarded)

    def forward(self) -> Message:
        """Send the request to the server and read its whole reply."""
        with (
            socket.create_connection(self._upstream, timeout=_TIMEOUT_SECONDS) as server,
            server.makefile("rb") as stream,
        ):
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.forwarded = True
            server.sendall(self.request.head + self.request.body)
            return read_reply(stream, self.request.method)

    def answer(self, reply: Message) -> bool:
        """Send the reply to the client. Whether the connection stays open."""
        body = b"" if self.request.method == "HEAD" else reply.body
        self.client.sendall(reply.head + body)
        has_end = (
            reply.header("content-length") is not None
            or reply.header("transfer-encoding") is not None
            or self.request.method == "HEAD"
            or reply.status in (204, 304)
        )
        return has_end and not reply.closes and not self.request.closes


_Action = Callable[[_Exchange, Fault], bool]


def _refuse(exchange: _Exchange, fault: Fault) -> bool:
    return False


def _reset(exchange: _Exchange, fault: Fault) -> bool:
    exchange.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return False


def _lose_reply(exchange: _Exchange, fault: Fault) -> bool:
    exchange.forward()
    return False
