"""Whether anybody still waits for a write that a thread is making."""

from __future__ import annotations

from cm_platform.errors import InternalError


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


__all__ = ["Ticket"]
