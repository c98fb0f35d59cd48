"""Ledgers on a real Postgres, of both faces, and what goes on in its tables beside them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, Self, TypeVar
from uuid import uuid4

import psycopg

from cm_platform.migration.ledger import Intent, Move, Purpose, State, Subject, Terms
from cm_platform.migration.ledgers.postgres import BACKEND, PostgresLedger, PostgresLedgerConfig
from cm_platform.migration.ledgers.postgres.statements import Statements
from cm_platform.routing import Stage
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Runtime, drive

T = TypeVar("T")

FACES: Final = ("sync", "async")
SUBJECT: Final = Subject("storage", "acme")
NAMED: Final = {"kind": SUBJECT.kind, "tenant": SUBJECT.tenant_id}
LONG: Final = 1000.0
SAY: Final = Statements("cm_platform")


class Opened:
    """A ledger of one face, with its coroutines run to their end."""

    def __init__(self, face: str, url: str, **settings: Any) -> None:
        self._runner = asyncio.Runner() if face == "async" else None
        runtime: Runtime = AsyncRuntime() if self._runner else BlockingRuntime()
        config = PostgresLedgerConfig(url=url, **settings)
        self.ledger: PostgresLedger = self.run(BACKEND.open(config, runtime))

    def run(self, coroutine: Any) -> Any:
        return drive(coroutine) if self._runner is None else self._runner.run(coroutine)

    def state(self) -> State:
        found = self.run(self.ledger.state(SUBJECT))
        assert isinstance(found, State)
        return found

    def begin(self, epoch: int, *intents: Intent, owner: str = "writer") -> None:
        self.run(self.ledger.begin(SUBJECT, epoch, owner, intents, LONG))

    def started(self, *, lease: float = 0.0) -> int:
        """Started and moved to dualwrite; the epoch."""
        self.run(self.ledger.prepare())
        terms = Terms("to-new", "old", "new", lease=lease)
        state = self.run(self.ledger.start(SUBJECT, terms, move_to(Stage.OFF)))
        state = self.run(self.ledger.move(SUBJECT, state.epoch, move_to(Stage.DUALWRITE)))
        return int(state.epoch)

    def close(self) -> None:
        self.run(self.ledger.close())
        if self._runner is not None:
            self._runner.close()


@contextmanager
def opened(face: str, url: str, **settings: Any) -> Iterator[Opened]:
    ledger = Opened(face, url, **settings)
    try:
        yield ledger
    finally:
        ledger.close()


@contextmanager
def connected(url: str, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    """Another client; without autocommit it is in a transaction until `commit` or `rollback`."""
    with psycopg.connect(url, autocommit=autocommit, connect_timeout=5) as db:
        yield db


@contextmanager
def beside(work: Callable[[], T]) -> Iterator[Future[T]]:
    """Work that is done meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


def wait_until_blocked(url: str, db: psycopg.Connection) -> None:
    """Wait until somebody waits for a lock that this connection holds."""
    eventually(lambda: blocked_by(db, url) == 1)


def blocked_by(db: psycopg.Connection, url: str) -> int:
    """How many wait for a lock that this connection holds."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    with connected(url, autocommit=True) as watcher:
        [(count,)] = watcher.execute(query, [db.info.backend_pid]).fetchall()
    return int(count)


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def intent(key: str = "key", purpose: Purpose = Purpose.WRITE) -> Intent:
    return Intent(uuid4().hex, key, purpose)


def move_to(stage: Stage) -> Move:
    return Move(uuid4().hex, stage, "operator")


def begun(epoch: int, *intents: Intent, owner: str = "writer") -> dict[str, Any]:
    """The parameters of `SAY.begin`."""
    return {
        **NAMED,
        "epoch": epoch,
        "owner": owner,
        "ids": [one.id for one in intents],
        "keys": [one.key for one in intents],
        "purposes": [str(one.purpose) for one in intents],
        "uploads": False,
        "seconds": LONG,
    }


def entered(state: State, stage: Stage) -> dict[str, Any]:
    """The parameters of `SAY.enter`."""
    return {
        **NAMED,
        "migration_name": state.terms.migration,
        "source": state.terms.source,
        "target": state.terms.target,
        "lease": state.terms.lease,
        "longest": state.terms.longest,
        "soak": state.terms.soak,
        "stage": str(stage),
        "flipped": state.flipped,
        "move": uuid4().hex,
        "who": "operator",
        "before": str(state.stage),
        "evidence": "{}",
        "reason": None,
        "afresh": False,
    }


class LosingProxy:
    """Before a Postgres: loses an answer, once Postgres has given it, and hangs up.

    loses: set it, and the next answer is lost. turns: how often a client spoke after an answer,
    or at first: round trips, if it waits for each.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.loses = threading.Event()
        self.turns = 0
        self._run(self._serve)

    def _run(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self._upstream))
            self._sockets += [client, upstream]
            answered = threading.Event()
            answered.set()
            self._run(self._questions, client, upstream, answered)
            self._run(self._answers, upstream, client, answered)

    def _questions(
        self, client: socket.socket, upstream: socket.socket, answered: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                self.turns += answered.is_set()
                answered.clear()
                upstream.sendall(data)
        _hang_up(client, upstream)

    def _answers(
        self, upstream: socket.socket, client: socket.socket, answered: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := upstream.recv(65_536):
                if self.loses.is_set():
                    self.loses.clear()
                    break
                answered.set()
                client.sendall(data)
        _hang_up(client, upstream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        _hang_up(*self._sockets)
        for thread in self._threads:
            thread.join(10)
        for end in self._sockets:
            end.close()


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
