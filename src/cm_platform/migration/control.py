"""One tenant's migration in the hands of whoever runs it: look, start, move, step, go back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cm_platform.errors import (
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.routing import Stage
from cm_platform.runtime import Runtime

from .flip import Flip
from .ledger import (
    Fenced,
    Ledger,
    Move,
    Note,
    Skipped,
    State,
    Subject,
    Terms,
    Transition,
    home_of,
    is_mirrored,
)
from .mover import Mover, Planned
from .overview import known_objects, way_back
from .persistence import persist
from .points import Point, reach
from .progress import Progress, Report, unwatched
from .stages import (
    BACKFILL,
    ORDER,
    PLAN,
    VERIFICATION,
    Evidence,
    check_step,
    is_flip,
    missing,
    next_stage,
    settling_left,
)
from .starting import agreed, check_accepted, check_declared, under_way
from .stepping import Asked, Stepped, Waits, moved_by_another, new_id, whoami

_SKIPPED: Final = 1000
_MINUTES: Final = 300.0


class AsyncMigration:
    """One tenant's migration of one kind.

    Everything it does may be stopped at any moment and done again: the ledger knows how far it
    came. `config_invalid`, `unavailable` and the like come from the stores and the ledger.

    home: the backend where the data of a tenant is that was never migrated; None does not check.
    """

    def __init__(
        self,
        ledger: Ledger,
        subject: Subject,
        terms: Terms,
        mover: Mover,
        runtime: Runtime,
        *,
        max_divergence: float = 0.0,
        who: str | None = None,
        home: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._mover = mover
        self._max_divergence = max_divergence
        self._subject = subject
        self._terms = terms
        self._who = who or whoami()
        self._home = home
        self._asked = Asked()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._terms.migration!r}, {self._subject.kind!r})"

    @property
    def subject(self) -> Subject:
        """What moves."""
        return self._subject

    @property
    def terms(self) -> Terms:
        """What all processes agree on, as this one is configured."""
        return self._terms

    async def prepare(self) -> None:
        """Make the ledger's tables, where they are not there."""
        await persist(self._runtime, self._ledger.prepare)

    # Looking ------------------------------------------------------------------------------

    async def state(self) -> State:
        """Where it is. Raises `not_found` when it was never started."""
        state = await persist(self._runtime, self._ledger.state, self._subject)
        if state is None:
            raise NotFoundError("this tenant's migration was never started")
        if (state.terms.migration, state.terms.source, state.terms.target) != (
            self._terms.migration,
            self._terms.source,
            self._terms.target,
        ):
            if state.stage in (Stage.OFF, Stage.COMPLETE):
                raise NotFoundError("this tenant's migration was never started; another one was")
            raise PreconditionFailedError(
                f"another migration of this tenant is under way: {state.terms.migration}"
            )
        return state

    async def evidence(self) -> Evidence:
        """What is known, all of it."""
        state = await self.state()
        ledger, subject, runtime = self._ledger, self._subject, self._runtime
        pending = await persist(runtime, ledger.pending, subject)
        notes = await persist(runtime, ledger.notes, subject)
        return Evidence(
            state,
            pending,
            notes,
            await persist(runtime, ledger.counts, subject),
            max(len(await self.skipped()), _counted(notes)),
            await persist(runtime, ledger.log, subject),
            self._max_divergence,
        )

    async def missing(self, to: Stage | None = None) -> list[str]:
        """What has to be known before a stage, the next one by default, and is not."""
        evidence = await self.evidence()
        return missing(to or next_stage(evidence.state.stage), evidence)

    async def log(self) -> list[Transition]:
        """Every transition, the oldest first."""
        return list(await persist(self._runtime, self._ledger.log, self._subject))

    async def skipped(self) -> list[Skipped]:
        """Keys that could not be moved, and why; the first thousand."""
        return list(await persist(self._runtime, self._ledger.skipped, self._subject, _SKIPPED))

    async def check_home(self) -> None:
        """Raise `precondition_failed` where the data is not on the source: to start there would
        say so, and lose it."""
        state = await persist(self._runtime, self._ledger.state, self._subject)
        home = self._home if state is None else home_of(state)
        if home is not None and home != self._terms.source:
            raise PreconditionFailedError(
                f"this tenant's data is on {home}, and {self._terms.migration} moves it from "
                f"{self._terms.source}: start a migration whose source is {home}",
                not_sent=True,
            )

    async def plan(self, report: Report = unwatched) -> Planned:
        """Look at both stores, and say what the move would mean. Changes nothing."""
        return await self._mover.plan(report)

    async def forget_use(self) -> None:
        """Forget which operations the tenant has used, so that one of long ago is no obstacle.

        The next plan goes by what is used from now on. `unsupported` for storage.
        """
        await self._mover.forget()

    # Acting -------------------------------------------------------------------------------

    async def start(
        self,
        *,
        accept_losses: bool = False,
        no_other_writers: bool = False,
        report: Report = unwatched,
    ) -> State:
        """Begin, in the stage off.

        accept_losses: what `plan` lists as losses is accepted.
        no_other_writers: it is declared that nobody writes who does not use this library with
            this configuration (`Plan.declared` says it in full).

        Raises `precondition_failed` when the plan has obstacles, or losses that were not
        accepted, or nothing was declared, or a migration is under way, or the tenant's data is
        not on the source.
        """
        check_declared(no_other_writers)
        await self.check_home()
        before = await persist(self._runtime, self._ledger.state, self._subject)
        if before is not None and before.stage not in (Stage.OFF, Stage.COMPLETE):
            raise under_way()
        plan = await self.plan(report)
        check_accepted(plan, accept_losses)
        evidence = {"losses": plan.losses, "accepted": accept_losses, "no_other_writers": True}
        move = Move(new_id(), Stage.OFF, self._who, evidence)
        terms = agreed(self._terms, before)
        try:
            state = await persist(self._runtime, self._ledger.start, self._subject, terms, move)
        except Fenced as error:
            # A plan takes its time, in which others may have moved it to where it is right now.
            await self.check_home()
            raise under_way() from error
        await persist(self._runtime, self._ledger.note, self._subject, PLAN, dict(plan.body))
        return state

    async def backfill(
        self, *, resume: bool = True, report: Report = unwatched
    ) -> Mapping[str, Any]:
        """Bring over what was there before; how it ended, with `skipped`.

        resume: go on where the last one stopped. Waits first until nobody acts any more on what
        the ledger said before the stage was entered.

        Raises `precondition_failed` in a stage where nothing is brought over.
        """
        state = await self._settled("backfill", report)
        await self.repair()
        return await self._mover.backfill(state, report, await self._total(), resume=resume)

    async def verify(self, *, sample: float = 1.0, report: Report = unwatched) -> Mapping[str, Any]:
        """Compare both stores; what was found. It is evidence, clean or not.

        sample: of all objects, those whose bytes are read back, 0 to 1. All are described.
        """
        if not 0 <= sample <= 1:
            raise InvalidArgumentError("sample is a share, from 0 to 1")
        state = await self._settled("verify", report)
        await self.repair()
        found = await self._mover.verify(state, report, await self._total(), sample=sample)
        evidence = await self.evidence()
        if evidence.state.epoch != state.epoch:
            raise UnavailableError(
                "the stage changed while it was verified: verify again", retryable=True
            )
        await persist(self._runtime, self._ledger.note, self._subject, VERIFICATION, found)
        if found.get("clean") and evidence.differed:
            # All of it was compared since: what single reads saw before says nothing of now.
            await persist(self._runtime, self._ledger.reset_counts, self._subject)
        return found

    async def repair(self) -> dict[str, str]:
        """Finish what others began and did not end, as far as it is due; what failed, by key."""
        failures: dict[str, str] = {}
        while True:
            keys, failed = await persist(self._runtime, self._mover.repair)
            news = failed.keys() - failures.keys()
            failures.update(failed)
            if not keys and not news:
                return failures

    async def advance(
        self,
        to: Stage | None = None,
        *,
        override: str | None = None,
        patience: float | None = None,
        longest_pause: float = 1.0,
        report: Report = unwatched,
    ) -> Stepped:
        """Enter the next stage.

        to: that stage, if it is to be sure of it.
        override: why missing evidence does not matter; it is written down.
        patience: seconds that a change of sides may take in all; left out, as long as URLs to
            upload may live, and some minutes.
        longest_pause: seconds that it may keep writers waiting.

        Asked for again when its answer was lost, without `to`, it is taken once.

        Raises `precondition_failed` naming what is missing; `unavailable` (retryable) when the
        data could not change sides in time, or somebody else moves it, too.
        """
        waits = Waits(patience, longest_pause, report)
        if override is not None and not override.strip():
            raise InvalidArgumentError("an override needs a reason, which is written down")
        evidence = await self.evidence()
        if to is None and self._asked.was_taken(evidence.log, forth=True):
            return Stepped(evidence.state)
        to = to or next_stage(evidence.state.stage)
        return await self._stepped(evidence, to, override, waits)

    async def rollback(
        self,
        to: Stage | None = None,
        *,
        patience: float | None = None,
        longest_pause: float = 1.0,
        report: Report = unwatched,
    ) -> Stepped:
        """Go back one stage, or step by step to an earlier one. Always allowed before the end:
        both sides have everything.

        Asked for again when its answer was lost, without `to`, it is taken once.

        Raises `invalid_argument` from the end, or to a stage that is not earlier; `unavailable`
        as `advance` does.
        """
        waits = Waits(patience, longest_pause, report)
        evidence = await self.evidence()
        state, paused = evidence.state, 0.0
        if to is None and self._asked.was_taken(evidence.log, forth=False):
            return Stepped(state)
        for stage in way_back(state.stage, to):
            evidence = await self.evidence()
            if evidence.state.epoch != state.epoch:
                # From where it is now, this step may lead on and not back.
                raise moved_by_another()
            step = await self._stepped(evidence, stage, None, waits)
            state, paused = step.state, max(paused, step.paused)
            if state.stage is not stage:
                raise moved_by_another()
        return Stepped(state, (), paused)

    # Inside -------------------------------------------------------------------------------

    async def _stepped(
        self, evidence: Evidence, to: Stage, override: str | None, waits: Waits
    ) -> Stepped:
        """Go to a stage from the one that the evidence is of, or nowhere."""
        before = evidence.state.stage
        check_step(before, to)
        lacks = missing(to, evidence)
        if lacks and override is None:
            raise PreconditionFailedError(
                f"the evidence does not support {to}: " + "; ".join(lacks), not_sent=True
            )
        told = {**evidence.to_dict(), "missing": lacks}
        move = Move(new_id(), to, self._who, told, override if lacks else None)
        self._asked.remember(move, forth=ORDER.index(to) > ORDER.index(before))
        if is_flip(before, to) or to is Stage.COMPLETE:
            # What is left behind at the end is left whole: nothing is under way just then.
            state, paused = await self._flipped(evidence.state, move, waits)
        else:
            state, paused = await self._moved(evidence.state, move), 0.0
        self._asked.answered()
        return Stepped(state, tuple(lacks), paused)

    async def _flipped(self, before: State, move: Move, waits: Waits) -> tuple[State, float]:
        # Whatever was overridden: a write that began in `off` has no intent, and is waited for.
        state = await self._settled(str(move.to), waits.report)
        if state.epoch != before.epoch:
            # The evidence, and what was overridden, is of another stage.
            raise moved_by_another()

        def told(waiting: str) -> None:
            waits.report(Progress(str(move.to), waiting=waiting))

        patience = waits.patience
        flip = Flip(
            self._ledger,
            self._subject,
            state,
            self._runtime,
            repair=self.repair,
            told=told,
            patience=state.terms.settling + _MINUTES if patience is None else patience,
            longest_pause=waits.longest_pause,
            announces=is_flip(state.stage, move.to),
        )
        flipped = await flip.run(move)
        return flipped.state, flipped.paused

    async def _moved(self, state: State, move: Move) -> State:
        try:
            new = await persist(self._runtime, self._ledger.move, self._subject, state.epoch, move)
        except Fenced as error:
            raise moved_by_another() from error
        await reach(Point.MOVED)
        return new

    async def _settled(self, act: str, report: Report) -> State:
        """The state, when nobody acts any more on what held before the stage was entered."""
        while True:
            state = await self.state()
            if not is_mirrored(state.stage):
                raise PreconditionFailedError(
                    f"there is nothing to {act} in the stage {state.stage}: advance to "
                    f"{Stage.DUALWRITE} first"
                    if state.stage is Stage.OFF
                    else f"the migration is complete: there is nothing to {act} any more",
                    not_sent=True,
                )
            log = await self.log()
            if log and log[-1].epoch != state.epoch:
                # It was moved between the two questions.
                continue
            left = settling_left(state, log)
            if left <= 0:
                return state
            report(
                Progress(
                    act,
                    waiting=f"waiting {left:.0f} s until every write that began before is over",
                )
            )
            await self._runtime.sleep(min(left, 1.0))

    async def _total(self) -> int | None:
        """Objects, as far as somebody has counted them."""
        notes = await persist(self._runtime, self._ledger.notes, self._subject)
        return known_objects(notes, await self.log())


def _counted(notes: Mapping[str, Note]) -> int:
    """Keys that the last backfill has skipped: there may be more than are listed."""
    note = notes.get(BACKFILL)
    return 0 if note is None else int(note.body.get("skipped", 0))


__all__ = ["AsyncMigration", "Stepped"]
