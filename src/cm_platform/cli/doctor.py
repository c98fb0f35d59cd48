"""`cm-platform doctor`: everything that can be told to be wrong before an application runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from cm_platform import arguments
from cm_platform.errors import ConfigInvalidError, PlatformError

from .exits import ExitCode
from .invocation import Invocation, invocation_of
from .output import Output, counted, new_table

if TYPE_CHECKING:
    from cm_platform.config import Config
    from cm_platform.platform import Health, Platform

    from .checks import Finding, Status

_STYLES: Final[dict[Status, str]] = {
    "ok": "green",
    "note": "cyan",
    "warning": "yellow",
    "failed": "bold red",
}


def doctor(
    context: typer.Context,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds to wait for a backend.")
    ] = 10.0,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Reach this tenant's backend, as routed, too.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="The tenant's site.")] = None,
) -> None:
    """Check configuration, credentials, endpoints, ledger, signing keys, limits and machine.

    Exit code 6 when a check failed; a warning is no failure. Changes nothing.
    """
    call = invocation_of(context)
    timeout = arguments.seconds(timeout, "--timeout")
    findings = list(_findings(call, timeout, tenant, site))
    counts = Counter(finding.status for finding in findings)
    failed = counts["failed"] > 0
    if call.out.as_json:
        call.out.print_json(
            {"ok": not failed, "findings": [finding.to_dict() for finding in findings]}
        )
    else:
        _show(call.out, findings)
        call.out.line(
            f"{counts['ok']} ok, {counted(counts['warning'], 'warning')}, "
            f"{counts['failed']} failed",
            style="bold red" if failed else "bold",
        )
    if failed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _findings(
    call: Invocation, timeout: float, tenant: str | None, site: str | None
) -> Iterator[Finding]:
    from cm_platform.platform import Platform

    from . import checks
    from .checks_ledger import ledger

    try:
        config = _impatient(call.load(), timeout)
        platform = Platform(config, clock=call.clock)
    except ConfigInvalidError as error:
        yield checks.Finding("configuration", "file", "failed", error.message)
        return
    with platform:
        where = "embedded" if call.embedded else str(call.source())
        yield checks.Finding("configuration", where, "ok", "in order")
        yield from checks.credentials(config)
        yield from checks.encryption(config)
        yield from checks.reachable(platform.health())
        own = sum(len(kind.tenants) for kind in config.kinds.values())
        if tenant is not None:
            yield from checks.reachable(_tenant_healths(platform, tenant, site))
        elif own:
            have = "has" if own == 1 else "have"
            detail = (
                f"{counted(own, 'tenant')} {have} settings of their own: --tenant ID reaches them"
            )
            yield checks.Finding("reachable", "tenants", "note", detail)
    yield from ledger(call, config)
    yield checks.signing(config)
    yield from checks.limits(config, datetime.now(UTC).date())
    yield from checks.environment(config)


def _tenant_healths(platform: Platform, tenant: str, site: str | None) -> list[Health]:
    from cm_platform.platform import Health
    from cm_platform.tenant import Tenant

    who = Tenant(tenant, site_id=site)
    healths: list[Health] = []
    for kind in platform.config.kinds:
        started = time.monotonic()
        error: PlatformError | None = None
        try:
            platform.get_service(kind, who).ping()  # type: ignore[call-overload]
        except PlatformError as failure:
            error = failure
        seconds = time.monotonic() - started
        healths.append(Health(kind, f"tenant {who.id}", error is None, seconds, error))
    return healths


def _impatient(config: Config, timeout: float) -> Config:
    """The configuration with another deadline: a person waits."""
    kinds = {
        name: kind.model_copy(update={"timeout": timeout}) for name, kind in config.kinds.items()
    }
    return config.model_copy(update={"kinds": kinds})


def _show(out: Output, findings: list[Finding]) -> None:
    table = new_table("check", "of", "", "found")
    last = ""
    for finding in findings:
        shown = finding.check if finding.check != last else ""
        last = finding.check
        status = Text(finding.status, style=_STYLES[finding.status])
        table.add_row(shown, finding.subject, status, Text(finding.detail))
    out.table(table)


__all__ = ["doctor"]
