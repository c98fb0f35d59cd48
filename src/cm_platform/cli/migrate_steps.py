"""The steps of `cm-platform migrate` between stages: on, back, and to the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import typer

from cm_platform import arguments
from cm_platform.errors import PreconditionFailedError
from cm_platform.routing import Stage

from .exits import ExitCode
from .invocation import Invocation, invocation_of
from .migrate_opening import heading, opened, tell, told_how_to_go_on
from .migrate_options import (
    DryRun,
    LongestPause,
    Name,
    Override,
    Patience,
    Service,
    Tenant,
    To,
    Which,
)
from .migrate_progress import Watch
from .output import time_text

if TYPE_CHECKING:
    from cm_platform.migration.ledger import State
    from cm_platform.migration.overview import Step
    from cm_platform.migration.stepping import Stepped

LONGEST_PAUSE: Final = 1.0

_GO_ON: Final = "`migrate status` says in which stage it is; the command may be repeated"
_LEFT_BEHIND: Final = (
    "keys were skipped: the other side does not have them. Once that side is right, nobody reads "
    "them; they stay here, for a way back"
)


def advance(
    context: typer.Context,
    tenant: Tenant,
    service: Service = "storage",
    name: Name = None,
    to: To = None,
    override: Override = None,
    patience: Patience = None,
    longest_pause: LongestPause = LONGEST_PAUSE,
    dry_run: DryRun = False,
) -> None:
    """Enter the next stage. Exit code 8 when the evidence does not support it.

    --to is a precaution: the next stage must be that one.
    """
    call = invocation_of(context)
    waits = _Waits(patience, longest_pause)
    _advance(call, Which(service, tenant, name), to, override, waits, dry_run=dry_run)


def complete(
    context: typer.Context,
    tenant: Tenant,
    service: Service = "storage",
    name: Name = None,
    override: Override = None,
    dry_run: DryRun = False,
) -> None:
    """End it, from the stage rampdown: the old backend is not written to any more.

    What lies there stays until you remove it. There is no way back from here but a migration
    the other way round. Exit code 8 when the evidence does not support it.
    """
    call = invocation_of(context)
    waits = _Waits(None, LONGEST_PAUSE)
    _advance(call, Which(service, tenant, name), Stage.COMPLETE, override, waits, dry_run=dry_run)


def rollback(
    context: typer.Context,
    tenant: Tenant,
    service: Service = "storage",
    name: Name = None,
    to: To = None,
    patience: Patience = None,
    longest_pause: LongestPause = LONGEST_PAUSE,
    dry_run: DryRun = False,
) -> None:
    """Go back one stage, or step by step to an earlier one. Nothing is lost: until the end both
    sides have everything. Needs no evidence."""
    call = invocation_of(context)
    waits = _Waits(patience, longest_pause)
    which = Which(service, tenant, name)
    with opened(call, which) as found:
        migration = found.migration
        from cm_platform.migration.overview import way_back
        from cm_platform.migration.stages import is_flip

        before = migration.state().stage
        way = way_back(before, to)
        flips = is_flip(before, way[-1])
        document: dict[str, Any] = {
            **heading(which, migration),
            "dry_run": dry_run,
            "from": str(before),
            "to": str(way[-1]),
            "way": [str(stage) for stage in way],
            "flips": flips,
        }
        if dry_run:
            steps = " -> ".join(map(str, (before, *way)))
            tell(call.out, document, [f"would go back: {steps}{_flip_text(flips)}"])
            return
        with told_how_to_go_on(call.out, _GO_ON), Watch(call.out) as watch:
            stepped = migration.rollback(
                way[-1], patience=waits.patience, longest_pause=waits.longest_pause, report=watch
            )
    _tell_stepped(call, document, before, stepped)


class _Waits:
    """Seconds of a change of sides, checked."""

    def __init__(self, patience: float | None, longest_pause: float) -> None:
        self.patience = None if patience is None else arguments.seconds(patience, "--patience")
        self.longest_pause = arguments.seconds(longest_pause, "--longest-pause")


def _advance(
    call: Invocation,
    which: Which,
    to: Stage | None,
    override: str | None,
    waits: _Waits,
    *,
    dry_run: bool,
) -> None:
    from cm_platform.migration.overview import step

    with opened(call, which) as found:
        migration = found.migration
        evidence = migration.evidence()
        planned = step(evidence, to)
        document: dict[str, Any] = {
            **heading(which, migration),
            "dry_run": dry_run,
            "from": str(planned.before),
            "to": str(planned.to),
            "flips": planned.flips,
            "missing": list(planned.missing),
        }
        if override is not None and planned.missing and evidence.skipped and not call.out.as_json:
            call.out.note(_LEFT_BEHIND)
        if dry_run:
            _advance_dry(call, document, planned, override)
            return
        try:
            with told_how_to_go_on(call.out, _GO_ON), Watch(call.out) as watch:
                stepped = migration.advance(
                    planned.to,
                    override=override,
                    patience=waits.patience,
                    longest_pause=waits.longest_pause,
                    report=watch,
                )
        except PreconditionFailedError:
            if call.out.as_json:
                call.out.print_json({**document, "moved": False})
            raise
    _tell_stepped(call, document, planned.before, stepped)
    if not call.out.as_json and (what := _next_text(stepped.state)):
        call.out.note(f"next: {what}")


def _advance_dry(
    call: Invocation, document: Mapping[str, Any], planned: Step, override: str | None
) -> None:
    refused = bool(planned.missing) and override is None
    way = f"{planned.before} -> {planned.to}{_flip_text(planned.flips)}"
    lacks = "".join(f"\n  - {lack}" for lack in planned.missing)
    if refused:
        text = f"would be refused: {way}. Missing:{lacks}"
    elif lacks:
        text = f"would go on, overriding what is missing: {way}{lacks}"
    else:
        text = f"would go on: {way}"
    tell(call.out, document, [text])
    if refused:
        raise typer.Exit(ExitCode.REFUSED)


def _tell_stepped(
    call: Invocation, document: Mapping[str, Any], before: Stage, stepped: Stepped
) -> None:
    told = {
        "moved": True,
        "epoch": stepped.state.epoch,
        "overridden": list(stepped.overridden),
        "paused": stepped.paused,
    }
    text = f"{before} -> {stepped.state.stage}, epoch {stepped.state.epoch}"
    if stepped.paused:
        text += f"; writers waited up to {stepped.paused * 1000:.0f} ms"
    for lack in stepped.overridden:
        text += f"\n  overridden: {lack}"
    tell(call.out, {**document, **told}, [text])


def _next_text(state: State) -> str:
    """What is done in a stage, as the runbook has it."""
    match state.stage:
        case Stage.DUALWRITE:
            wait = time_text(state.terms.settling)
            return f"cm-platform migrate backfill (waits for {wait} first, for earlier writes)"
        case Stage.SHADOW:
            return "cm-platform migrate status (says what the next stage lacks)"
        case Stage.LIVE:
            return "cm-platform migrate advance, when you trust it; rollback is the way back"
        case Stage.RAMPDOWN:
            wait = time_text(state.terms.soak)
            return f"cm-platform migrate verify, then complete ({wait} after the change of sides)"
        case _:
            return ""


def _flip_text(flips: bool) -> str:
    return "; the authority changes, and writers wait for a moment" if flips else ""


__all__ = ["LONGEST_PAUSE", "advance", "complete", "rollback"]
