"""Migrations as people read them: overviews, logs and what came of an act."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from cm_platform.redaction import redact

from .migrate_words import (
    backend_of,
    backfilled_text,
    intents_text,
    moment,
    verified_text,
)
from .output import Output, counted, new_table, time_text

if TYPE_CHECKING:
    from cm_platform.migration.ledger import Note, Skipped, Transition
    from cm_platform.migration.overview import Overview
    from cm_platform.migration.standings import Standing

SHOWN: Final = 1000
"""Skipped keys that are shown; `--json` has all."""


def show_overview(out: Output, found: Overview) -> None:
    """All that is known of one migration."""
    terms = found.state.terms
    who = f"{found.subject.kind} of {found.subject.tenant_id}"
    table = new_table(terms.migration, f"{who}, {terms.source} -> {terms.target}")
    for name, value in _facts(found):
        table.add_row(name, Text(value))
    out.table(table)
    if found.shadow:
        out.line("\nshadow reads", "bold")
        shadow = new_table(
            "keys",
            ("compared", "right"),
            ("same", "right"),
            ("being written", "right"),
            ("unreadable", "right"),
            "differed",
        )
        for group in found.shadow:
            how = ", ".join(f"{name}: {count}" for name, count in group.differed.items())
            shadow.add_row(
                Text(group.name),
                str(group.compared),
                str(group.same),
                str(group.pending),
                str(group.unreadable),
                how or "0",
            )
        out.table(shadow)
    if found.missing:
        out.line(f"\nmissing for {found.next}", "bold yellow")
        points(out, found.missing)
    elif found.next is not None:
        out.line(f"\nnothing is missing for {found.next}", "bold green")
    show_skipped(out, found.skipped)


def show_standings(out: Output, found: Sequence[Standing]) -> None:
    """Every migration, a line each."""
    if not found:
        out.line("no migration was ever started")
        return
    table = new_table(
        "service",
        "tenant",
        "migration",
        "data on",
        ("since", "right"),
        ("intents", "right"),
        ("backfill", "right"),
    )
    for column in table.columns:
        # A tenant's id may be long, and is the only cell that still reads well in pieces.
        column.no_wrap = str(column.header) != "tenant"
    for one in found:
        state = one.state
        due = f", {one.pending.due} due" if one.pending.due else ""
        table.add_row(
            one.subject.kind,
            one.subject.tenant_id,
            f"{state.terms.migration}:{state.stage}",
            backend_of(state),
            time_text(state.age),
            f"{one.pending.count}{due}",
            _backfilled(one),
        )
    out.table(table)
    out.line(counted(len(found), "migration"))


def show_log(out: Output, log: Sequence[Transition]) -> None:
    """Every transition, the oldest first; then what was overridden, and why."""
    table = new_table("when", "who", "from", "to", ("epoch", "right"))
    for column in table.columns:
        column.no_wrap = str(column.header) != "who"
    for line in log:
        table.add_row(
            moment(line.at),
            Text(line.who),
            "" if line.before is None else str(line.before),
            str(line.to),
            str(line.epoch),
        )
    out.table(table)
    overridden = [line for line in log if line.reason is not None]
    if overridden:
        out.line("\noverridden, and why", "bold yellow")
    for line in overridden:
        lacked = "; ".join(map(str, line.evidence.get("missing", ())))
        points(out, [redact(f"epoch {line.epoch}: {lacked}: {line.reason}")])


def show_skipped(out: Output, skipped: Sequence[Skipped]) -> None:
    """Keys that could not be moved, with the reason; how many more there are than are shown."""
    if not skipped:
        return
    out.line(f"\nskipped: {counted(len(skipped), 'key')}", "bold red")
    table = new_table("key", "reason")
    for found in skipped[:SHOWN]:
        table.add_row(Text(found.key), Text(redact(found.reason)))
    out.table(table)
    if len(skipped) > SHOWN:
        out.line(f"... and {len(skipped) - SHOWN:,} more: --json lists all")


def show_differences(out: Output, body: Mapping[str, Any]) -> None:
    """Keys that a verification found to differ, and how; of a cache, what it found."""
    points(out, [redact(str(problem)) for problem in body.get("problems", ())])
    differences = body.get("differences") or ()
    if not differences:
        return
    table = new_table("key", "difference")
    for key, how in differences:
        table.add_row(Text(str(key)), Text(redact(str(how))))
    out.table(table)
    bad = body.get("divergent", 0) + body.get("unread", 0) + body.get("busy", 0)
    if bad > len(differences):
        out.line(f"... and {bad - len(differences):,} more")


def points(out: Output, found: Iterable[str], mark: str = "- ") -> None:
    """A line each, wrapped between words where there is an end to the line."""
    for point in found:
        out.line(
            textwrap.fill(
                point,
                out.stdout.width,
                initial_indent=f"  {mark}",
                subsequent_indent=" " * (2 + len(mark)),
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def _facts(found: Overview) -> Iterator[tuple[str, str]]:
    state, terms = found.state, found.state.terms
    yield "stage", f"{state.stage}, since {time_text(state.age)}"
    yield "authority", f"{backend_of(state)} ({state.authority})"
    yield "epoch", str(state.epoch)
    if state.paused:
        yield "writing", "paused: the data changes sides"
    elif state.lease <= 0:
        yield "writing", "goes on: a change of sides is announced"
    yield "intents", intents_text(found.pending)
    if found.settling:
        yield "settling", f"{time_text(found.settling)} until earlier writes are over"
    backfill, verification = found.notes.get("backfill"), found.notes.get("verification")
    yield "backfill", _noted(backfill, lambda body: backfilled_text(body, found.total), "not begun")
    yield "verification", _noted(verification, verified_text, "none")
    if found.compared:
        share = found.differed / found.compared
        yield (
            "shadow reads",
            (
                f"{found.compared:,} compared, {found.differed:,} differed ({share:.2%}; "
                f"{found.max_divergence:.2%} may)"
            ),
        )
    if found.soak:
        yield "soak", f"{time_text(found.soak)} left of {time_text(terms.soak)}"


def _noted(note: Note | None, told: Callable[[Mapping[str, Any]], str], nothing: str) -> str:
    return nothing if note is None else f"{told(note.body)} ({time_text(note.age)} ago)"


def _backfilled(one: Standing) -> str:
    if one.looked is None:
        return ""
    return f"{min(one.looked / one.total, 1):.0%}" if one.total else f"{one.looked:,}"


__all__ = [
    "SHOWN",
    "points",
    "show_differences",
    "show_log",
    "show_overview",
    "show_skipped",
    "show_standings",
]
