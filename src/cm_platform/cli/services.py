"""`cm-platform services`: what there is, and what each backend can do, by their own word."""

from __future__ import annotations

import difflib
import re
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from pydantic import BaseModel

from cm_platform.config.fields import hidden_values, keys_of
from cm_platform.errors import InvalidArgumentError
from cm_platform.limits import provenance
from cm_platform.registry import REGISTRY, Backend, Registry
from cm_platform.routing import KINDS

from .exits import ExitCode
from .invocation import invocation_of
from .output import Output, new_table

BEGIN: Final = "<!-- services: written by `cm-platform services --markdown` -->"
END: Final = "<!-- /services -->"

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+).*extra == ['\"]([a-z0-9-]+)['\"]")


class Driver(NamedTuple):
    """A backend as its descriptor has it."""

    name: str
    backend: Backend[Any]
    ours: bool
    missing: list[str]


def services(
    context: typer.Context,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The table of our own backends, for a README.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check", metavar="FILE", help="Exit code 6 when FILE's marked table is another."
        ),
    ] = None,
) -> None:
    """Show services, their backends and capabilities. No configuration, no network."""
    call = invocation_of(context)
    if check is not None:
        _check(call.out, check)
    elif markdown and call.out.as_json:
        call.out.print_json({"markdown": markdown_block()})
    elif markdown:
        call.out.line(markdown_block().rstrip("\n"))
    elif call.out.as_json:
        call.out.print_json({"services": [_described(kind) for kind in KINDS]})
    else:
        for kind in KINDS:
            _show(call.out, kind)


def markdown_block(registry: Registry = REGISTRY) -> str:
    """The table between its markers; the same wherever it is made."""
    lines = [BEGIN]
    for kind in KINDS:
        drivers = [driver for driver in _drivers(kind, registry) if driver.ours]
        lines += [
            f"| {kind} | {' | '.join(f'`{driver.name}`' for driver in drivers)} |",
            f"|---|{'---|' * len(drivers)}",
        ]
        for capability in _capabilities(drivers):
            cells = ("yes" if capability in d.backend.capabilities else "no" for d in drivers)
            lines.append(f"| `{capability}` | {' | '.join(cells)} |")
        extras = (f"`{d.backend.extra}`" if d.backend.extra else "none" for d in drivers)
        lines += [f"| extra to install | {' | '.join(extras)} |", ""]
    return "\n".join([*lines[:-1], END]) + "\n"


def is_secret(model: type[BaseModel], name: str) -> bool:
    """Whether a setting's value is never shown."""
    return bool(hidden_values(model, {name: "?"}))


def _check(out: Output, file: Path) -> None:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidArgumentError(f"{file} cannot be read: {error.strerror}") from error
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        raise InvalidArgumentError(f"{file} has no table between {BEGIN} and {END}")
    found = text[begin : end + len(END)] + "\n"
    wanted = markdown_block()
    if out.as_json:
        out.print_json({"file": str(file), "current": found == wanted})
    elif found == wanted:
        out.line(f"{file} is current")
    else:
        changes = difflib.unified_diff(
            found.splitlines(), wanted.splitlines(), str(file), "current", lineterm="", n=0
        )
        for line in changes:
            out.line(line)
    if found != wanted:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _show(out: Output, kind: str) -> None:
    drivers = _drivers(kind, REGISTRY)
    table = new_table("capability", *(driver.name for driver in drivers), title=kind)
    for capability in _capabilities(drivers):
        table.add_row(
            capability,
            *("yes" if capability in d.backend.capabilities else "-" for d in drivers),
        )
    table.add_section()
    table.add_row("its SDK", *(_installed(driver) for driver in drivers))
    out.table(table)
    for driver in drivers:
        if driver.missing:
            out.line(f"{driver.name}: pip install 'cm-platform[{driver.backend.extra}]'")


def _installed(driver: Driver) -> str:
    if driver.backend.extra is None:
        return "needs none"
    return "missing" if driver.missing else "installed"


def _described(kind: str) -> dict[str, Any]:
    drivers = _drivers(kind, REGISTRY)
    dated = {name: (source, as_of) for name, source, as_of in provenance()}
    capabilities = _capabilities(drivers)
    backends: list[dict[str, Any]] = []
    for driver in drivers:
        source, as_of = dated.get(driver.backend.name, (None, None))
        model = driver.backend.config
        backends.append(
            {
                "driver": driver.name,
                "name": driver.backend.name,
                "extra": driver.backend.extra,
                "missing": driver.missing,
                "capabilities": {c: c in driver.backend.capabilities for c in capabilities},
                "settings": {
                    name: {"required": field.is_required(), "secret": is_secret(model, name)}
                    for name, field in keys_of(model).items()
                },
                "limits": {"source": source, "as_of": as_of.isoformat() if as_of else None},
            }
        )
    return {"service": kind, "holds_data": KINDS[kind].holds_data, "backends": backends}


def _drivers(kind: str, registry: Registry) -> list[Driver]:
    found: list[Driver] = []
    for name in registry.names(kind):
        backend = registry.get(kind, name)
        ours = backend.open.__module__.partition(".")[0] == "cm_platform"
        found.append(Driver(name, backend, ours, _missing(backend.extra) if ours else []))
    return found


def _capabilities(drivers: list[Driver]) -> list[str]:
    return sorted({str(name) for driver in drivers for name in driver.backend.capabilities})


def _missing(extra: str | None) -> list[str]:
    """What the extra would bring and is not there."""
    missing: list[str] = []
    for line in (requires("cm-platform") or []) if extra else []:
        match = _REQUIREMENT.match(line)
        if match is not None and match[2] == extra:
            try:
                distribution(match[1])
            except PackageNotFoundError:
                missing.append(match[1])
    return missing


__all__ = ["BEGIN", "END", "is_secret", "markdown_block", "services"]
