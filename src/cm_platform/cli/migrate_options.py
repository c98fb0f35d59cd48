"""The options that the commands of `cm-platform migrate` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from cm_platform.routing import Stage

if TYPE_CHECKING:
    from cm_platform.config import Config

Service: TypeAlias = Annotated[
    str,
    typer.Option(
        "--service",
        "-s",
        help="What moves: storage, cache, or a namespace with a default of its own, such as "
        "cache.sessions.",
    ),
]
Tenant: TypeAlias = Annotated[
    str,
    typer.Option(
        "--tenant", "-t", envvar="CM_PLATFORM_TENANT", help="Whose data: a UUID or a slug."
    ),
]
Name: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--migration", "-m", metavar="NAME", help="Left out: the only one that is configured."
    ),
]
DryRun: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what would happen and what is missing; change nothing. Same codes."
    ),
]
Concurrency: TypeAlias = Annotated[
    int | None,
    # As many as there are threads to wait in.
    typer.Option(
        "--concurrency", min=1, max=32, help="Keys at once. Left out: as the migration says."
    ),
]
Rate: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--rate",
        min=0,
        max=1_000_000,
        help="Keys a second at most, 0 for no bound. Left out: as the migration says.",
    ),
]
Override: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--override", metavar="REASON", help="Why missing evidence does not matter; is recorded."
    ),
]
Patience: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--patience",
        help="Seconds that a change of sides may take in all. Left out: as long as URLs to upload "
        "may live, and some minutes.",
    ),
]
LongestPause: TypeAlias = Annotated[
    float,
    typer.Option("--longest-pause", help="Seconds that it may keep writers waiting at a time."),
]
To: TypeAlias = Annotated[
    Stage | None, typer.Option("--to", metavar="STAGE", help=f"One of {', '.join(Stage)}.")
]


@dataclass(frozen=True, slots=True)
class Which:
    """The migration that a command is about, as its options say.

    concurrency, rate: instead of the configuration's.
    """

    service: str
    tenant: str
    name: str | None = None
    concurrency: int | None = None
    rate: float | None = None

    def paced(self, config: Config) -> Config:
        """The configuration, with this pace."""
        asked: dict[str, Any] = {"concurrency": self.concurrency, "rate": self.rate}
        pace = {setting: value for setting, value in asked.items() if value is not None}
        name = self.service.partition(".")[0]
        kind = config.kinds.get(name)
        if kind is None or not pace:
            return config
        migrations = {
            each: found.model_copy(update=pace) for each, found in kind.migrations.items()
        }
        changed = kind.model_copy(update={"migrations": migrations})
        return config.model_copy(update={"kinds": {**config.kinds, name: changed}})


__all__ = [
    "Concurrency",
    "DryRun",
    "LongestPause",
    "Name",
    "Override",
    "Patience",
    "Rate",
    "Service",
    "Tenant",
    "To",
    "Which",
]
