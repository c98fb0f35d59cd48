"""Intents as calls use them: begun behind the fence, held for a while, ended or left.

As long as an intent stands, its key may differ between the two sides and somebody will look
after it: first its owner, and when the owner's time is over whoever repairs.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from cm_platform.errors import DeadlineExceededError, PlatformError, UnavailableError
from cm_platform.runtime import Runtime

from .lease import StageLease, View
from .ledger import Fenced, Intent, Ledger, Purpose, Subject

logger = logging.getLogger("cm_platform.migration")

_FIRST_WAIT: Final = 0.005
_LONGEST_WAIT: Final = 0.1
_RENEWALS: Final = 3


class Held:
    """Intents that are ours. Their owner acts until `deadline` (monotonic), and not after it.

    ids: by key; of those that were claimed, several may stand for one key.
    view: what the ledger said when they began.
    doubt: keys at which a change was sent and not answered. It may still land, and the two
        sides may differ again, however equal they look now.
    """

    __slots__ = ("deadline", "doubt", "ids", "owner", "view")

    def __init__(self, owner: str, intents: Iterable[Intent], view: View, deadline: float) -> None:
        self.owner = owner
        self.ids: dict[str, list[str]] = {}
        for intent in intents:
            self.ids.setdefault(intent.key, []).append(intent.id)
        self.view = view
        self.deadline = deadline
        self.doubt: set[str] = set()


class OverdueError(DeadlineExceededError):
    """The owner's time is over: from now on the intent belongs to whoever repairs."""


class Intents:
    """Makes and ends the intents of one process for one subject.

    act: seconds that an owner may act under an intent.
    quarantine: seconds after which nothing that an owner sent can land any more.
    """

    __slots__ = ("_act", "_ledger", "_quarantine", "_runtime", "_stage", "_subject")

    def __init__(
        self,
        ledger: Ledger,
        subject: Subject,
        stage: StageLease,
        runtime: Runtime,
        *,
        act: float,
        quarantine: float,
    ) -> None:
        self._ledger = ledger
        self._subject = subject
        self._stage = stage
        self._runtime = runtime
        self._act = act
        self._quarantine = quarantine

    @property
    def act(self) -> float:
        """Seconds that an owner may act."""
        return self._act

    async def begin(
        self, keys: Sequence[str], purpose: Purpose = Purpose.WRITE, *, lease: float = 0.0
    ) -> tuple[View, Held | None]:
        """Intents for the keys, or none where the stage needs none: what holds, and they.

        lease: seconds that something else may act under them beside us (a signed URL).

        Waits while writing is paused. Raises `unavailable`, with nothing sent, when that lasts
        too long or the ledger does not answer.
        """
        now = self._runtime.clock.monotonic
        patience = now() + self._act
        wait = _FIRST_WAIT
        view = await self._stage.current()
        # None where data is on one side: most tenants, most of the time.
        intents = [Intent(_new_id(), key, purpose) for key in keys if view.is_mirrored]
        owner = _new_id() if view.is_mirrored else ""
        while view.is_mirrored:
            began = now()
            try:
                await self._ledger.begin(
                    self._subject,
                    view.epoch,
                    owner,
                    intents,
                    self._act + self._quarantine + lease,
                )
            except Fenced:
                pass
            except (ConnectionError, TimeoutError) as error:
                raise UnavailableError(
                    "the ledger does not answer; while a tenant's data moves, nothing is "
                    "written without it",
                    retryable=True,
                    not_sent=True,
                ) from error
            else:
                return view, Held(owner, intents, view, began + self._act)
            before, view = view, await self._stage.ask()
            if view.epoch == before.epoch:
                if now() > patience or purpose is Purpose.UPLOAD:
                    raise UnavailableError(
                        "writing is paused while the tenant's data changes sides",
                        retryable=True,
                        retry_after=_LONGEST_WAIT,
                        not_sent=True,
                    )
                await self._runtime.sleep(wait * (0.5 + random.random() / 2))  # noqa: S311 - jitter
                wait = min(wait * 2, _LONGEST_WAIT)
        return view, None

    async def claim(self, limit: int) -> Held | None:
        """Take over intents whose owners' time is over; None when there are none."""
        owner = _new_id()
        began = self._runtime.clock.monotonic()
        claimed = await self._ledger.claim(
            self._subject, owner, self._act + self._quarantine, limit
        )
        if not claimed:
            return None
        # Asked afterwards: as long as these stand there is no flip, so this authority stays.
        return Held(owner, claimed, await self._stage.ask(), began + self._act)

    def check(self, held: Held) -> None:
        """Raise `OverdueError` when its owner may not act any more."""
        if self._runtime.clock.monotonic() >= held.deadline:
            raise OverdueError(
                "the ledger took so long that the time to act was over",
                not_sent=True,
                retryable=True,
            )

    async def renew(self, held: Held) -> None:
        """Act longer, where half of the time is over: there is time left when this returns.

        Raises `OverdueError` when somebody else has taken over meanwhile: until then it is not
        too late, however late it is. `deadline_exceeded` when the ledger takes longer to give
        time than what it gives.
        """
        now = self._runtime.clock.monotonic()
        if now < held.deadline - self._act / 2:
            return
        ids = _ids(held, held.ids)
        for _ in range(_RENEWALS):
            if not await self._ledger.extend(held.owner, ids, self._act + self._quarantine):
                held.deadline = now
                raise OverdueError("somebody else looks after an intent that was ours")
            # Counted from the question: its answer may come when that time is over.
            held.deadline = now + self._act
            now = self._runtime.clock.monotonic()
            if now < held.deadline:
                return
        raise DeadlineExceededError("the ledger is too slow to act under it", retryable=True)

    async def finish(self, held: Held, clean: Collection[str], *, after: float = 0.0) -> bool:
        """End those whose keys are the same on both sides, leave the others; whether all ended.

        clean: keys that were found the same. What is in doubt is left all the same.
        after: seconds until the others are due.
        Never raises: an intent that cannot be ended is due one day, and does no harm.
        """
        ended = [key for key in clean if key not in held.doubt]
        doubtful = [key for key in held.ids if key in held.doubt]
        dirty = [key for key in held.ids if key not in held.doubt and key not in clean]
        try:
            if ended:
                await self._ledger.end(held.owner, _ids(held, ended))
            if doubtful:
                await self._ledger.leave(held.owner, _ids(held, doubtful), self._quarantine)
            if dirty:
                await self._ledger.leave(held.owner, _ids(held, dirty), after)
        except PlatformError as error:
            logger.debug("intents could not be ended (%s); they are due later", error.code)
            return False
        return not doubtful and not dirty


def _ids(held: Held, keys: Iterable[str]) -> list[str]:
    return [id_ for key in keys for id_ in held.ids[key]]


def _new_id() -> str:
    # Unique, not secret; re-seeded in a forked child by the standard library.
    return f"{random.getrandbits(128):032x}"


__all__ = ["Held", "Intents", "OverdueError"]
