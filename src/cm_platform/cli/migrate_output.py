"""Migrations as people read them: plans, overviews, logs and what came of an act."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from cm_platform.redaction import redact

from .migrate_words import (
    backend_of,
    backfilled_text,
    intents_text,
    moment,
    share_text,
    verified_text,
)
from .output import Output, counted, new_table, size_text, time_text

if TYPE_CHECKING:
    from cm_platform.migration.ledger import Note, Skipped, Transition
    from cm_platform.migration.overview import Overview
    from cm_platform.migration.standings import Standing

SHOWN: Final = 1000
"""Skipped keys that the ledger names at once."""


def show_plan(out: Output, body: Mapping[str, Any]) -> None:
    """What a move would mean."""
    table = new_table(("objects", "right"), ("bytes", "right"), "by other programs", "there as is")
    table.add_row(
        f"{body['objects']:,}", size_text(body["size"]), str(body["foreign"]), str(body["present"])
    )
    out.table(table)
    _findings(out, "obstacles: remove them first", body["obstacles"], "bold red")
    _findings(out, "losses: --accept-losses accepts them", body["losses"], "bold yellow")
    if body["capabilities"]:
        out.line("\ncapabilities that will be lost", "bold yellow")
        out.line(f"  {', '.join(body['capabilities'])}")
    out.line("\nto be declared, for nobody can check it: --no-other-writers declares", "bold")
    for declared in body["declared"]:
        out.line(f"  - {declared}")


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
        for lack in found.missing:
            out.line(f"  - {lack}")
    elif found.next is not None:
        out.line(f"\nnothing is missing for {found.next}", "bold green")
    show_skipped(out, found.skipped)


def show_standings(out: Output, found: Sequence[Standing]) -> None:
    """Every migration, a line each."""
    table = new_table(
        "service",
        "tenant",
        "migration",
        "stage",
        "authority",
        ("since", "right"),
        ("intents", "right"),
        ("due", "right"),
        "backfilled",
    )
    for one in found:
        state = one.state
        table.add_row(
            one.subject.kind,
            one.subject.tenant_id,
            state.terms.migration,
            str(state.stage),
            backend_of(state),
            time_text(state.age),
            str(one.pending.count),
            str(one.pending.due),
            "" if one.looked is None else share_text(one.looked, one.total),
        )
    out.table(table)
    out.line(counted(len(found), "migration"))


def show_log(out: Output, log: Sequence[Transition]) -> None:
    """Every transition, the oldest first."""
    table = new_table("when", "who", "from", "to", ("epoch", "right"), "overridden, and why")
    for line in log:
        lacked = "; ".join(map(str, line.evidence.get("missing", ())))
        why = "" if line.reason is None else redact(f"{lacked}: {line.reason}")
        table.add_row(
            moment(line.at),
            Text(line.who),
            "" if line.before is None else str(line.before),
            str(line.to),
            str(line.epoch),
            Text(why),
        )
    out.table(table)


def show_skipped(out: Output, skipped: Sequence[Skipped]) -> None:
    """Each key that could not be moved, with the reason."""
    if not skipped:
        return
    more = " (the first of them)" if len(skipped) >= SHOWN else ""
    out.line(f"\nskipped{more}", "bold red")
    table = new_table("key", "reason")
    for found in skipped:
        table.add_row(Text(found.key), Text(redact(found.reason)))
    out.table(table)


def show_differences(out: Output, body: Mapping[str, Any]) -> None:
    """Each key that a verification found to differ, and how."""
    differences = body.get("differences") or ()
    if not differences:
        return
    table = new_table("key", "difference")
    for key, how in differences:
        table.add_row(Text(str(key)), Text(redact(str(how))))
    out.table(table)
    bad = body.get("divergent", 0) + body.get("unread", 0) + body.get("busy", 0)
    if bad > len(differences):
        out.line(f"... and {bad - len(differences)} more")


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


def _findings(out: Output, title: str, found: Sequence[Mapping[str, Any]], style: str) -> None:
    if not found:
        return
    out.line(f"\n{title}", style)
    table = new_table("an object", ("objects", "right"), "such as")
    for one in found:
        table.add_row(
            Text(redact(one["what"])), f"{one['count']:,}", Text("\n".join(one["examples"]))
        )
    out.table(table)


__all__ = [
    "SHOWN",
    "show_differences",
    "show_log",
    "show_overview",
    "show_plan",
    "show_skipped",
    "show_standings",
]
