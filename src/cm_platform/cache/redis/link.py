"""What a server is asked through: commands out, their replies back, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeAlias

Command: TypeAlias = tuple[str | bytes | int, ...]
"""A command and its arguments. Text is sent as UTF-8."""


class Link(Protocol):
    """One server, or a cluster of them, under one runtime.

    It is the only one who sends: once, and never again. What leaves it as an exception is
    classified already.
    """

    async def run(self, partition: str, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one write and read their replies, in order.

        partition: whose keys they are about; in a cluster it says which node is asked.

        An error reply stands in its command's place, not raised: it is the SDK's exception.
        Raises `unavailable` and `deadline_exceeded`, with `not_sent` where no command can have
        had an effect.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. May be called twice."""
        ...


def packer() -> Callable[[Sequence[Command]], bytes]:
    """What makes commands the bytes of one write."""
    # Untyped: its stub knows commands of one word only.
    pack: Callable[[Command], bytes] = import_module("hiredis").pack_command

    def packed(commands: Sequence[Command]) -> bytes:
        if len(commands) == 1:
            return pack(commands[0])
        return b"".join([pack(command) for command in commands])

    return packed


__all__ = ["Command", "Link", "packer"]
