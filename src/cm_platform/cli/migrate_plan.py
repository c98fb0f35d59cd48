"""A plan as people read it: of objects, which are counted, or of a cache, whose use is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.text import Text

from cm_platform.redaction import redact

from .migrate_output import points
from .output import Output, new_table, size_text


class _Columns(NamedTuple):
    what: str
    amount: str
    examples: str


def show_plan(out: Output, body: Mapping[str, Any]) -> None:
    """What a move would mean."""
    if "namespaces" in body:
        _show_use(out, body["namespaces"])
        columns = _Columns("what", "operations", "namespaces")
    else:
        _show_objects(out, body)
        columns = _Columns("an object", "objects", "such as")
    _findings(out, "obstacles: remove them first", columns, body["obstacles"], "bold red")
    _findings(out, "losses: --accept-losses accepts them", columns, body["losses"], "bold yellow")
    if body["capabilities"]:
        out.line("\ncapabilities that will be lost", "bold yellow")
        points(out, [", ".join(body["capabilities"])], "")
    out.line("\nto be declared, for nobody can check it: --no-other-writers declares", "bold")
    points(out, body["declared"])


def _show_objects(out: Output, body: Mapping[str, Any]) -> None:
    table = new_table(
        ("objects", "right"),
        ("bytes", "right"),
        ("by other programs", "right"),
        ("there as is", "right"),
    )
    table.add_row(
        f"{body['objects']:,}",
        size_text(body["size"]),
        f"{body['foreign']:,}",
        f"{body['present']:,}",
    )
    out.table(table)


def _show_use(out: Output, namespaces: Mapping[str, Mapping[str, Any]]) -> None:
    """What was recorded of a cache's use."""
    if not namespaces:
        out.line("nothing was recorded of its use")
        return
    table = new_table("namespace", ("reads", "right"), ("writes", "right"), "can live in", "why")
    for name, found in namespaces.items():
        table.add_row(
            Text(name),
            f"{found['reads']:,}",
            f"{found['writes']:,}",
            str(found["home"]),
            "; ".join(found["why"]),
        )
    out.table(table)


def _findings(
    out: Output,
    title: str,
    columns: _Columns,
    found: Sequence[Mapping[str, Any]],
    style: str,
) -> None:
    if not found:
        return
    out.line(f"\n{title}", style)
    table = new_table(columns.what, (columns.amount, "right"), columns.examples)
    for one in found:
        table.add_row(
            Text(redact(one["what"])), f"{one['count']:,}", Text("\n".join(one["examples"]))
        )
    out.table(table)


__all__ = ["show_plan"]
