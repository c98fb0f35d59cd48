"""A caller of `cache.local` that goes away: its write is not made, and nobody else notices."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cm_platform.cache.local import operations
from cm_platform.cache.local.file import FileStore
from cm_platform.cache.local.table import Table
from cm_platform.errors import InternalError
from cm_platform.sqlite import Ticket

from .opened import ACME, MovingClock, opened


def test_a_write_whose_caller_is_gone_is_not_committed(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "cache", MovingClock(), 64 * 1024, fsync=False, busy_timeout=5)
    store.prepare()
    ticket = Ticket()

    def work(table: Table) -> None:
        table.put(b"a", b"1", None)
        ticket.withdraw()

    with pytest.raises(InternalError, match="cancelled"):
        store.write(work, ticket)
    assert store.read(lambda table: operations.get_many(table, [b"a"])) == [None]
    store.close()


class HaltingClock(MovingClock):
    """Stops the thread that asks for the time; a write asks when it has its transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.goes = threading.Event()
        self.goes.set()

    def wall(self) -> float:
        self.asked.set()
        assert self.goes.wait(30)
        return super().wall()


def test_a_caller_cancelled_within_its_transaction_leaves_nothing(tmp_path: Path) -> None:
    clock = HaltingClock()
    with opened("async", tmp_path / "cache", clock=clock) as cache:
        cache.set("a", b"1")
        clock.asked.clear()
        clock.goes.clear()

        async def act() -> None:
            first = asyncio.create_task(cache.cache.set(ACME, "a", b"2", ttl=None))
            await asyncio.to_thread(clock.asked.wait, 30)
            second = asyncio.create_task(cache.cache.set(ACME, "b", b"2", ttl=None))
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            clock.goes.set()
            assert (await second).stored

        cache.run(act())
        assert cache.get_many(["a", "b"]) == [b"1", b"2"]


def test_memory_never_suspends() -> None:
    with opened("async") as cache:
        before = threading.active_count()
        coroutine = cache.cache.set(ACME, "a", b"1", ttl=None)
        with pytest.raises(StopIteration):
            coroutine.send(None)
        assert cache.get("a") == b"1"
        assert threading.active_count() == before
