"""python -m benchmarks [--json FILE] [--rounds N] [PART ...]"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import cache, gateway, layers, migration, resolution, storage
from benchmarks.report import Finding, as_json, as_markdown, show


def _resolution(rounds: int) -> list[Finding]:
    return [
        resolution.get_service(rounds),
        resolution.routes(rounds),
        resolution.imports(rounds),
    ]


def _layers(rounds: int) -> list[Finding]:
    return [layers.calls(rounds)]


def _storage(rounds: int) -> list[Finding]:
    with storage.clients() as made:
        return [
            *storage.small(made, rounds),
            *storage.concurrent(made, rounds),
            *storage.large(made, rounds),
        ]


def _cache(rounds: int) -> list[Finding]:
    with cache.clients() as made:
        return [
            cache.blocking(made, rounds),
            cache.many(made, rounds),
            cache.concurrent(made, rounds),
        ]


def _gateway(rounds: int) -> list[Finding]:
    with gateway.server() as url:
        return [gateway.signing(rounds), gateway.batches(url, rounds)]


def _migration(rounds: int) -> list[Finding]:
    with migration.stores() as made:
        return [*migration.stages(made, rounds), migration.pauses(made)]


PARTS: dict[str, Callable[[int], list[Finding]]] = {
    "resolution": _resolution,
    "layers": _layers,
    "storage": _storage,
    "cache": _cache,
    "gateway": _gateway,
    "migration": _migration,
}


def main() -> int:
    """Measure; print tables; 0 whether or not a goal was reached: that is for the reader."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all unless given")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - for stdout")
    parser.add_argument("--markdown", metavar="FILE", help="write the goals there, as a table")
    parser.add_argument("--rounds", type=int, default=9, help="rounds per comparison (9)")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"no part is called {unknown[0]!r}; there are {', '.join(PARTS)}")
    logging.basicConfig(level=logging.WARNING)
    findings: list[Finding] = []
    console = Console(stderr=arguments.json == "-")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for part in arguments.parts or PARTS:
            task = progress.add_task(f"measuring {part}")
            findings += PARTS[part](arguments.rounds)
            progress.remove_task(task)
    show(findings, console)
    if arguments.markdown:
        Path(arguments.markdown).write_text(as_markdown(findings) + "\n", encoding="utf-8")
    if arguments.json == "-":
        sys.stdout.write(as_json(findings) + "\n")
    elif arguments.json:
        Path(arguments.json).write_text(as_json(findings) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
