"""One process's knowledge of where a tenant's cache stands: the ledger's word, while it is good."""

from __future__ import annotations

from typing import Final

from cm_platform.migration.lease import StageLease, View
from cm_platform.migration.ledger import Ledger, Subject
from cm_platform.routing import Stage
from cm_platform.runtime import Runtime

from .classes import by_group
from .mix import mix_subject
from .pair import Pair
from .plan import longest_exact
from .standing import Phase, Standing, Times, phases_of

_USED: Final = 0.95


class Stand:
    """One process's knowledge of where it stands."""

    __slots__ = (
        "_asked",
        "_covered",
        "_guard",
        "_lease",
        "_ledger",
        "_now",
        "_pair",
        "_phases",
        "_subject",
        "_waiting",
    )

    def __init__(
        self, lease: StageLease, ledger: Ledger, subject: Subject, pair: Pair, runtime: Runtime
    ) -> None:
        self._lease = lease
        self._ledger = ledger
        self._subject = subject
        self._pair = pair
        self._now = runtime.clock.monotonic
        # Until when, on our monotonic clock, each of them holds.
        self._phases = [Phase(float("inf"), Standing(Stage.OFF, -1, "source"))]
        self._asked = float("-inf")
        self._guard = runtime.lock()
        self._waiting = 0
        self._covered = 0

    def last(self) -> Standing:
        """What was known last: for what may be told without asking. At first, `off`."""
        phases = self._phases
        if len(phases) == 1:
            return phases[0].standing
        now = self._now()
        return next(standing for until, standing in phases if now < until)

    async def current(self) -> Standing:
        """What to begin by: of a lease ago at most. Raises `unavailable`."""
        known = self.last()
        held = self._lease.held()
        if held is not None and held.epoch == known.epoch:
            return known
        # While a change of sides is announced nothing is lent; but it takes longer than a lease,
        # and what begins now is looked at again when it is done.
        view = self._lease.last()
        if (
            view is not None
            and view.epoch == known.epoch
            and self._now() < self._asked + view.terms.lease * _USED
        ):
            return known
        return await self._ask()

    async def confirmed(self, standing: Standing) -> Standing:
        """What held when everything that was done until now was done. Raises `unavailable`."""
        held = self._lease.held()
        if held is not None and held.epoch == standing.epoch:
            return standing
        return await self._ask()

    async def refreshed(self) -> Standing:
        """What holds now. Raises `unavailable`."""
        return await self._ask()

    async def seen(self, standing: Standing) -> Standing:
        """What held when a read was done that was begun by `standing`; where nothing is shown at
        once anyway, as of a lease ago."""
        if self._pair.is_exact:
            return await self.confirmed(standing)
        now = await self.current()
        return standing if now.epoch == standing.epoch else now

    async def _ask(self) -> Standing:
        """Ask the ledger; one question for all who come while another is under way."""
        self._waiting += 1
        ticket = self._waiting
        async with self._guard:
            if self._covered >= ticket:
                return self.last()
            covers = self._waiting
            await self._asked_now()
            self._covered = covers
            return self.last()

    async def _asked_now(self) -> None:
        began = self._now()
        view = await self._lease.ask()
        known = self.last()
        if view.epoch == known.epoch:
            self._asked = max(self._asked, began)
            return
        phases = await self._learn(view)
        if view.epoch >= known.epoch:
            # Counted from before the questions: too early by as much, which settling allows for.
            self._phases = [Phase(began + left, standing) for left, standing in phases]
            self._asked = began

    async def _learn(self, view: View) -> list[Phase]:
        state = await self._ledger.state(self._subject)
        if state is None or (state.terms.source, state.terms.target) != (
            view.terms.source,
            view.terms.target,
        ):
            # Never started, or another one has ended where this would begin.
            return [Phase(float("inf"), Standing(Stage.OFF, view.epoch, "source"))]
        log = await self._ledger.log(self._subject)
        notes = await self._ledger.notes(self._subject)
        counts = await self._ledger.counts(mix_subject(self._subject))
        entered = next((line.at for line in log if line.epoch == state.epoch), 0.0)
        times = Times(
            now=entered + state.age,
            settling=view.terms.settling,
            exact=longest_exact(by_group(counts)),
        )
        return phases_of(view.stage, view.epoch, log, notes, self._pair, times)


__all__ = ["Stand"]
