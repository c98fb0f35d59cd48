"""`cm-platform migrate prove`: clients at work, every stage and back, faults; then the verdict."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cm_platform.errors import InvalidArgumentError

from .exits import ExitCode
from .invocation import invocation_of
from .migrate_progress import Watch
from .output import Output, new_table

if TYPE_CHECKING:
    from cm_platform.config import Config
    from cm_platform.testing.proving import Proof

_KIND = "storage"
_EMBEDDED = "to-new"
_TIMEOUT = 10.0


def prove(
    context: typer.Context,
    migration: Annotated[
        str | None,
        typer.Option(
            "--migration",
            "-m",
            metavar="NAME",
            help="Of the configuration: its two backends and its ledger are used, with a tenant "
            "made for this. Left out: two directories and an SQLite ledger, made for this.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="Of traffic, at least.")] = 30.0,
    seed: Annotated[
        int | None, typer.Option(help="Of the dice. Left out: another one each time.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=32, help="Each with its own leases.")] = 3,
    clients: Annotated[int, typer.Option(min=1, max=32, help="Of each process.")] = 2,
) -> None:
    """Move a scratch tenant through every stage and back, under traffic, faults and kills.

    Writers, readers and deleters note what they did and saw; in the end each key's notes must
    be tellable as one story, no intent may be left, and both stores must be the same.
    Exit code 6 when that does not hold.
    """
    from cm_platform.tenant import Tenant
    from cm_platform.testing.proving import prove as run

    call = invocation_of(context)
    seed = secrets.randbelow(2**32) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="cm-platform-prove-") as folder:
        if migration is None:
            config, name = _embedded(Path(folder)), _EMBEDDED
        else:
            config, name = _hurried(call.load(), migration), migration
        with Watch(call.out) as watch:
            proof = asyncio.run(
                run(
                    config,
                    name,
                    Tenant(f"prove-{secrets.token_hex(8)}"),
                    seed=seed,
                    seconds=seconds,
                    processes=processes,
                    clients=clients,
                    report=watch,
                )
            )
    if call.out.as_json:
        call.out.print_json(proof.to_dict())
    else:
        _show(call.out, proof)
    if not proof.holds:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _embedded(folder: Path) -> Config:
    from cm_platform.config import load

    backends = {
        name: {"driver": "local", "path": str(folder / name), "max_request_lifetime": 0.5}
        for name in ("old", "new")
    }
    return load(
        {
            _KIND: {
                "default": "old",
                "timeout": 2,
                "retry": {"attempts": 3, "initial": 0.02, "max": 0.2},
                "breaker": {"failures": 10_000},
                "backends": backends,
                "migrations": {
                    _EMBEDDED: {
                        "source": "old",
                        "target": "new",
                        "lease": 0.2,
                        "upload_ttl": 1,
                        "soak": 0,
                        "shadow_sample": 0.2,
                    }
                },
            },
            "ledger": {"driver": "sqlite", "path": str(folder / "ledger"), "fsync": False},
        },
        environ={},
    )


def _hurried(config: Config, migration: str) -> Config:
    """The configuration with shorter times: an intent of a killed process is waited for."""
    kind = config.kinds.get(_KIND)
    if kind is None or migration not in kind.migrations:
        known = ", ".join(sorted(kind.migrations)) if kind is not None else ""
        raise InvalidArgumentError(
            f"no migration of {_KIND} has this name; there are: {known or 'none'}"
        )
    found = kind.migrations[migration]
    hurried = kind.model_copy(
        update={
            "default": found.source,
            "rules": (),
            "flags": "rules",
            "timeout": min(kind.timeout, _TIMEOUT),
            # The faults are ours; that a backend seems to be down is no news.
            "breaker": kind.breaker.model_copy(update={"failures": 10_000}),
            "migrations": {
                migration: found.model_copy(
                    update={"upload_ttl": 1, "soak": 0.0, "shadow_sample": 0.2}
                )
            },
        }
    )
    return config.model_copy(update={"kinds": {_KIND: hurried}})


def _show(out: Output, proof: Proof) -> None:
    rows: list[tuple[str, Any]] = [
        ("stages", " > ".join(proof.stages)),
        ("operations", _listed(dict(proof.operations))),
        ("keys", proof.keys),
        ("faults", _listed({str(fault): n for fault, n in proof.faults.items()})),
        ("processes killed", proof.killed),
        ("longest pause of writing", f"{proof.paused * 1000:.0f} ms"),
        ("histories that are no story", len(proof.violations)),
        ("keys that differ in the end", proof.divergent),
        ("intents left", proof.left),
        ("seed", proof.seed),
        ("time", f"{proof.seconds:.0f} s"),
    ]
    table = new_table("", "")
    for name, value in rows:
        table.add_row(Text(name, "bold"), str(value))
    out.table(table)
    for key in proof.violations:
        out.line(f"not linearizable: {key} (--json has its history)", "red")
    if proof.holds:
        out.line("nothing lost, nothing resurrected, nothing torn apart", "bold green")
    else:
        out.line("this does NOT hold", "bold red")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


__all__ = ["prove"]
