"""A cluster: every tenant's keys share a slot, and each call goes to the node that has it.

A node that has given a slot away says where it went (MOVED), or, while the slot moves, where to
ask this once (ASK). Neither has executed anything, so the command is sent there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cm_platform.errors import ConfigInvalidError, PlatformError, UnavailableError
from cm_platform.runtime import Runtime

from .errors import refused
from .link import Command, Link

REDIRECTIONS: Final = 5
"""Of one call. More of them are no move but two nodes that do not agree."""


class Node(NamedTuple):
    """Where a node listens."""

    host: str
    port: int


class Cluster:
    """The nodes of a cluster. See `Link`.

    seed: the node that is asked first who serves what. linked: opens a node; no I/O.
    """

    def __init__(self, seed: Node, linked: Callable[[Node], Link], runtime: Runtime) -> None:
        import redis.exceptions as sdk

        self._seed = seed
        self._linked = linked
        self._guard = runtime.lock()
        self._links: dict[Node, Link] = {}
        self._slots: list[Node | None] = []
        self._stale = True
        self._closed = False
        self._moved = sdk.MovedError
        self._ask = sdk.AskError
        self._down = (sdk.ClusterDownError, sdk.ReadOnlyError)

    async def run(self, partition: str, commands: Sequence[Command]) -> list[Any]:
        """See `Link.run`."""
        slot = slot_of(partition)
        replies = await self._at(await self._node(slot), partition, commands)
        for _ in range(REDIRECTIONS):
            again = self._redirected(commands, replies)
            if not again:
                break
            for index in again:
                replies[index] = await self._followed(
                    replies[index], slot, partition, commands[index]
                )
        if any(isinstance(reply, self._down) for reply in replies):
            self._stale = True
        return replies

    async def close(self) -> None:
        """See `Link.close`."""
        self._closed = True
        links, self._links = list(self._links.values()), {}
        for link in links:
            await link.close()

    def _redirected(self, commands: Sequence[Command], replies: Sequence[Any]) -> list[int]:
        """What has to be sent again: what a node sent away, and what was read too early."""
        again: list[int] = []
        for index, (command, reply) in enumerate(zip(commands, replies, strict=True)):
            if isinstance(reply, self._ask) or (again and command[0] == "MGET"):
                again.append(index)
        return again

    async def _followed(self, reply: Any, slot: int, partition: str, command: Command) -> Any:
        # A MovedError is an AskError to the SDK.
        if isinstance(reply, self._moved):
            self._stale = True
            node = self._named(reply)
            self._slots[slot] = node
        elif isinstance(reply, self._ask):
            node = self._named(reply)
            return (await self._at(node, partition, [("ASKING",), command]))[1]
        else:
            node = self._slots[slot] or self._seed
        return (await self._at(node, partition, [command]))[0]

    def _named(self, reply: Any) -> Node:
        # A node that does not know its own name leaves the host out: it is the one we asked.
        return Node(reply.host or self._seed.host, reply.port)

    async def _at(self, node: Node, partition: str, commands: Sequence[Command]) -> list[Any]:
        if self._closed:
            raise UnavailableError("the backend was closed", not_sent=True)
        link = self._links.get(node) or self._links.setdefault(node, self._linked(node))
        try:
            return await link.run(partition, commands)
        except UnavailableError as error:
            # Perhaps a replica has taken its place, or somebody has just closed the link to a
            # node that left the cluster.
            self._stale = True
            error.retryable = error.retryable or (error.not_sent and not self._closed)
            raise
        except PlatformError:
            self._stale = True
            raise

    async def _node(self, slot: int) -> Node:
        if self._stale:
            await self._refresh()
        node = self._slots[slot]
        if node is None:
            self._stale = True
            raise UnavailableError(
                "no node of the cluster serves this slot now", retryable=True, not_sent=True
            )
        return node

    async def _refresh(self) -> None:
        async with self._guard:
            if not self._stale:
                return
            last: PlatformError = UnavailableError("no node of the cluster is known")
            for node in dict.fromkeys((*self._links, self._seed)):
                try:
                    [reply] = await self._at(node, "", [("CLUSTER", "SLOTS")])
                    if isinstance(reply, Exception):
                        raise _not_a_cluster(reply)
                except PlatformError as error:
                    last = error
                    continue
                self._slots = _read(reply, node)
                self._stale = False
                await self._close_all_but({found for found in self._slots if found})
                return
            # What was asked for has not been sent to anybody.
            last.not_sent = True
            raise last

    async def _close_all_but(self, nodes: set[Node]) -> None:
        for node in [node for node in self._links if node not in nodes]:
            await self._links.pop(node).close()


@lru_cache(maxsize=4096)
def slot_of(partition: str) -> int:
    """The slot of a partition's keys."""
    from redis.crc import key_slot

    if partition.startswith("}"):
        raise ConfigInvalidError(
            'in a cluster a layout must not begin with "}": keys of a tenant would not share a slot'
        )
    return key_slot(f"{{{partition}}}".encode())


def _read(reply: Any, asked: Node) -> list[Node | None]:
    slots: list[Node | None] = [None] * 16_384
    for first, last, (host, port, *_), *_ in reply:
        name = host.decode() if host else ""
        # "?": a node whose name nobody has told it.
        node = Node(name if name not in ("", "?") else asked.host, port)
        slots[first : last + 1] = [node] * (last - first + 1)
    return slots


def _not_a_cluster(reply: Exception) -> PlatformError:
    if "cluster support disabled" in str(reply).lower():
        return ConfigInvalidError(
            "the server is no node of a cluster: set cluster = false", not_sent=True
        )
    return refused(reply)


__all__ = ["REDIRECTIONS", "Cluster", "Node", "slot_of"]
