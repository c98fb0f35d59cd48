"""A connection that many callers share: a queue of calls out, a queue of replies back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

from cm_platform.errors import PlatformError, UnavailableError

from .connection import AsyncConnection
from .errors import lost

MAX_CALLS: Final = 512
MAX_BYTES: Final = 1_048_576
"""Of one write; a call that is larger goes alone."""


class Call:
    """Commands of one caller, and where it waits for their replies."""

    __slots__ = ("_count", "_replies", "data", "replies_ready", "sent")

    def __init__(self, data: bytes, count: int) -> None:
        self.data = data
        self.sent = 0.0
        self.replies_ready: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._count = count
        self._replies: list[Any] = []

    def take(self, reply: Any) -> bool:
        """Keep a reply; whether it was the last."""
        self._replies.append(reply)
        if len(self._replies) < self._count:
            return False
        if not self.replies_ready.done():
            self.replies_ready.set_result(self._replies)
        return True

    def fail(self, error: PlatformError) -> None:
        """Raise it at the caller."""
        if not self.replies_ready.done():
            self.replies_ready.set_exception(error)


class Wire:
    """One connection that is ready: a task that writes, one that reads, and a clock.

    usable: it takes calls. lost: why it has ended; no longer usable, it may still await replies.
    """

    def __init__(self, connection: AsyncConnection, timeout: float) -> None:
        import redis.exceptions as sdk

        self.usable = True
        self.lost: BaseException | None = None
        self._closing = False
        self._demoted = sdk.ReadOnlyError
        self._late = sdk.TimeoutError
        self._refusals = (sdk.ResponseError, sdk.BusyLoadingError, sdk.AuthenticationError)
        self._connection = connection
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Call] = deque()
        self._unanswered: deque[Call] = deque()
        self._heard = 0.0
        self._clock: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        # Not in the context of the caller who happened to be first: these outlive it.
        self._writer = asyncio.create_task(self._guarded(self._write), context=Context())
        self._reader = asyncio.create_task(self._guarded(self._read), context=Context())

    def put(self, call: Call) -> None:
        """Send it at the end of this turn of the loop."""
        self._queue.append(call)
        self._wake.set()

    async def close(self) -> None:
        """End both tasks, and wait for them and for the connection's end."""
        self._closing = True
        self._lose(ConnectionError("closed"))
        await asyncio.wait((self._writer, self._reader))

    async def _guarded(self, work: Callable[[], Any]) -> None:
        try:
            await work()
        except asyncio.CancelledError as error:
            # By `_lose`, or by whoever ends the loop.
            self._lose(error)
        except Exception as error:  # noqa: BLE001 - told to all who wait
            self._lose(error)
        finally:
            # TLS ends by a word from both sides; were the loop closed before the other's is there,
            # the socket would stay open. Who closes waits as long as for a connection, at most.
            with suppress(self._late):
                await self._connection.disconnect(nowait=not self._closing)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._batch():
                await self._connection.send_packed_command(batch, check_health=False)

    def _batch(self) -> list[bytes]:
        now = self._loop.time()
        data: list[bytes] = []
        size = 0
        queue = self._queue
        while queue and len(data) < MAX_CALLS:
            call = queue[0]
            size += len(call.data)
            if data and size > MAX_BYTES:
                break
            queue.popleft()
            if call.replies_ready.done():
                # Cancelled before it was sent.
                continue
            call.sent = now
            data.append(call.data)
            self._unanswered.append(call)
        if data and self._clock is None:
            self._clock = self._loop.call_later(self._timeout, self._check)
        return [b"".join(data)] if len(data) > 1 else data

    async def _read(self) -> None:
        read, unanswered, refusals = (
            self._connection.read_response,
            self._unanswered,
            self._refusals,
        )
        while True:
            try:
                reply = await read(disconnect_on_error=False)
            except refusals as refusal:
                reply = refusal
                if isinstance(refusal, self._demoted):
                    # By a failover. Its name may lead to the new master by now.
                    self.usable = False
            if not unanswered:
                raise ConnectionError("a reply to nothing")
            if unanswered[0].take(reply):
                unanswered.popleft()
                self._heard = self._loop.time()
                if not (self.usable or unanswered or self._queue):
                    raise ConnectionError("retired")

    def _check(self) -> None:
        self._clock = None
        if not self._unanswered or self.lost is not None:
            return
        since = max(self._unanswered[0].sent, self._heard)
        left = since + self._timeout - self._loop.time()
        if left > 0:
            self._clock = self._loop.call_later(left, self._check)
        else:
            self._lose(TimeoutError())

    def _lose(self, cause: BaseException) -> None:
        if self.lost is not None:
            return
        self.lost = cause
        self.usable = False
        if self._clock is not None:
            self._clock.cancel()
        for call in self._unanswered:
            call.fail(caused(lost(cause), cause))
        for call in self._queue:
            call.fail(_unsent())
        self._unanswered.clear()
        self._queue.clear()
        for task in (self._writer, self._reader):
            if task is not asyncio.current_task(self._loop):
                task.cancel()


def caused(error: PlatformError, cause: BaseException | None) -> PlatformError:
    """The error with its cause, to be raised elsewhere."""
    error.__cause__ = cause
    return error


def _unsent() -> PlatformError:
    return UnavailableError(
        "the connection to Redis was lost before the request was sent",
        retryable=True,
        not_sent=True,
    )


__all__ = ["MAX_BYTES", "MAX_CALLS", "Call", "Wire", "caused"]
