"""What `cm-platform doctor` finds out about the ledger, and how far each migration is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from cm_platform.errors import PlatformError
from cm_platform.routing import Stage

from .checks import Finding, Status
from .invocation import Invocation
from .migrate_opening import opened_ledger
from .migrate_words import share_text
from .output import counted

if TYPE_CHECKING:
    from cm_platform.config import Config
    from cm_platform.migration.standings import Standing

NAMED: Final = 10
"""Tenants that are told of one by one; `migrate status` lists all."""


def ledger(call: Invocation, config: Config) -> Iterator[Finding]:
    """Whether the ledger answers, and how far every migration is."""
    if config.ledger is None:
        yield from _needless(config)
        return
    from cm_platform.migration.standings import standings
    from cm_platform.runtime import drive

    driver = config.ledger.driver
    started = time.monotonic()
    try:
        with opened_ledger(call, config) as opened:
            drive(opened.ledger.ping())
            seconds = time.monotonic() - started
            found = drive(standings(opened.ledger, opened.runtime))
    except PlatformError as error:
        detail = f"{error.code}: {error.message}"
        yield Finding("ledger", driver, "failed", detail, time.monotonic() - started)
        return
    detail = f"opened, and answered after {seconds * 1000:.0f} ms"
    yield Finding("ledger", driver, "ok", detail, seconds)
    yield from _migrations(config, found)


def _needless(config: Config) -> Iterator[Finding]:
    ways = [f"{kind}.{name}" for kind, found in config.kinds.items() for name in found.migrations]
    if ways:
        yield Finding(
            "ledger",
            "ledger",
            "warning",
            f"none: {', '.join(ways)} cannot be used. Configure a [ledger]",
        )


def _migrations(config: Config, found: list[Standing]) -> Iterator[Finding]:
    """A line for each migration, and one for each tenant that is on its way, up to a bound."""
    configured = {
        (kind, name) for kind, settings in config.kinds.items() for name in settings.migrations
    }
    known = {(one.subject.kind, one.state.terms.migration) for one in found}
    for kind, name in sorted(configured | known):
        mine = [
            one for one in found if (one.subject.kind, one.state.terms.migration) == (kind, name)
        ]
        stages = Counter(one.state.stage for one in mine)
        told = ", ".join(f"{count} {stage}" for stage in Stage if (count := stages[stage]))
        detail = f"{counted(len(mine), 'tenant')}: {told}" if mine else "no tenant has begun"
        # A kind may stand for one of its namespaces, too.
        is_known = (kind.partition(".")[0], name) in configured
        if not is_known:
            detail += "; it is not configured any more"
        yield Finding("migrations", f"{kind}.{name}", "ok" if is_known else "warning", detail)
    moving = [one for one in found if one.state.stage not in (Stage.OFF, Stage.COMPLETE)]
    for one in moving[:NAMED]:
        yield _tenant(one)
    if len(moving) > NAMED:
        more = f"{len(moving) - NAMED} more tenants are on their way: `migrate status` lists all"
        yield Finding("migrations", "tenants", "note", more)


def _tenant(one: Standing) -> Finding:
    state = one.state
    told = [f"{state.terms.migration}:{state.stage}"]
    if one.looked is not None:
        told.append(f"backfilled {share_text(one.looked, one.total)}")
    if one.pending.count:
        told.append(f"{counted(one.pending.count, 'intent')} open, {one.pending.due} due")
    if one.pending.due:
        told.append("`migrate backfill` or `verify` works off what is due")
    status: Status = "warning" if one.pending.due else "note"
    return Finding(
        "migrations", f"{one.subject.kind} of {one.subject.tenant_id}", status, "; ".join(told)
    )


__all__ = ["NAMED", "ledger"]
