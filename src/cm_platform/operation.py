"""A row of data about a method: what it needs, and what may be done when it fails.

The executor decides from this data alone; it knows no kind and no backend.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal

# A capability is a stable string, unique within a kind. Each kind lists its own in its
# `backend.py`; a plain string lets a third party's kind bring its own.
Capability = str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a kind.

    service: the kind, such as "storage".
    name: the method, such as "put".
    access: whether it changes what is stored.
    requires: the capability without which the call is `unsupported`.
    idempotent: made twice, it leaves what made once leaves. Only then is a request that may
        have been executed sent again.
    visible: a reader can see what it changes. A write that nobody can see yet (a part of an
        upload) leaves no doubt behind, and is repeated like a read.
    continues: it belongs to what an earlier request began (an upload, a listing), and is never
        made anywhere else.
    """

    service: str
    name: str
    access: Literal["read", "write"]
    requires: Capability | None = None
    idempotent: bool = True
    visible: bool = True
    continues: bool = False
    span_name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "span_name", f"{self.service}.{self.name}")

    @property
    def leaves_doubt(self) -> bool:
        """Whether an unanswered request may have changed what somebody sees."""
        return self.access == "write" and self.visible


class Outcome(Enum):
    """What a look at the store said about a write that was not answered."""

    NOT_LANDED = "not_landed"
    """The write had no effect so far. It may still land, unless the error says otherwise."""
    UNKNOWN = "unknown"
    """It cannot be told apart from somebody else's doing."""


NOT_LANDED: Final = Outcome.NOT_LANDED
UNKNOWN: Final = Outcome.UNKNOWN


@dataclass(frozen=True, slots=True)
class Resolve:
    """How to find out what became of a write that was not answered.

    look: given the backend, looks at the store; the reply that was lost, or an Outcome.
    absent: the same, where the look raises `not_found`.
    """

    look: Callable[[Any], Awaitable[Any]]
    absent: Any = Outcome.UNKNOWN


__all__ = ["NOT_LANDED", "UNKNOWN", "Capability", "Operation", "Outcome", "Resolve"]
