"""What must still hold at the moment in which a write is committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cm_platform.errors import AlreadyExistsError, InternalError, PreconditionFailedError
from cm_platform.storage.backend import ObjectInfo


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of a key when a write to it is committed."""

    if_none_match: bool = False
    if_match: str | None = None

    def __bool__(self) -> bool:
        return self.if_none_match or self.if_match is not None

    def check(self, current: ObjectInfo | None) -> None:
        """Raise `already_exists` or `precondition_failed` when it does not."""
        if self.if_none_match and current is not None:
            raise AlreadyExistsError("an object with this key exists already")
        if self.if_match is not None:
            require(self.if_match, current)


UNCONDITIONAL: Final = Condition()


class Ticket:
    """Whether somebody still waits for a write. One that nobody waits for is not committed."""

    __slots__ = ("_withdrawn",)

    def __init__(self) -> None:
        self._withdrawn = False

    def withdraw(self) -> None:
        """The caller was cancelled."""
        self._withdrawn = True

    def check(self) -> None:
        """Raise when the caller is gone."""
        if self._withdrawn:
            raise InternalError("the caller was cancelled before the write was committed")


def require(etag: str, info: ObjectInfo | None) -> None:
    """`precondition_failed` unless the object is there and has that etag."""
    if info is None:
        raise PreconditionFailedError("no object has this key, and its etag was demanded")
    if info.etag != etag:
        raise PreconditionFailedError("the object has another etag than was demanded")


__all__ = ["UNCONDITIONAL", "Condition", "Ticket", "require"]
