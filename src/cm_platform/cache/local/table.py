"""What the operations stand on: the entries of a store, held still for one operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from cm_platform.errors import InvalidArgumentError
from cm_platform.sqlite import Ticket

T = TypeVar("T")


class Kept(NamedTuple):
    """A value, and the time of the table's clock (seconds) at which it is over; None: never."""

    value: bytes
    expires: float | None


class Table(Protocol):
    """The entries of a store. Nobody else writes while an operation has it."""

    @property
    def now(self) -> float:
        """The time, in seconds; only differences mean something."""
        ...

    def get(self, key: bytes) -> Kept | None:
        """What is kept, and whose time is not over. Counts as a use."""
        ...

    def put(self, key: bytes, value: bytes, expires: float | None) -> None:
        """Keep a value. What has to go for it goes: what is over first, then what is least used.

        Raises `invalid_argument`, and changes nothing, for what is larger than the whole store.
        """
        ...

    def expire(self, key: bytes, expires: float | None) -> None:
        """Give what is kept another time."""
        ...

    def remove(self, key: bytes) -> None:
        """Forget it, if it is there."""
        ...


class Store(Protocol):
    """A table, and how an operation gets hold of it.

    overhead: bytes that an entry is counted with beyond its key and its value.
    """

    overhead: int

    def read(self, work: Callable[[Table], T]) -> T:
        """Do work that only reads."""
        ...

    def write(self, work: Callable[[Table], T], ticket: Ticket) -> T:
        """Do work, all of it or nothing; nothing when the ticket was withdrawn before the end."""
        ...

    def ping(self) -> None:
        """Raise when the store cannot be used."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def size_of(key: bytes, value: bytes, overhead: int, max_bytes: int) -> int:
    """What an entry is counted with; `invalid_argument` when a store is too small for it."""
    size = len(key) + len(value) + overhead
    if size > max_bytes:
        raise InvalidArgumentError(
            f"this value takes {size} bytes with its key, and the whole cache has {max_bytes}: "
            "raise `max_bytes`, or keep it in storage and its key here",
            not_sent=True,
        )
    return size


__all__ = ["Kept", "Store", "Table", "size_of"]
