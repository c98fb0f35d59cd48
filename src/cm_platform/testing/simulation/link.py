"""How a client reaches its server: what the server does to its state is a function, called once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from .faults import Request

T = TypeVar("T")
Act = Callable[[], T]
"""What the server does, at once: answers or raises."""


class Link(Protocol):
    """How a client reaches its server."""

    async def send(
        self, request: Request, act: Act[T], about: object = "", *, spoilt: Act[T] | None = None
    ) -> T:
        """Make a request.

        act: what the server does. about: for the trace, such as the key. spoilt: what the
        server does instead when it is the reply that is at fault.
        """
        ...

    async def send_each(self, request: Request, acts: Sequence[Act[None]]) -> Sequence[int]:
        """Make a request that is carried out bit by bit; which of them failed."""
        ...


class DirectLink:
    """A link on which nothing happens: for use without a simulation, also from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()

    async def send(
        self, request: Request, act: Act[T], about: object = "", *, spoilt: Act[T] | None = None
    ) -> T:
        """See `Link.send`."""
        with self._guard:
            return act()

    async def send_each(self, request: Request, acts: Sequence[Act[None]]) -> Sequence[int]:
        """See `Link.send_each`."""
        with self._guard:
            for act in acts:
                act()
        return ()


__all__ = ["Act", "DirectLink", "Link"]
