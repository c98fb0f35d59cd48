"""What the tests of the Cloudflare clients stand in for: time, a face, a gateway, the REST API."""

from __future__ import annotations

import asyncio
import heapq
import ssl
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson

from cm_platform.runtime import (
    SYSTEM_CLOCK,
    AsyncRuntime,
    BlockingRuntime,
    Clock,
    Runtime,
    drive,
)

T = TypeVar("T")


class FakeClock:
    """Stands still until it is told to move, or slept on."""

    def __init__(self, now: float = 1000.0, wall: float = 1_795_456_800.0) -> None:
        self.now = now
        self.wall_now = wall
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.wall_now

    def move(self, seconds: float) -> None:
        self.now += seconds
        self.wall_now += seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.move(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class SharedClock:
    """For many threads: time moves to the next waking whenever all of them sleep."""

    def __init__(self, threads: int, now: float = 1000.0) -> None:
        self._now = now
        self._awake = threads
        self._changed = threading.Condition()
        self._wakings: list[float] = []

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._changed:
            waking = self._now + seconds
            heapq.heappush(self._wakings, waking)
            self._awake -= 1
            self._advance()
            assert self._changed.wait_for(lambda: self._now >= waking, timeout=30)

    async def sleep_async(self, seconds: float) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        """Called by a thread that will not sleep again."""
        with self._changed:
            self._awake -= 1
            self._advance()

    def _advance(self) -> None:
        if self._awake or not self._wakings:
            return
        self._now = max(self._now, self._wakings[0])
        while self._wakings and self._wakings[0] <= self._now:
            heapq.heappop(self._wakings)
            self._awake += 1
        self._changed.notify_all()


class Face:
    """One of the two ways in which everything is run. The async one keeps its loop."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self._runner = asyncio.Runner() if is_async else None

    def runtime(self, clock: Clock = SYSTEM_CLOCK) -> Runtime:
        return AsyncRuntime(clock=clock) if self.is_async else BlockingRuntime(clock=clock)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return drive(coroutine) if self._runner is None else self._runner.run(coroutine)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()


@dataclass
class Request:
    """What a server was asked."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: tuple[str, int]


@dataclass
class Reply:
    """What it answers."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Server:
    """An HTTP server whose answers a test writes. `reply` may be changed at any time.

    tls: it speaks https with this.
    """

    def __init__(
        self, reply: Callable[[Request], Reply], tls: ssl.SSLContext | None = None
    ) -> None:
        self.reply = reply
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10
            disable_nagle_algorithm = True
            wbufsize = -1

            def answer(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(
                    self.command, self.path, headers, self.rfile.read(length), self.client_address
                )
                outer.requests.append(request)
                reply = outer.reply(request)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        class Threads(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                # A client hung up, which is what some tests are about.
                pass

        self._server = Threads(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def frame(head: object, values: bytes = b"") -> bytes:
    """A body of the gateway's, made by hand."""
    text = head if isinstance(head, bytes) else orjson.dumps(head)
    return len(text).to_bytes(4, "big") + text + values


def unframed(body: bytes) -> tuple[Any, bytes]:
    """The JSON part and the bytes after it."""
    end = 4 + int.from_bytes(body[:4], "big")
    return orjson.loads(body[4:end]), body[end:]
