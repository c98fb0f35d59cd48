"""The real Valkey starts, is killed, comes back with its data, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from cm_platform.testing.servers import ServerStartError
from cm_platform.testing.servers.valkey import ValkeyCluster, ValkeyServer, ask
from cm_platform.testing.servers.valkey_proxy import ValkeyProxy

from .test_process import SOURCE, gone_within, is_alive


def client(url: str, *, retries: int = 0, timeout: float = 5.0) -> redis.Redis:
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), retries), socket_timeout=timeout)


def test_a_durable_server_has_after_a_kill_what_it_acknowledged() -> None:
    with ValkeyServer(durable=True) as server:
        port, pid = server.port, server.pid
        assert ask(port, "SET", "a", "1") == b"OK"
        server.kill()
        assert not is_alive(pid)
        with pytest.raises(ConnectionRefusedError):
            ask(port, "PING")
        server.start()
        assert (server.port, server.pid != pid) == (port, True)
        assert ask(port, "GET", "a") == b"1"


def test_another_server_forgets() -> None:
    with ValkeyServer() as server:
        ask(server.port, "SET", "a", "1")
        server.kill()
        server.start()
        assert ask(server.port, "GET", "a") is None


def test_a_password_and_rules_are_asked_for() -> None:
    users = {"reader": "on >reading ~* +@read +@connection"}
    with ValkeyServer(password="p@ss/word", users=users) as server:
        with pytest.raises(RuntimeError, match="NOAUTH"):
            ask(server.port, "GET", "a")
        with client(server.url) as admin:
            assert admin.set("a", "1")
        with client(f"redis://reader:reading@127.0.0.1:{server.port}") as reader:
            assert reader.get("a") == b"1"
            with pytest.raises(redis.exceptions.NoPermissionError):
                reader.set("a", "2")
        command_line = Path(f"/proc/{server.pid}/cmdline").read_text()
        assert "p@ss" not in command_line


def test_a_paused_server_is_silent_until_it_goes_on() -> None:
    with ValkeyServer() as server, client(server.url, timeout=0.1) as user:
        assert user.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            user.ping()
        server.resume()
        assert ask(server.port, "PING") == b"PONG"


def test_a_configuration_that_is_refused_is_shown() -> None:
    with pytest.raises(ServerStartError, match="maxmemory"):
        ValkeyServer(settings={"maxmemory": "much"}).__enter__()


def test_three_nodes_are_one_cluster() -> None:
    with ValkeyCluster() as cluster:
        for number in range(50):
            name = f"k{number}"
            index = next(i for i in range(3) if key_slot(name.encode()) in cluster.slots(i))
            for at, node in enumerate(cluster.nodes):
                if at == index:
                    assert ask(node.port, "SET", name, "1") == b"OK"
                else:
                    moved = rf"MOVED \d+ 127\.0\.0\.1:{cluster.nodes[index].port}$"
                    with pytest.raises(RuntimeError, match=moved):
                        ask(node.port, "GET", name)
        assert sorted(slot for i in range(3) for slot in cluster.slots(i)) == list(range(16_384))
        pids = [node.pid for node in cluster.nodes]
    assert not any(is_alive(pid) for pid in pids)


def test_it_dies_with_a_parent_that_is_killed_and_takes_its_directory_along(
    tmp_path: Path,
) -> None:
    script = (
        "import time\n"
        "from cm_platform.testing.servers.valkey import ValkeyServer\n"
        "server = ValkeyServer(durable=True).__enter__()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(  # noqa: S603 - a script of this test
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE, "TMPDIR": str(tmp_path)},
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        pid = int(output.readline())
        assert is_alive(pid)
        assert list(tmp_path.iterdir())
        parent.kill()
        parent.wait()
    assert gone_within(pid, 5)
    assert not list(tmp_path.iterdir())


# The proxy


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def test_without_faults_the_proxy_changes_nothing(server: ValkeyServer) -> None:
    with ValkeyProxy(server.port) as proxy, client(server.url_at(proxy.port)) as user:
        value = bytes(range(256)) * 4096
        assert user.set("a", value)
        assert user.get("a") == value
        assert user.mget(["a", "absent"]) == [value, None]
        assert user.lrange("absent", 0, -1) == []
        assert user.eval("return {1, {2, 'x'}, false}", 0) == [1, [2, b"x"], None]
        with pytest.raises(redis.ResponseError):
            user.incr("a")
        pipeline = user.pipeline(transaction=False)
        for number in range(300):
            pipeline.set(f"k{number}", number)
        assert pipeline.execute() == [True] * 300
        assert proxy.commands.count("SET") == proxy.forwarded("SET") == 301


def test_a_lost_reply_is_executed_and_an_sdk_that_tries_again_counts_too_much(
    server: ValkeyServer,
) -> None:
    ask(server.port, "DEL", "n")
    with ValkeyProxy(server.port) as proxy:
        proxy.lose_reply("INCRBY", times=20, every=2)
        with client(server.url_at(proxy.port), retries=3) as user:
            for _ in range(200):
                user.incr("n")
        assert proxy.forwarded("INCRBY") == 220
    assert ask(server.port, "GET", "n") == b"220"


def test_a_cut_command_is_not_executed(server: ValkeyServer) -> None:
    ask(server.port, "DEL", "n")
    with ValkeyProxy(server.port) as proxy, client(server.url_at(proxy.port)) as user:
        proxy.cut("INCRBY")
        with pytest.raises(redis.ConnectionError):
            user.incr("n")
        assert (proxy.commands.count("INCRBY"), proxy.forwarded("INCRBY")) == (1, 0)
        assert user.incr("n") == 1


@pytest.mark.parametrize("reached", [False, True])
def test_a_stall_lasts_until_it_is_released(server: ValkeyServer, reached: bool) -> None:
    ask(server.port, "DEL", "n")
    with (
        ValkeyProxy(server.port) as proxy,
        client(server.url_at(proxy.port), timeout=0.1) as user,
    ):
        stall = proxy.stall("INCRBY", reached=reached)
        with pytest.raises(redis.TimeoutError):
            user.incr("n")
        assert proxy.forwarded("INCRBY") == int(reached)
        assert ask(server.port, "GET", "n") == (b"1" if reached else None)
        stall.release()
        deadline = time.monotonic() + 5
        while proxy.forwarded("INCRBY") < 1:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_a_proxy_that_is_down_refuses_and_comes_back(server: ValkeyServer) -> None:
    with ValkeyProxy(server.port) as proxy, client(server.url_at(proxy.port)) as user:
        assert user.ping()
        with proxy.down(), pytest.raises(redis.ConnectionError):
            user.ping()
        assert user.ping()
