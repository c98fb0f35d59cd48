"""Three nodes: a tenant's keys share one, and calls follow slots that move or nodes that die."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from cm_platform.cache.redis import RedisCache
from cm_platform.cache.redis.cluster import slot_of
from cm_platform.errors import ConfigInvalidError, UnavailableError
from cm_platform.testing.servers.valkey import ValkeyCluster, ValkeyServer, ask

from .redis_faces import Face, config, entry, failure, on, one

TENANTS = [f"tenant-{number}/" for number in range(12)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster() as cluster:
        yield cluster


def home(cluster: ValkeyCluster, partition: str) -> ValkeyServer:
    """The node that had a tenant's slot at first."""
    slot = slot_of(partition)
    return next(node for index, node in enumerate(cluster.nodes) if slot in cluster.slots(index))


def test_each_tenants_keys_are_on_one_node_and_all_nodes_are_used(
    face: Face, cluster: ValkeyCluster
) -> None:
    async def scenario(cache: RedisCache) -> None:
        for partition in TENANTS:
            values = {f"{face}-k{n}": b"%d" % n for n in range(20)}
            stored = await cache.set_many(partition, values, ttl=60, along=list(values))
            assert not stored.failures
            assert list(stored.along) == list(values.values())
            assert list(await cache.get_many(partition, list(values))) == list(values.values())
            name = f"{face}-n"
            counted = await cache.increment(
                partition, name, 3, initial=entry(1, b"3"), ttl=60, along=[name, f"{face}-k1"]
            )
            assert counted.value == 3
            assert list(counted.along) == [entry(1, b"3"), b"1"]
            assert await cache.compare_and_set(partition, f"{face}-k1", b"1", b"one", ttl=None)
            assert not await cache.delete_many(partition, [f"{face}-k1", f"{face}-k2"])
            assert await one(cache, partition, f"{face}-k1") is None
        await cache.ping()

    on(face, config(cluster.url, cluster=True), scenario)
    assert {home(cluster, partition) for partition in TENANTS} == set(cluster.nodes)
    for partition in TENANTS:
        kept = ask(home(cluster, partition).port, "GET", f"{{{partition}}}{face}-k3")
        assert kept == b"3"


@pytest.mark.parametrize("key", ["{other}", "}{", "a}b", "{}", "plain"])
def test_braces_in_a_key_do_not_move_it(face: Face, cluster: ValkeyCluster, key: str) -> None:
    async def scenario(cache: RedisCache) -> None:
        for partition in TENANTS[:3]:
            await cache.set_many(partition, {key: b"1", "beside": b"2"}, ttl=60)
            found = await cache.get_many(partition, [key, "beside"])
            assert list(found) == [b"1", b"2"]

    on(face, config(cluster.url, cluster=True), scenario)


def test_a_partition_with_braces_still_shares_one_slot(face: Face, cluster: ValkeyCluster) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.set_many("a}b{c/", {"x": b"1", "y": b"2"}, ttl=60)
        assert list(await cache.get_many("a}b{c/", ["x", "y"])) == [b"1", b"2"]
        error = await failure(cache, cache.get_many("}a/", ["x", "y"]))
        assert isinstance(error, ConfigInvalidError)

    on(face, config(cluster.url, cluster=True), scenario)


@pytest.mark.parametrize("phase", ["moving", "moved"])
def test_a_slot_that_moves_is_followed(face: Face, phase: str) -> None:
    partition = "mover/"
    with ValkeyCluster() as cluster:
        source = home(cluster, partition)
        target = next(node for node in cluster.nodes if node is not source)
        slot = slot_of(partition)

        def move(key: str) -> None:
            physical = f"{{{partition}}}{key}"
            ask(source.port, "MIGRATE", "127.0.0.1", target.port, physical, 0, 5000)

        async def scenario(cache: RedisCache) -> None:
            await cache.set_many(partition, {"a": b"1", "b": b"2"}, ttl=60)
            names = {node: ask(node.port, "CLUSTER", "MYID") for node in (source, target)}
            ask(target.port, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
            ask(source.port, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
            move("a")
            if phase == "moved":
                move("b")
                for node in (target, source):
                    ask(node.port, "CLUSTER", "SETSLOT", slot, "NODE", names[target])
            # "a" is there and "b", at first, still here.
            assert await one(cache, partition, "a") == b"1"
            assert await one(cache, partition, "b") == b"2"
            assert (await cache.set(partition, "a", b"10", ttl=60, along=["a"])).along == [b"10"]
            for value in (1, 2):
                counted = await cache.increment(
                    partition, "n", 1, initial=entry(1, b"1"), ttl=60, along=["n"]
                )
                assert (counted.value, list(counted.along)) == (
                    value,
                    [entry(1, b"%d" % value)],
                )
            # Keys on both nodes cannot be read at once; that is told as a passing trouble.
            if phase == "moving":
                error = await failure(cache, cache.get_many(partition, ["a", "b"]))
                assert isinstance(error, UnavailableError)
                assert (error.retryable, error.not_sent) == (True, True)
            else:
                assert list(await cache.get_many(partition, ["a", "b"])) == [b"10", b"2"]

        on(face, config(cluster.url, cluster=True), scenario)


def test_a_node_that_died_and_came_back_is_found_again(face: Face) -> None:
    with ValkeyCluster() as cluster:
        partitions = {
            node: next(p for p in (f"t{n}/" for n in range(1000)) if home(cluster, p) is node)
            for node in cluster.nodes
        }
        victim = cluster.nodes[1]

        async def scenario(cache: RedisCache) -> None:
            for partition in partitions.values():
                await cache.set(partition, "a", b"1", ttl=60)
            victim.kill()
            error = await failure(cache, cache.get_many(partitions[victim], ["a"]))
            assert isinstance(error, UnavailableError)
            # Nobody else's tenant notices, before the cluster itself does.
            assert await one(cache, partitions[cluster.nodes[0]], "a") == b"1"
            again = await failure(cache, cache.get_many(partitions[victim], ["a"]))
            assert isinstance(again, UnavailableError)
            assert (again.retryable, again.not_sent) == (True, True)
            victim.start()
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert await one(cache, partitions[victim], "a") is None
                    break
                except UnavailableError as error:
                    assert error.retryable
                    assert time.monotonic() < deadline
            await cache.set(partitions[victim], "a", b"2", ttl=60)
            for node, partition in partitions.items():
                expected = b"2" if node is victim else b"1"
                assert await one(cache, partition, "a") == expected

        on(face, config(cluster.url, cluster=True, connect_timeout=1), scenario)


def test_a_cluster_that_is_none_and_a_server_that_is_one_are_told_apart(
    face: Face, cluster: ValkeyCluster, server: ValkeyServer
) -> None:
    async def alone(cache: RedisCache) -> None:
        error = await failure(cache, cache.get_many("a/", ["x"]))
        assert isinstance(error, ConfigInvalidError)
        assert "cluster = false" in error.message

    on(face, config(server.url, cluster=True), alone)

    async def unaware(cache: RedisCache) -> None:
        elsewhere = next(p for p in TENANTS if slot_of(p) not in cluster.slots(0))
        # The whole key decides where there are no braces; in these, the partition does.
        error = await failure(cache, cache.get_many(f"{{{elsewhere}}}", ["x"]))
        assert isinstance(error, ConfigInvalidError)
        assert "cluster = true" in error.message
        crossing = cache.get_many("", [f"{{{partition}}}x" for partition in TENANTS])
        assert isinstance(await failure(cache, crossing), ConfigInvalidError)

    on(face, config(cluster.url), unaware)


def test_the_operators_client_knows_the_cluster_too(cluster: ValkeyCluster) -> None:
    async def scenario(cache: RedisCache) -> None:
        client: Any = cache.native()
        assert client.ping()
        assert client.retry.get_retries() == 0

    on("blocking", config(cluster.url, cluster=True), scenario)


def test_a_closed_cluster_refuses_who_comes(face: Face, cluster: ValkeyCluster) -> None:
    async def scenario(cache: RedisCache) -> None:
        await cache.ping()
        await cache.close()
        error = await failure(cache, cache.get_many("a/", ["x"]))
        assert isinstance(error, UnavailableError)
        assert (error.retryable, error.not_sent) == (False, True)

    on(face, config(cluster.url, cluster=True), scenario)


def test_nobody_there_is_unavailable_and_nothing_was_sent(face: Face) -> None:
    with ValkeyServer() as gone:
        url = gone.url

    async def scenario(cache: RedisCache) -> None:
        error = await failure(cache, cache.set("a/", "x", b"1", ttl=None))
        assert isinstance(error, UnavailableError)
        assert (error.retryable, error.not_sent) == (True, True)

    on(face, config(url, cluster=True), scenario)
