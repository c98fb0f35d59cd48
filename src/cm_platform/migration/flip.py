"""Changing the side that is right, or ending a migration, while the tenant works.

First it is announced: nobody may use an answer of the ledger any longer than it takes to use it,
so that reads see the change. That takes as long as answers were lent for, and disturbs nobody.
Only then is writing paused, for as long as the writes that are under way need to end; a pause
that takes too long is undone and tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cm_platform.errors import UnavailableError
from cm_platform.runtime import Runtime

from .ledger import Busy, Fenced, Ledger, Move, Pending, State, Subject
from .persistence import persist
from .points import Point, reach
from .stepping import moved_by_another

_POLL: Final = 0.005
_MARGIN: Final = 0.05
_SLACK: Final = 30.0
# Times the longest pause: so long is waited for a quiet moment before writing is paused anyway.
_QUIET: Final = 5


@dataclass(frozen=True, slots=True)
class Flipped:
    """state: the new one. paused: seconds that no write could begin, at the longest.
    attempts: pauses."""

    state: State
    paused: float
    attempts: int


class Flip:
    """One change of sides.

    repair: works off intents that are due. told: what is waited for, for people.
    patience: seconds in all. longest_pause: seconds that a pause may take.
    announces: the authority changes, so nobody may use an old answer; else only writes are
        waited for, and not URLs to upload: they lead to the side that stays right.
    """

    def __init__(
        self,
        ledger: Ledger,
        subject: Subject,
        state: State,
        runtime: Runtime,
        *,
        repair: Callable[[], Awaitable[object]],
        told: Callable[[str], None],
        patience: float,
        longest_pause: float = 1.0,
        announces: bool = True,
    ) -> None:
        self._ledger = ledger
        self._subject = subject
        self._epoch = state.epoch
        self._lease = state.terms.lease
        self._runtime = runtime
        self._repair = repair
        self._told = told
        self._clock = runtime.clock.monotonic
        self._end = self._clock() + patience
        self._longest = longest_pause
        self._announces = announces
        self._paused = 0.0
        self._attempts = 0

    async def run(self, move: Move) -> Flipped:
        """Move to a stage whose authority is the other side.

        Raises `unavailable` (retryable) when it could not be done in time: nothing has changed.
        """
        try:
            if self._announces:
                await self._announced()
            while True:
                new = await self._attempted(move)
                if new is not None:
                    return Flipped(new, self._paused, self._attempts)
                left = await self._pending()
                if self._clock() > self._end:
                    raise self._busy(left)
                self._told(
                    f"waiting for {left.count} writes, the oldest began {left.oldest:.0f} s ago"
                )
                await self._quiet()
        except Fenced as error:
            raise moved_by_another() from error
        except BaseException:
            await self._undone()
            raise

    async def _announced(self) -> None:
        """Wait until no answer of before is in use, and no URL to upload is out."""
        await self._announce()
        await reach(Point.FLIP_ANNOUNCED)
        ready = self._clock() + self._lease + _MARGIN
        self._told(f"waiting {self._lease:g} s until nobody uses what the ledger said before")
        while True:
            await self._repair()
            left = await self._pending()
            now = self._clock()
            if now >= ready and not left.uploads:
                return
            if now > self._end:
                raise self._busy(left)
            if left.uploads:
                self._told(
                    f"waiting for {left.uploads} URLs to upload, the last of which expires in "
                    f"{max(left.until, 0):.0f} s"
                )
            await self._runtime.sleep(min(1.0, max(ready - now, _MARGIN)))
            await self._announce()

    async def _quiet(self) -> None:
        """Wait a while for a moment in which nothing is open but what is just under way."""
        until = min(self._end, self._clock() + self._longest * _QUIET)
        while True:
            # A rest between two pauses, at least: writers had to wait.
            await self._runtime.sleep(min(self._longest / 2, 0.5))
            await self._announce()
            await self._repair()
            if (await self._pending()).oldest < self._longest or self._clock() > until:
                return

    async def _attempted(self, move: Move) -> State | None:
        """Pause writing, for a moment, and move if everything under way has ended; else None."""
        self._attempts += 1
        began = self._clock()
        await persist(
            self._runtime, self._ledger.pause, self._subject, self._epoch, self._longest * 2
        )
        await reach(Point.FLIP_PAUSED)
        new: State | None = None
        busy = False
        try:
            if await self._drained():
                await reach(Point.FLIP_DRAINED)
                new = await persist(
                    self._runtime, self._ledger.move, self._subject, self._epoch, move
                )
                await reach(Point.MOVED)
        except Busy:
            busy = True
        if new is None:
            await persist(self._runtime, self._ledger.pause, self._subject, self._epoch, 0)
        self._paused = max(self._paused, self._clock() - began)
        if busy and self._announces:
            # The announcement or the pause ran out, or somebody was still in between.
            await self._announced()
        return new

    async def _drained(self) -> bool:
        end = self._clock() + self._longest
        while self._open(left := await self._pending()):
            if self._clock() >= end:
                return False
            if left.due:
                await self._repair()
            await self._runtime.sleep(_POLL)
        return True

    def _open(self, left: Pending) -> int:
        return left.count if self._announces else left.count - left.uploads

    async def _announce(self) -> None:
        if not self._announces:
            return
        await persist(
            self._runtime,
            self._ledger.announce,
            self._subject,
            self._epoch,
            self._lease + _SLACK,
        )

    async def _pending(self) -> Pending:
        return await persist(self._runtime, self._ledger.pending, self._subject)

    async def _undone(self) -> None:
        # Both end by themselves; this is sooner.
        with suppress(Fenced, ConnectionError, TimeoutError):
            await persist(self._runtime, self._ledger.pause, self._subject, self._epoch, 0)
            await persist(self._runtime, self._ledger.announce, self._subject, self._epoch, 0)

    def _busy(self, left: Pending) -> UnavailableError:
        return UnavailableError(
            f"the tenant's data could not change sides in time: {left.count} intents are open, "
            f"{left.uploads} of them URLs to upload; writing was paused for {self._paused:.2f} s "
            "and goes on. Try again",
            retryable=True,
            not_sent=True,
        )


__all__ = ["Flip", "Flipped"]
