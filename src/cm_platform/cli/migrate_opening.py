"""What the commands of `cm-platform migrate` work on, and how they end."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

from cm_platform.errors import (
    ConfigInvalidError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
)

from .exits import ExitCode
from .invocation import Invocation
from .migrate_names import OwnNames, own_names
from .migrate_options import Which
from .output import Output

if TYPE_CHECKING:
    from cm_platform.config import Config
    from cm_platform.migration.ledger import Ledger, Skipped
    from cm_platform.migration.sync import Migration
    from cm_platform.runtime import Runtime


SOME: Final = 1000
"""Skipped keys that a migration names by itself; the ledger has all of them."""

_ALL: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Opened:
    """A migration, as a command works on it. names: keys as the tenant knows them."""

    migration: Migration
    names: OwnNames
    call: Invocation
    config: Config

    def skipped(self) -> list[Skipped]:
        """Every key that could not be moved, by the tenant's own name, and why."""
        from cm_platform.migration.persistence import persist
        from cm_platform.runtime import drive

        found = self.migration.skipped()
        if len(found) >= SOME:
            with opened_ledger(self.call, self.config) as (ledger, runtime, _):
                subject = self.migration.subject
                found = list(drive(persist(runtime, ledger.skipped, subject, _ALL)))
        return self.names.skipped(found)


class OpenedLedger(NamedTuple):
    """A ledger, and what waits for it. driver: such as "sqlite"."""

    ledger: Ledger
    runtime: Runtime
    driver: str


@contextmanager
def opened(call: Invocation, which: Which) -> Generator[Opened]:
    """The migration; a step that is refused ends the command."""
    from cm_platform.platform import Platform
    from cm_platform.tenant import Tenant as Who

    who = Who(which.tenant)
    config = which.paced(call.load())
    _check_one(config, which)
    with (
        _quiet(call),
        Platform(config, clock=call.clock) as platform,
        _refused(call.out),
    ):
        migration = platform.migration(which.service, who, which.name)
        yield Opened(migration, own_names(config, migration.subject), call, config)


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
    with _quiet(call):
        try:
            ledger = drive(opener.ledger())
            driver = config.ledger.driver if config.ledger is not None else ""
            yield OpenedLedger(ledger, opener.session().runtime, driver)
        finally:
            drive(opener.close())


def _check_one(config: Config, which: Which) -> None:
    """Raise unless it is clear which migration is meant."""
    kind = which.service.partition(".")[0]
    settings = config.kinds.get(kind)
    if settings is None or which.name is not None or len(settings.migrations) == 1:
        return
    if settings.migrations:
        known = ", ".join(sorted(settings.migrations))
        raise InvalidArgumentError(f"say which migration of {kind}, with --migration: {known}")
    raise ConfigInvalidError(
        f"no migration of {kind} is configured: add [{kind}.migrations.<name>] with its source "
        "and its target"
    )


@contextmanager
def _quiet(call: Invocation) -> Generator[None]:
    """Keep the pool's own words off stderr: it repeats each failure, and ours says it once."""
    pool = logging.getLogger("psycopg.pool")
    before = pool.level
    if not call.debug:
        pool.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        pool.setLevel(before)


@contextmanager
def _refused(out: Output) -> Generator[None]:
    try:
        yield
    except NotFoundError as error:
        if error.service is not None:
            raise
        raise NotFoundError(
            f"{error.message}. `migrate plan` and `migrate start` begin one; `migrate status` "
            "without a tenant lists those that were"
        ) from error
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
    "SOME",
    "Opened",
    "OpenedLedger",
    "heading",
    "opened",
    "opened_ledger",
    "refuse_if",
    "tell",
    "told_how_to_go_on",
]
