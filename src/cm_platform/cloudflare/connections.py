"""Connections to one host, kept open: each a transport of httpx with room for one connection.

Not one transport with room for all of them: its pool looks at each waiting request and each
connection whenever a request begins or ends. At 32 in flight that makes a request cost more than
three times the CPU time (httpcore 1.0; see `benchmarks/gateway.py`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import httpx

from cm_platform.errors import UnavailableError
from cm_platform.runtime import Event, Runtime

from .errors import Peer, Trouble, error_of_trouble

Transport: TypeAlias = httpx.HTTPTransport | httpx.AsyncHTTPTransport


class Connections:
    """At most `size` connections; the one used last is used next, so that few stay warm.

    new: makes a transport of the runtime's face; no I/O. peer: whose they are.
    """

    def __init__(
        self, size: int, runtime: Runtime, new: Callable[[], Transport], peer: Peer
    ) -> None:
        self._size = size
        self._runtime = runtime
        self._new = new
        self._peer = peer
        self._guard = threading.Lock()
        self._idle: list[Transport] = []
        self._waiting: deque[_Waiter] = deque()
        self._made = 0
        self._closed = False

    async def take(self, timeout: float) -> Transport:
        """One for the caller alone; waits for its turn at most `timeout` seconds.

        Raises `unavailable` when none became free.
        """
        with self._guard:
            self._check_open()
            if self._idle:
                return self._idle.pop()
            if self._made < self._size:
                transport = self._new()
                self._made += 1
                return transport
            waiter = _Waiter(self._runtime.event())
            self._waiting.append(waiter)
        try:
            await waiter.event.wait(timeout)
        except BaseException:
            if (given := self._withdrawn(waiter)) is not None:
                await self.give(given)
            raise
        if (given := self._withdrawn(waiter)) is None:
            self._check_open()
            raise error_of_trouble(Trouble.BUSY, self._peer)
        return given

    async def give(self, transport: Transport) -> None:
        """Back, fit for another request."""
        with self._guard:
            if not self._closed:
                if self._waiting:
                    waiter = self._waiting.popleft()
                    waiter.given = transport
                    waiter.event.set()
                else:
                    self._idle.append(transport)
                return
        await _close(transport)

    async def drop(self, transport: Transport) -> None:
        """Back, in a state that nobody knows: a fresh one takes its place."""
        await self.give(self._new())
        await _close(transport)

    async def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
            waiting, self._waiting = self._waiting, deque()
            for waiter in waiting:
                waiter.event.set()
        for transport in idle:
            await _close(transport)

    def _withdrawn(self, waiter: _Waiter) -> Transport | None:
        # Under the guard: it may be given one in the very moment in which it stops waiting.
        with self._guard:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            return waiter.given

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError(f"the client of {self._peer.name} was closed", not_sent=True)


class _Waiter:
    __slots__ = ("event", "given")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.given: Transport | None = None


async def _close(transport: Transport) -> None:
    if isinstance(transport, httpx.HTTPTransport):
        transport.close()
    else:
        await transport.aclose()


__all__ = ["Connections", "Transport"]
