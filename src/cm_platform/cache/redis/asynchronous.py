"""The async face's way to one server: one connection that all callers share.

What is asked for in one turn of the event loop goes out in one write, and more follows before
the replies are there. A caller that is cancelled leaves its place in the queue of replies;
what comes for it is read and dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any

from cm_platform.errors import PlatformError, UnavailableError

from .connection import Address, AsyncConnection
from .errors import not_connected, sayable
from .link import Command, packer
from .wire import Call, Wire, caused


class AsyncLink:
    """One server under the async runtime. See `Link`; belongs to the loop of its first use."""

    def __init__(self, address: Address) -> None:
        self._pack = packer()
        self._address = address
        self._wire: Wire | None = None
        self._retired: list[Wire] = []
        self._queue: list[Call] = []
        self._dialing: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, partition: str, commands: Sequence[Command]) -> list[Any]:
        """See `Link.run`."""
        call = Call(self._pack(commands), len(commands))
        wire = self._wire
        if wire is not None and wire.usable:
            wire.put(call)
        elif self._closed:
            raise _closed()
        else:
            self._queue.append(call)
            if self._dialing is None:
                self._dialing = asyncio.create_task(self._dial(), context=Context())
        return await call.replies_ready

    async def close(self) -> None:
        """Close the connection; who still waits for a reply gets `unavailable`."""
        self._closed = True
        if self._dialing is not None:
            self._dialing.cancel()
            await asyncio.wait((self._dialing,))
        if self._wire is not None:
            self._retired.append(self._wire)
            self._wire = None
        while self._retired:
            await self._retired.pop().close()

    async def _dial(self) -> None:
        try:
            wire = Wire(await self._connected(), self._address.read_timeout)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            cause = error
            self._refuse(lambda: caused(not_connected(cause), sayable(cause)))
        except BaseException:
            self._refuse(_closed)
            raise
        else:
            if self._wire is not None:
                self._retired.append(self._wire)
            self._retired = [old for old in self._retired if old.lost is None]
            self._wire = wire
            queue, self._queue = self._queue, []
            for call in queue:
                wire.put(call)
        finally:
            self._dialing = None

    def _refuse(self, error: Callable[[], PlatformError]) -> None:
        queue, self._queue = self._queue, []
        for call in queue:
            call.fail(error())

    async def _connected(self) -> AsyncConnection:
        from redis.exceptions import NoPermissionError

        connection = self._address.async_connection()
        try:
            async with asyncio.timeout(self._address.connect_timeout + self._address.read_timeout):
                await connection.connect()
                # A system takes connections for a server that was killed a moment ago, and a
                # server that still loads its data takes them, too. Both show before it matters.
                ping = [self._pack([("PING",)])]
                await connection.send_packed_command(ping, check_health=False)
                with suppress(NoPermissionError):
                    await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


def _closed() -> PlatformError:
    return UnavailableError("the backend was closed", not_sent=True)


__all__ = ["AsyncLink"]
