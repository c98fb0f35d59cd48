"""`cm-platform migrate`: move a tenant's data from one backend to another, while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cm_platform.errors import (
    ConfigInvalidError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
)

from . import migrate_acts, migrate_prove, migrate_steps
from .exits import ExitCode
from .invocation import invocation_of
from .migrate_opening import heading, opened, opened_ledger
from .migrate_options import Concurrency, Name, Service, Tenant, Which
from .migrate_output import show_log, show_overview, show_standings
from .migrate_plan import show_plan
from .migrate_progress import Watch

if TYPE_CHECKING:
    from cm_platform.config.models import BackendConfig
    from cm_platform.migration.ledger import Transition
    from cm_platform.migration.mover import Planned
    from cm_platform.migration.sync import Migration

app = typer.Typer(
    help="Move a tenant's data from one backend to another, while it works.\n\n"
    "In this order: init, plan, start, advance (to dualwrite), backfill, verify, advance (to "
    "shadow, live and rampdown), verify, complete. rollback goes back from any stage but the last.",
    no_args_is_help=True,
)

_SQL = "--print-sql"


def status(
    context: typer.Context,
    tenant: Annotated[
        str | None,
        typer.Option(
            "--tenant",
            "-t",
            envvar="CM_PLATFORM_TENANT",
            help="Whose data. Left out: every migration that the ledger knows, a line each.",
        ),
    ] = None,
    service: Service = "storage",
    name: Name = None,
) -> None:
    """Show where it is, what is known of it, and what the next stage lacks.

    With --json, every skipped key.
    """
    from cm_platform.migration.overview import overview
    from cm_platform.migration.standings import standings
    from cm_platform.runtime import drive

    call = invocation_of(context)
    if tenant is None:
        with opened_ledger(call) as (ledger, runtime, _):
            found = drive(standings(ledger, runtime))
        if call.out.as_json:
            call.out.print_json({"migrations": [one.to_dict() for one in found]})
        else:
            show_standings(call.out, found)
        return
    with opened(call, Which(service, tenant, name)) as found_one:
        migration = found_one.migration
        known = overview(migration.subject, migration.evidence(), found_one.skipped())
    if call.out.as_json:
        call.out.print_json(known.to_dict())
    else:
        show_overview(call.out, known)


def plan(
    context: typer.Context,
    tenant: Tenant,
    service: Service = "storage",
    name: Name = None,
    concurrency: Concurrency = None,
    forget_use: Annotated[
        bool,
        typer.Option(
            "--forget-use",
            help="Of a cache: forget what was used before, and go by what is used from now on.",
        ),
    ] = False,
) -> None:
    """Look at both stores, and say what a move would mean. Changes nothing in them.

    Exit code 6 when something stands against it; losses are for you to judge.
    """
    call = invocation_of(context)
    which = Which(service, tenant, name, concurrency)
    with opened(call, which) as found:
        migration = found.migration
        if forget_use:
            migration.forget_use()
        with Watch(call.out) as watch:
            planned = migration.plan(watch)
        body = found.names.body(planned.body)
        body["obstacles"] = [*_elsewhere(migration, planned), *body["obstacles"]]
        if call.out.as_json:
            call.out.print_json({**heading(which, migration), **body})
        else:
            terms = migration.terms
            call.out.line(
                f"{terms.migration}: {which.service} of {migration.subject.tenant_id}, "
                f"{terms.source} -> {terms.target}\n",
                "bold",
            )
            show_plan(call.out, body)
    if body["obstacles"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)
    if not call.out.as_json:
        call.out.note("next: cm-platform migrate start (when all of this is as you want it)")


def log(
    context: typer.Context, tenant: Tenant, service: Service = "storage", name: Name = None
) -> None:
    """Show every change of the stage: when, who, from, to, and what was overridden.

    With --json, the evidence of each, too.
    """
    call = invocation_of(context)
    which = Which(service, tenant, name)
    with opened(call, which) as found:
        migration = found.migration
        lines = migration.log()
        head = heading(which, migration)
        if not lines:
            raise NotFoundError("this tenant's migration was never started")
    if call.out.as_json:
        call.out.print_json({**head, "log": [_transition(line) for line in lines]})
    else:
        show_log(call.out, lines)


def init(
    context: typer.Context,
    print_sql: Annotated[
        bool,
        typer.Option(_SQL, help="Postgres: print the statements instead, for `psql -1 -f`."),
    ] = False,
) -> None:
    """Prepare the ledger's tables, where they are not there. May be repeated."""
    from cm_platform.runtime import drive

    call = invocation_of(context)
    config = call.load()
    if print_sql:
        sql = _schema_sql(config.ledger)
        if call.out.as_json:
            call.out.print_json({"sql": sql})
        else:
            call.out.line(sql.rstrip("\n"))
        return
    with opened_ledger(call, config) as (ledger, _, driver):
        drive(ledger.prepare())
        drive(ledger.ping())
    if call.out.as_json:
        call.out.print_json({"ok": True, "ledger": driver})
    else:
        call.out.line(f"the {driver} ledger has its tables, and answers")


def _elsewhere(migration: Migration, planned: Planned) -> list[dict[str, Any]]:
    """That the data is not where it would be taken from, as an obstacle."""
    try:
        migration.check_home()
    except PreconditionFailedError as error:
        return [{"what": error.message, "count": planned.objects, "examples": []}]
    except ConfigInvalidError:
        # No tables yet: then nothing was ever started.
        return []
    return []


def _schema_sql(ledger: BackendConfig | None) -> str:
    if ledger is None or ledger.driver != "postgres":
        raise InvalidArgumentError(
            f"{_SQL} is for a Postgres ledger; a file's tables make themselves"
        )
    from cm_platform.migration.ledgers.postgres import PostgresLedgerConfig, schema_sql

    settings = ledger.settings
    assert isinstance(settings, PostgresLedgerConfig)  # noqa: S101 - its driver's own
    return schema_sql(settings.table_schema)


def _transition(line: Transition) -> dict[str, Any]:
    return {
        "id": line.id,
        "epoch": line.epoch,
        "at": line.at,
        "who": line.who,
        "from": None if line.before is None else str(line.before),
        "to": str(line.to),
        "reason": line.reason,
        "evidence": dict(line.evidence),
    }


app.command("init")(init)
app.command("plan")(plan)
app.command("start")(migrate_acts.start)
app.command("backfill")(migrate_acts.backfill)
app.command("verify")(migrate_acts.verify)
app.command("status")(status)
app.command("advance")(migrate_steps.advance)
app.command("rollback")(migrate_steps.rollback)
app.command("complete")(migrate_steps.complete)
app.command("log")(log)
app.command("prove")(migrate_prove.prove)

__all__ = ["app"]
