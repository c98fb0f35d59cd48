"""Connections to Postgres, of either face: a bounded pool, and no wait without an end."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self, TypeAlias, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout

from cm_platform.errors import ConfigInvalidError, InvalidArgumentError, UnavailableError
from cm_platform.runtime import Runtime, entered, settle

from .driver import PostgresLedgerConfig
from .errors import LateError, failed, not_connected

T = TypeVar("T")

Ask: TypeAlias = Callable[[bytes, Mapping[str, Any]], Awaitable[list[TupleRow]]]
"""Executes a statement; the rows that it answers."""

_PREPARE_AFTER: Final = 5
_WORKERS: Final = 1
_NO_PARAMETERS: Final[Mapping[str, Any]] = {}


class Connections:
    """The pool of one ledger. No I/O before it is used."""

    def __init__(self, config: PostgresLedgerConfig, runtime: Runtime) -> None:
        self._config = config
        self._runtime = runtime
        self._conninfo = _conninfo(config)
        self._refusal: BaseException | None = None
        self._inherited: list[object] = []
        self._closed = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._guard = self._runtime.lock()
        self._is_open = False
        made: Any = AsyncConnectionPool if self._runtime.is_async else ConnectionPool
        self._pool: ConnectionPool[_Connection] | AsyncConnectionPool[_AsyncConnection] = made(
            self._conninfo,
            connection_class=_remembering(self._runtime.is_async, self._remember),
            kwargs={
                "autocommit": True,
                # Behind a pooler the next statement may meet a server that knows none of them.
                "prepare_threshold": None if self._config.pooler else _PREPARE_AFTER,
            },
            configure=self._configure_async if self._runtime.is_async else self._configure,
            min_size=self._config.pool_min,
            max_size=self._config.pool_max,
            timeout=self._config.connect_timeout,
            # Not the minutes of the default: it waits longer after each failure, and would go on
            # waiting when the server has long been back.
            reconnect_timeout=self._config.connect_timeout,
            num_workers=_WORKERS,
            name="cm_platform-ledger",
            open=False,
        )
        # Last: whoever sees the new number must find the rest new, too.
        self._pid = os.getpid()

    async def ask(
        self, statement: bytes, parameters: Mapping[str, Any] = _NO_PARAMETERS
    ) -> list[TupleRow]:
        """Execute one statement, which is a transaction by itself; the rows that it answers."""
        async with self._lent() as connection:
            return await _asked(connection, statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Ask, None]:
        """A transaction for the block, READ COMMITTED; what is raised undoes it."""
        async with self._lent() as connection:
            try:
                async with entered(connection.transaction()):

                    async def ask(
                        statement: bytes, parameters: Mapping[str, Any]
                    ) -> list[TupleRow]:
                        return await _asked(connection, statement, parameters)

                    yield ask
            except psycopg.Error as error:
                # Of its beginning or its end: at the end, it may have been committed.
                raise failed(error) from None

    async def close(self) -> None:
        """Close all connections; those in use, when they come back. May be called twice."""
        self._closed = True
        async with self._guard:
            if self._is_open and self._pid == os.getpid():
                await settle(self._pool.close())

    @asynccontextmanager
    async def _lent(self) -> AsyncGenerator[Any, None]:
        pool: Any = await self._opened()
        while True:
            try:
                connection = await settle(pool.getconn())
            except PoolClosed:
                raise _closed() from None
            except PoolTimeout:
                refusal = self._refusal
                raise not_connected(refusal, self._config.pool_max) from refusal
            if _is_quiet(connection):
                break
            await settle(connection.close())
            await settle(pool.putconn(connection))
        try:
            yield connection
        finally:
            await settle(pool.putconn(connection))

    async def _opened(self) -> object:
        if self._pid != os.getpid():
            # Not closed, and not collected either: its sockets and threads are the parent's.
            self._inherited.append(self._pool)
            self._begin_anew()
        if not self._is_open:
            async with self._guard:
                if self._closed:
                    raise _closed()
                await settle(self._pool.open())
                self._is_open = True
        return self._pool

    def _remember(self, refusal: BaseException | None) -> None:
        self._refusal = refusal

    def _configure(self, connection: _Connection) -> None:
        connection.patience = self._config.read_timeout
        # Under any other, a count in a transaction would be from before its wait for the lock.
        connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)

    async def _configure_async(self, connection: _AsyncConnection) -> None:
        connection.patience = self._config.read_timeout
        await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)


async def _asked(
    connection: Any, statement: bytes, parameters: Mapping[str, Any]
) -> list[TupleRow]:
    try:
        cursor = await settle(connection.execute(statement, parameters))
        rows: list[TupleRow] = [] if cursor.description is None else await settle(cursor.fetchall())
    except psycopg.Error as error:
        # A refusal's own message may repeat the row.
        is_lost = error.sqlstate is None and isinstance(error, psycopg.OperationalError)
        raise failed(error) from (error if is_lost else None)
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            "text must be Unicode without lone surrogates", not_sent=True
        ) from None
    return rows


class _Connection(psycopg.Connection[TupleRow]):
    """patience: seconds for each wait; the SDK's own has no end."""

    patience = math.inf

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """See the SDK's."""
        try:
            return super().wait(_bounded(gen, self.patience), *args, **kwargs)
        except LateError:
            self.pgconn.finish()
            raise


class _AsyncConnection(psycopg.AsyncConnection[TupleRow]):
    """See `_Connection`."""

    patience = math.inf

    async def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """See the SDK's."""
        try:
            return await super().wait(_bounded(gen, self.patience), *args, **kwargs)
        except LateError:
            self.pgconn.finish()
            raise


def _bounded(gen: PQGen[T], seconds: float) -> PQGen[T]:
    """The same, until the time is over. Who drives it looks in again every 0.1 s."""
    end = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > end:
                raise LateError("no answer in time")
            wanted = gen.send(ready)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _remembering(is_async: bool, remember: Callable[[BaseException | None], None]) -> type[Any]:
    """A class of connections that tells how each attempt ended: the pool keeps it to itself."""
    if is_async:

        class Async(_AsyncConnection):
            @classmethod
            async def connect(cls, *args: Any, **kwargs: Any) -> Self:
                try:
                    made = await super().connect(*args, **kwargs)
                except psycopg.Error as error:
                    remember(error)
                    raise
                remember(None)
                return made

        return Async

    class Blocking(_Connection):
        @classmethod
        def connect(cls, *args: Any, **kwargs: Any) -> Self:
            try:
                made = super().connect(*args, **kwargs)
            except psycopg.Error as error:
                remember(error)
                raise
            remember(None)
            return made

    return Blocking


def _is_quiet(connection: Any) -> bool:
    """Whether there is nothing to read, which before a question is the server's goodbye."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return not poll.poll(0)


def _conninfo(config: PostgresLedgerConfig) -> str:
    try:
        given = conninfo_to_dict(config.url.get_secret_value())
    except psycopg.Error:
        # The SDK's message may repeat the URL.
        raise ConfigInvalidError(
            "url is not understood: check the names of its parameters, and that special "
            "characters in user and password are written as %40"
        ) from None
    options = [str(given["options"])] if given.get("options") else []
    if not config.pooler:
        milliseconds = max(1, math.ceil(config.read_timeout * 1000))
        options += [
            f"-c statement_timeout={milliseconds}",
            # Of a process that is stopped in a transaction, which keeps every writer waiting.
            f"-c idle_in_transaction_session_timeout={milliseconds}",
            # Under another default, what had to wait for a row gets an error, and no answer.
            "-c default_transaction_isolation=read\\ committed",
        ]
    # The SDK counts whole seconds, two at least.
    timeout = max(2, math.ceil(config.connect_timeout))
    made: dict[str, Any] = {
        "keepalives_idle": 60,
        # A replica would answer, too: with a state of before, and a lease on it.
        "target_session_attrs": "read-write",
        **given,
        "client_encoding": "UTF8",
        "connect_timeout": timeout,
        "application_name": config.application_name,
    }
    if options:
        made["options"] = " ".join(options)
    return make_conninfo("", **made)


def _closed() -> UnavailableError:
    return UnavailableError("the ledger was closed", not_sent=True)


__all__ = ["Ask", "Connections"]
