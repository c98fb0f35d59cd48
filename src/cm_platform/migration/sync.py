"""The sync face of migration. Generated from the async one by scripts/generate_faces.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cm_platform.routing import Stage
from cm_platform.runtime import drive

from .control import AsyncMigration
from .ledger import Skipped, State, Subject, Terms, Transition
from .mover import Planned
from .progress import Report, unwatched
from .stages import Evidence
from .stepping import Stepped


class Migration:
    """One tenant's migration of one kind.

    Everything it does may be stopped at any moment and done again: the ledger knows how far it
    came. `config_invalid`, `unavailable` and the like come from the stores and the ledger.

    home: the backend where the data of a tenant is that was never migrated; None does not check.
    """

    __slots__ = ("_async",)

    def __init__(self, asynchronous: AsyncMigration) -> None:
        self._async = asynchronous

    def __repr__(self) -> str:
        return repr(self._async).removeprefix("Async")

    @property
    def subject(self) -> Subject:
        """What moves."""
        return self._async.subject

    @property
    def terms(self) -> Terms:
        """What all processes agree on, as this one is configured."""
        return self._async.terms

    def prepare(self) -> None:
        """Make the ledger's tables, where they are not there."""
        drive(self._async.prepare())

    def state(self) -> State:
        """Where it is. Raises `not_found` when it was never started."""
        return drive(self._async.state())

    def evidence(self) -> Evidence:
        """What is known, all of it."""
        return drive(self._async.evidence())

    def missing(self, to: Stage | None = None) -> list[str]:
        """What has to be known before a stage, the next one by default, and is not."""
        return drive(self._async.missing(to))

    def log(self) -> list[Transition]:
        """Every transition, the oldest first."""
        return drive(self._async.log())

    def skipped(self) -> list[Skipped]:
        """Keys that could not be moved, and why; the first thousand."""
        return drive(self._async.skipped())

    def check_home(self) -> None:
        """Raise `precondition_failed` where the data is not on the source: to start there would
        say so, and lose it.
        """
        drive(self._async.check_home())

    def plan(self, report: Report = unwatched) -> Planned:
        """Look at both stores, and say what the move would mean. Changes nothing."""
        return drive(self._async.plan(report))

    def forget_use(self) -> None:
        """Forget which operations the tenant has used, so that one of long ago is no obstacle.

        The next plan goes by what is used from now on. `unsupported` for storage.
        """
        drive(self._async.forget_use())

    def start(
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
        return drive(
            self._async.start(
                accept_losses=accept_losses, no_other_writers=no_other_writers, report=report
            )
        )

    def backfill(self, *, resume: bool = True, report: Report = unwatched) -> Mapping[str, Any]:
        """Bring over what was there before; how it ended, with `skipped`.

        resume: go on where the last one stopped. Waits first until nobody acts any more on what
        the ledger said before the stage was entered.

        Raises `precondition_failed` in a stage where nothing is brought over.
        """
        return drive(self._async.backfill(resume=resume, report=report))

    def verify(self, *, sample: float = 1.0, report: Report = unwatched) -> Mapping[str, Any]:
        """Compare both stores; what was found. It is evidence, clean or not.

        sample: of all objects, those whose bytes are read back, 0 to 1. All are described.
        """
        return drive(self._async.verify(sample=sample, report=report))

    def repair(self) -> dict[str, str]:
        """Finish what others began and did not end, as far as it is due; what failed, by key."""
        return drive(self._async.repair())

    def advance(
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
        return drive(
            self._async.advance(
                to, override=override, patience=patience, longest_pause=longest_pause, report=report
            )
        )

    def rollback(
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
        return drive(
            self._async.rollback(to, patience=patience, longest_pause=longest_pause, report=report)
        )


__all__ = ["Migration"]
