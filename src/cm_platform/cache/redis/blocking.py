"""The blocking face's way to one server: a bounded pool of connections, last used first.

The SDK's pool costs more than a command does (its bookkeeping and its events); connections,
handshake and parser are the SDK's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cm_platform.errors import UnavailableError

from .connection import Address, BlockingConnection
from .errors import lost, not_connected, sayable
from .link import Command, packer


class BlockingLink:
    """One server under the blocking runtime. See `Link`; safe to share among threads."""

    def __init__(self, address: Address, pool_size: int) -> None:
        import redis.exceptions as sdk

        self._pack = packer()
        self._ping = self._pack([("PING",)])
        self._refusals = (sdk.ResponseError, sdk.BusyLoadingError, sdk.AuthenticationError)
        self._demoted = sdk.ReadOnlyError
        self._forbidden = sdk.NoPermissionError
        self._trouble = (sdk.ConnectionError, OSError)
        self._address = address
        self._size = pool_size
        self._idle: deque[BlockingConnection] = deque()
        self._freed = threading.Condition()
        self._open = 0
        self._waiting = 0
        self._closed = False

    async def run(self, partition: str, commands: Sequence[Command]) -> list[Any]:
        """See `Link.run`."""
        data = self._pack(commands)
        replies: list[Any] = []
        demoted = False
        connection = self._taken()
        try:
            connection.send_packed_command([data], check_health=False)
            for _ in commands:
                try:
                    replies.append(connection.read_response(disconnect_on_error=False))
                except self._refusals as refusal:
                    replies.append(refusal)
                    demoted = demoted or isinstance(refusal, self._demoted)
        except Exception as error:
            self._discard(connection)
            if isinstance(error, self._trouble):
                # A server that was restarted has forgotten them all: one failed call is enough.
                self._discard_idle()
            raise lost(error) from error
        except BaseException:
            # Interrupted between a command and its reply: nobody else must read that.
            self._discard(connection)
            raise
        if demoted:
            # By a failover. Its name may lead to the new master by now.
            self._discard(connection)
            self._discard_idle()
        else:
            self._release(connection)
        return replies

    async def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        self._closed = True
        self._discard_idle()

    def _taken(self) -> BlockingConnection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._waited_for()
            if not connection.is_connected:
                self._connect(connection)
                return connection
            try:
                # Something to read, before anything was asked, is the server's goodbye.
                if not connection.can_read(0):
                    return connection
            except self._trouble:
                pass
            except BaseException:
                # Interrupted, as by a signal: its place is another's.
                self._discard(connection)
                raise
            self._discard(connection)

    def _waited_for(self) -> BlockingConnection:
        deadline = time.monotonic() + self._address.connect_timeout
        with self._freed:
            self._waiting += 1
            try:
                while True:
                    if self._closed:
                        raise UnavailableError("the backend was closed", not_sent=True)
                    if self._idle:
                        return self._idle.pop()
                    if self._open < self._size:
                        connection = self._address.blocking_connection()
                        self._open += 1
                        return connection
                    if not self._freed.wait(deadline - time.monotonic()):
                        raise UnavailableError(
                            f"all {self._size} connections are in use: raise `pool_size`",
                            retryable=True,
                            not_sent=True,
                        )
            finally:
                self._waiting -= 1

    def _connect(self, connection: BlockingConnection) -> None:
        try:
            connection.connect()
            # A system takes connections for a server that was killed a moment ago, and a server
            # that still loads its data takes them, too. Both show before it would matter.
            connection.send_packed_command([self._ping], check_health=False)
            with suppress(self._forbidden):
                connection.read_response()
        except Exception as error:  # noqa: BLE001 - classified, whatever it is
            self._discard(connection)
            raise not_connected(error) from sayable(error)
        except BaseException:
            self._discard(connection)
            raise

    def _release(self, connection: BlockingConnection) -> None:
        self._idle.append(connection)
        # In this order: whoever waits counted itself before it looked for what is idle.
        if self._waiting:
            with self._freed:
                self._freed.notify()
        if self._closed:
            self._discard_idle()

    def _discard(self, connection: BlockingConnection) -> None:
        try:
            connection.disconnect()
        finally:
            with self._freed:
                self._open -= 1
                self._freed.notify()

    def _discard_idle(self) -> None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            self._discard(connection)


__all__ = ["BlockingLink"]
