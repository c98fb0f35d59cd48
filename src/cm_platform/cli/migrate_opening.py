"""What the commands of `cm-platform migrate` work on, and how they end."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from cm_platform.errors import PlatformError, PreconditionFailedError

from .exits import ExitCode
from .invocation import Invocation
from .migrate_options import Which
from .output import Output

if TYPE_CHECKING:
    from cm_platform.config import Config
    from cm_platform.migration.ledger import Ledger
    from cm_platform.migration.sync import Migration
    from cm_platform.runtime import Runtime


class OpenedLedger(NamedTuple):
    """A ledger, and what waits for it. driver: such as "sqlite"."""

    ledger: Ledger
    runtime: Runtime
    driver: str


@contextmanager
def opened(call: Invocation, which: Which) -> Generator[Migration]:
    """The migration; a step that is refused ends the command."""
    from cm_platform.platform import Platform
    from cm_platform.tenant import Tenant as Who

    who = Who(which.tenant)
    with (
        Platform(which.paced(call.load()), clock=call.clock) as platform,
        _refused(call.out),
    ):
        yield platform.migration(which.service, who, which.name)


@contextmanager
def opened_ledger(call: Invocation, config: Config | None = None) -> Generator[OpenedLedger]:
    """The configured ledger, and no backend. config: where it was read before.

    Raises `config_invalid` where none is configured.
    """
    from cm_platform.opening import Opener
    from cm_platform.registry import REGISTRY
    from cm_platform.runtime import drive

    config = config or call.load()
    opener = Opener(config, REGISTRY, call.clock, is_async=False)
    try:
        ledger = drive(opener.ledger())
        driver = config.ledger.driver if config.ledger is not None else ""
        yield OpenedLedger(ledger, opener.session().runtime, driver)
    finally:
        drive(opener.close())


@contextmanager
def _refused(out: Output) -> Generator[None]:
    try:
        yield
    except PreconditionFailedError as error:
        out.error(error)
        raise typer.Exit(ExitCode.REFUSED) from None


@contextmanager
def told_how_to_go_on(out: Output, text: str) -> Generator[None]:
    """Whoever is interrupted, by Ctrl-C or by a store, hears how to go on. text: how."""
    try:
        yield
    except KeyboardInterrupt:
        if not out.as_json:
            out.note(f"interrupted; {text}")
        raise
    except PlatformError as error:
        if error.retryable and not out.as_json:
            out.note(text)
        raise


def heading(which: Which, migration: Migration) -> dict[str, Any]:
    """What every document begins with."""
    terms = migration.terms
    return {
        "service": which.service,
        "tenant": migration.subject.tenant_id,
        "migration": terms.migration,
        "source": terms.source,
        "target": terms.target,
    }


def tell(out: Output, document: Mapping[str, Any], lines: Iterable[str]) -> None:
    """What came of it: the document for programs, or the lines for people."""
    if out.as_json:
        out.print_json(document)
        return
    for line in lines:
        out.line(line)


def refuse_if(lacks: Iterable[str]) -> None:
    """End the command as a step that was refused, where something is missing."""
    if any(True for _ in lacks):
        raise typer.Exit(ExitCode.REFUSED)


__all__ = [
    "OpenedLedger",
    "heading",
    "opened",
    "opened_ledger",
    "refuse_if",
    "tell",
    "told_how_to_go_on",
]
