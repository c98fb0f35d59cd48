"""What `cm-platform migrate` does to a tenant's data: begin, bring over, compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cm_platform.errors import NotFoundError, PreconditionFailedError
from cm_platform.routing import Stage

from .exits import ExitCode
from .invocation import Invocation, invocation_of
from .migrate_opening import Opened, heading, opened, refuse_if, tell, told_how_to_go_on
from .migrate_options import (
    Concurrency,
    DryRun,
    Name,
    Rate,
    Service,
    Tenant,
    Which,
)
from .migrate_output import show_differences, show_skipped
from .migrate_progress import Watch
from .migrate_words import backfilled_text, verified_text, would
from .output import counted, time_text

if TYPE_CHECKING:
    from cm_platform.migration.mover import Planned
    from cm_platform.migration.sync import Migration


def start(
    context: typer.Context,
    tenant: Tenant,
    service: Service = "storage",
    name: Name = None,
    no_other_writers: Annotated[
        bool,
        typer.Option(
            "--no-other-writers",
            help="Declare that nobody writes but through this configuration; `plan` says all.",
        ),
    ] = False,
    accept_losses: Annotated[
        bool, typer.Option("--accept-losses", help="Accept the losses that `plan` lists.")
    ] = False,
    concurrency: Concurrency = None,
    dry_run: DryRun = False,
) -> None:
    """Begin, in the stage off. Plans first; exit code 8 when the plan does not allow it."""
    call = invocation_of(context)
    which = Which(service, tenant, name, concurrency)
    with opened(call, which) as found:
        migration = found.migration
        head = heading(which, migration)
        if dry_run:
            _start_dry(found, head, accept_losses, no_other_writers)
            return
        with Watch(call.out) as watch:
            state = migration.start(
                accept_losses=accept_losses, no_other_writers=no_other_writers, report=watch
            )
    told = {"dry_run": False, "stage": str(state.stage), "epoch": state.epoch}
    lines = ["started, in the stage off: every process follows the ledger now"]
    tell(call.out, {**head, **told}, lines)
    _next(call, "advance", "when all processes run with this configuration")


def backfill(
    context: typer.Context,
    tenant: Tenant,
    service: Service = "storage",
    name: Name = None,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Begin anew, not where the last one stopped.")
    ] = False,
    concurrency: Concurrency = None,
    rate: Rate = None,
    dry_run: DryRun = False,
) -> None:
    """Bring over what was there before. May be stopped at any time, and goes on there.

    Waits first, until every write is over that began before the stage was entered. For a cache:
    makes outdated what the target has from before. Exit code 9 when keys were skipped; each is
    listed with its reason.
    """
    from cm_platform.migration.overview import known_objects

    call = invocation_of(context)
    which = Which(service, tenant, name, concurrency, rate)
    with opened(call, which) as found:
        migration = found.migration
        head = heading(which, migration)
        if dry_run:
            _backfill_dry(call, migration, head, resume=not no_resume)
            return
        again = "what was done is kept: `migrate backfill` goes on where it stopped"
        known = migration.evidence()
        total = known_objects(known.notes, known.log)
        with told_how_to_go_on(call.out, again), Watch(call.out, total=total) as watch:
            body = migration.backfill(resume=not no_resume, report=watch)
        skipped = found.skipped()
    if call.out.as_json:
        told = {name: value for name, value in body.items() if name not in ("cursor", "skipped")}
        listed = [one._asdict() for one in skipped]
        call.out.print_json({**head, "dry_run": False, **told, "skipped": listed})
    else:
        call.out.line(f"backfill {backfilled_text(body)}", "bold")
        show_skipped(call.out, skipped)
    if skipped:
        raise typer.Exit(ExitCode.SKIPPED)
    _next(call, "verify", "compares both sides")


def verify(
    context: typer.Context,
    tenant: Tenant,
    service: Service = "storage",
    name: Name = None,
    sample: Annotated[
        float,
        typer.Option(
            "--sample",
            min=0,
            max=1,
            help="Of all objects, the share whose bytes are read back. All are described.",
        ),
    ] = 1.0,
    concurrency: Concurrency = None,
) -> None:
    """Compare both stores, and write down what was found. Exit code 6 when it is not clean."""
    from cm_platform.migration.overview import known_objects

    call = invocation_of(context)
    which = Which(service, tenant, name, concurrency)
    with opened(call, which) as found:
        migration = found.migration
        again = "nothing was written down: `migrate verify` begins anew"
        known = migration.evidence()
        total = known_objects(known.notes, known.log)
        with told_how_to_go_on(call.out, again), Watch(call.out, total=total) as watch:
            body = found.names.body(migration.verify(sample=sample, report=watch))
        if call.out.as_json:
            differences = [{"key": key, "how": how} for key, how in body.get("differences", ())]
            call.out.print_json({**heading(which, migration), **body, "differences": differences})
        else:
            style = "bold green" if body["clean"] else "bold red"
            call.out.line(verified_text(body), style)
            show_differences(call.out, body)
    if not body["clean"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)
    _next(call, "status", "says what the next stage lacks")


def _start_dry(
    found: Opened, head: Mapping[str, Any], accept_losses: bool, no_other_writers: bool
) -> None:
    call, migration = found.call, found.migration
    with Watch(call.out) as watch:
        planned = migration.plan(watch)
    lacks = _start_lacks(migration, planned, accept_losses, no_other_writers)
    told = {"dry_run": True, "missing": lacks, "plan": found.names.body(planned.body)}
    tell(call.out, {**head, **told}, would("start in the stage off", lacks))
    refuse_if(lacks)


def _start_lacks(
    migration: Migration, planned: Planned, accept_losses: bool, no_other_writers: bool
) -> list[str]:
    """Why `start` would be refused."""
    lacks: list[str] = []
    try:
        stage = migration.state().stage
    except NotFoundError:
        pass
    except PreconditionFailedError as error:
        lacks.append(error.message)
    else:
        if stage not in (Stage.OFF, Stage.COMPLETE):
            lacks.append(f"it is under way already, in the stage {stage}")
    try:
        migration.check_home()
    except PreconditionFailedError as error:
        lacks.append(error.message)
    if planned.obstacles:
        lacks.append(f"{counted(planned.obstacles, 'kind')} of obstacles: see `migrate plan`")
    if planned.losses and not accept_losses:
        lacks.append(f"{counted(planned.losses, 'kind')} of losses: --accept-losses")
    if not no_other_writers:
        lacks.append("the declaration that nobody else writes: --no-other-writers")
    return lacks


def _backfill_dry(
    call: Invocation, migration: Migration, head: Mapping[str, Any], *, resume: bool
) -> None:
    from cm_platform.migration.ledger import is_mirrored
    from cm_platform.migration.overview import overview, resumable

    evidence = migration.evidence()
    found = overview(migration.subject, evidence, migration.skipped())
    note = resumable(evidence) if resume else None
    lacks: list[str] = []
    if not is_mirrored(found.state.stage):
        lacks.append(f"nothing is brought over in the stage {found.state.stage}")
    begins = "at the beginning" if note is None else backfilled_text(note.body, found.total)
    lines = [*would("bring over what was there before", lacks), f"begins: {begins}"]
    if found.settling:
        lines.append(f"waits first: {time_text(found.settling)}, until earlier writes are over")
    if found.total is not None:
        lines.append(f"there are: {counted(found.total, 'object')}, as last counted")
    told = {
        "dry_run": True,
        "missing": lacks,
        "resumes": note is not None,
        "settling": found.settling,
        "objects": found.total,
    }
    tell(call.out, {**head, **told}, lines)
    refuse_if(lacks)


def _next(call: Invocation, command: str, why: str) -> None:
    if not call.out.as_json:
        call.out.note(f"next: cm-platform migrate {command} ({why})")


__all__ = ["backfill", "start", "verify"]
