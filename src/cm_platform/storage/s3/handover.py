"""What becomes of an answer whose caller was cancelled while a worker thread waited for it."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """An answer on its way from the thread that gets it to whoever waits for it.

    discard: undoes an answer that nobody takes. Called in the thread, and may block there.
    discard_here: the same where the caller is, when the answer came before the caller left.
    """

    def __init__(self, discard: Callable[[T], object], discard_here: Callable[[T], object]) -> None:
        self._discard = discard
        self._discard_here = discard_here
        self._guard = threading.Lock()
        self._abandoned = False
        self._answers: list[T] = []

    def done(self, answer: T) -> T:
        """The thread has it."""
        with self._guard:
            self._answers.append(answer)
            abandoned = self._abandoned
        if abandoned:
            self._discard(answer)
        return answer

    async def taken(self, waiting: Awaitable[T]) -> T:
        """Wait for it; whoever leaves before that leaves nothing behind."""
        try:
            return await waiting
        except BaseException:
            with self._guard:
                self._abandoned = True
                answers = list(self._answers)
            for answer in answers:
                self._discard_here(answer)
            raise


__all__ = ["Handover"]
