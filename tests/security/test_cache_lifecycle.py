"""What interrupts, forks, and a change of the endpoint must not do to a cache."""

from __future__ import annotations

import os
import pickle
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cm_platform.cache.backend import Values
from cm_platform.cache.entry import Encoding, Entry, encode
from cm_platform.cache.keys import Names
from cm_platform.cache.local.file import FileStore
from cm_platform.cache.local.table import Table
from cm_platform.cache.operations import GET
from cm_platform.cache.reading import Reader
from cm_platform.cache.redis.blocking import BlockingLink
from cm_platform.cache.redis.connection import Address
from cm_platform.runtime import SYSTEM_CLOCK, drive
from cm_platform.testing.servers import ValkeyServer


@pytest.mark.parametrize("where", ["can_read", "send_packed_command", "read_response"])
def test_an_interrupt_takes_no_place_of_the_pool(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A signal's exception may come anywhere; a worker that goes on must not run out of places."""
    with ValkeyServer() as server:
        address = Address("127.0.0.1", server.port, connect_timeout=0.2)
        link = BlockingLink(address, pool_size=1)
        assert drive(link.run("", [("SET", "k", "v")])) == [b"OK"]
        (connection,) = link._idle

        def interrupted(*arguments: Any, **options: Any) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr(connection, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            drive(link.run("", [("GET", "k")]))
        assert drive(link.run("", [("GET", "k")])) == [b"v"]
        drive(link.close())


def test_a_place_comes_back_though_saying_goodbye_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with ValkeyServer() as server:
        link = BlockingLink(Address("127.0.0.1", server.port, connect_timeout=0.2), pool_size=1)
        drive(link.run("", [("PING",)]))
        (connection,) = link._idle
        goodbye = connection.disconnect

        def ended(timeout: float) -> bool:
            return True

        def interrupted() -> None:
            goodbye()
            raise KeyboardInterrupt

        monkeypatch.setattr(connection, "disconnect", interrupted)
        monkeypatch.setattr(connection, "can_read", ended)
        with pytest.raises(KeyboardInterrupt):
            drive(link.run("", [("PING",)]))
        assert len(drive(link.run("", [("PING",)]))) == 1
        drive(link.close())


def test_threads_that_fork_at_once_leave_the_file_usable(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "cache", SYSTEM_CLOCK, 65_536, fsync=False, busy_timeout=5)
    store.prepare()
    begun, end = threading.Event(), threading.Event()

    def use(table: Table) -> None:
        begun.set()
        end.wait(30)

    def fork() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    # While it is in use, each fork waits, and all wait together.
    user = threading.Thread(target=store.read, args=(use,), daemon=True)
    user.start()
    assert begun.wait(10)
    forks = [threading.Thread(target=fork, daemon=True) for _ in range(4)]
    for thread in forks:
        thread.start()
    end.wait(0.3)
    end.set()
    for thread in (user, *forks):
        thread.join(15)
        assert not thread.is_alive()
    assert store.read(lambda table: table.get(b"k")) is None
    store.close()


def test_a_password_is_taken_into_no_pickle() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Address("127.0.0.1", 6379, password="hush-hush"))


def test_what_was_cleared_stays_so_when_the_endpoint_changes_during_a_read() -> None:
    names = Names("acme/", "default")
    reader = _Overtaken(names)
    endpoint: Any = _endpoint()
    reader.versions.on(endpoint).learned(b"7", endpoint)
    values = drive(reader.values(_UNUSED, endpoint, ["k"], GET, None))
    assert values == {}


class _Overtaken(Reader):
    """While it waits for the store, another endpoint begins to serve the namespace."""

    __slots__ = ()

    async def fetch(self, executor: Any, endpoint: Any, names: list[str], operation: Any) -> Values:
        self.versions.on(_endpoint())
        before = Entry(Encoding.STR, 6, 0, 0, b"cleared", scope=self.names.scope)
        found: Sequence[bytes] = [encode(before)] * len(names)
        return found


_UNUSED: Any = None


def _endpoint() -> Any:
    limits = SimpleNamespace(generation_age=60.0, max_key=512)
    backend = SimpleNamespace(limits=limits, capabilities=frozenset(), evicts=False)
    return SimpleNamespace(backend=backend, runtime=SimpleNamespace(clock=SYSTEM_CLOCK))
