"""The operator: takes a migration through its course, and goes on where a dead one stopped."""

from __future__ import annotations

from typing import Final

from cm_platform.errors import (
    AmbiguousError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
)
from cm_platform.migration.ledger import is_mirrored
from cm_platform.migration.stages import ORDER, next_stage
from cm_platform.routing import Stage

from .world import Member, World

_PATIENCE: Final = 20.0
_ATTEMPTS: Final = 20
_OPERATORS: Final = 15

_PASSING = (
    AmbiguousError,
    DeadlineExceededError,
    InternalError,
    # Somebody before us, dead by now, has moved it: his request was late.
    InvalidArgumentError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
)


class Operator:
    """Whoever is at it; `course` says what is left to do.

    attempts: acts that failed, and were tried again. found: what must not be, in words.
    """

    def __init__(self, world: World) -> None:
        self.course = list(world.scenario.course)
        self.attempts: list[str] = []
        self.found: list[str] = []
        self._world = world

    async def watch(self) -> None:
        """See to it that somebody operates, until the course is done."""
        simulation, number = self._world.simulation, 0
        while self.course:
            number += 1
            if number > _OPERATORS:
                self._world.stop_faults()
            member = self._world.join(f"operator{number}")
            task = member.process.spawn(self._operate(member))
            while not task.is_over:
                await simulation.sleep(0.5)

    async def _operate(self, member: Member) -> None:
        while self.course:
            if not await self._reach(member, self.course[0]):
                break
            del self.course[:1]
        await member.runtime.close()

    async def _reach(self, member: Member, goal: Stage) -> bool:
        """Whether the goal was reached; else another one may try."""
        dice = member.process.simulation.random
        while self.course:
            try:
                if await self._step(member, goal):
                    return True
            except (*_PASSING, TimeoutError) as error:
                self.attempts.append(str(error))
                if len(self.attempts) > _ATTEMPTS:
                    # No migration comes to its end while everything fails for ever.
                    self._world.stop_faults()
                member.process.simulation.note(f"operator: {error!r}")
                await member.runtime.sleep(0.2)
                if dice.random() < 0.2:
                    return False
        return True

    async def _step(self, member: Member, goal: Stage) -> bool:
        """One act; whether the goal was reached."""
        migration = member.migration
        try:
            state = await migration.state()
        except NotFoundError:
            await migration.start(accept_losses=True, no_other_writers=True)
            return goal is Stage.OFF
        if state.stage is goal:
            return True
        if ORDER.index(goal) < ORDER.index(state.stage):
            await migration.rollback(goal, patience=_PATIENCE)
            return True
        following = next_stage(state.stage)
        trusts = self._world.scenario.trusting and following not in (Stage.DUALWRITE, Stage.SHADOW)
        if following is Stage.SHADOW:
            await migration.backfill()
        elif following in (Stage.LIVE, Stage.COMPLETE) and not trusts:
            await migration.verify()
        try:
            await migration.advance(
                following, override="trusting" if trusts else None, patience=_PATIENCE
            )
        except PreconditionFailedError:
            await self._make_up(member)
        return False

    async def _make_up(self, member: Member) -> None:
        """Do what may be missing before the next stage."""
        migration = member.migration
        evidence = await migration.evidence()
        if evidence.differed:
            self.found.append(f"shadow reads differ: {dict(evidence.counts)}")
            self.course.clear()
            return
        if is_mirrored(evidence.state.stage):
            # A note of a page may have come late, and say that it is not complete after all.
            await migration.backfill(resume=not evidence.skipped)
        await migration.repair()
        await member.runtime.sleep(self._world.scenario.times.soak)


async def settle(world: World, member: Member) -> None:
    """Wait until nothing is under way any more, and finish what was left. Nothing befalls it."""
    while True:
        try:
            await member.migration.repair()
            left = (await member.migration.evidence()).pending
        except NotFoundError:
            left = None
        except PlatformError as error:
            if not error.retryable:
                raise
            left = None
        if not world.simulation.in_flight and (left is None or not left.count):
            await member.runtime.close()
            return
        await member.runtime.sleep(0.5)


__all__ = ["Operator", "settle"]
