"""Findings: figures, the goal they are held against, and whether it was reached."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Sample


@dataclass(frozen=True)
class Goal:
    """A figure against its goal. reached: None where there is only a figure."""

    what: str
    figure: float
    unit: str
    goal: str
    reached: bool | None


@dataclass
class Finding:
    """One comparison: a row per contender, and the goals it decides."""

    title: str
    rows: list[tuple[str, float, float]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    @classmethod
    def of(cls, title: str, samples: dict[str, Sample]) -> Finding:
        """From measured samples: microseconds per operation, wall and CPU."""
        return cls(title, [(name, s.wall_us, s.cpu_us) for name, s in samples.items()])

    def at_most(self, what: str, figure: float, limit: float, unit: str = "x") -> None:
        """Hold a figure against an upper bound."""
        self.goals.append(Goal(what, figure, unit, f"<= {limit:g}", figure <= limit))

    def at_least(self, what: str, figure: float, limit: float, unit: str = "x") -> None:
        """Hold a figure against a lower bound."""
        self.goals.append(Goal(what, figure, unit, f">= {limit:g}", figure >= limit))


def as_json(findings: Sequence[Finding]) -> str:
    """All findings, with where and when they were made."""
    machine = f"{platform.machine()}, Python {platform.python_version()}, {platform.system()}"
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    document = {
        "machine": machine,
        "measured": measured,
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(document, indent=2)


def as_markdown(findings: Sequence[Finding]) -> str:
    """The goals as a table, for the README."""
    lines = ["| what | measured | goal | |", "|---|---|---|---|"]
    for finding in findings:
        for goal in finding.goals:
            verdict = {True: "reached", False: "**missed**", None: ""}[goal.reached]
            lines.append(
                f"| {goal.what} | {goal.figure:,.2f} {goal.unit} | {goal.goal} | {verdict} |"
            )
    return "\n".join(lines)


def show(findings: Sequence[Finding], console: Console) -> None:
    """The tables for people."""
    for finding in findings:
        if finding.rows:
            table = Table(title=finding.title, title_justify="left")
            table.add_column("who")
            table.add_column("us/op", justify="right")
            table.add_column("CPU us/op", justify="right")
            for name, wall, cpu in finding.rows:
                table.add_row(name, f"{wall:,.2f}", f"{cpu:,.2f}")
            console.print(table)
    goals = Table(title="Goals", title_justify="left")
    for column in ("what", "measured", "goal", ""):
        goals.add_column(column)
    for finding in findings:
        for goal in finding.goals:
            verdict = {True: "[green]reached[/]", False: "[red]missed[/]", None: ""}[goal.reached]
            goals.add_row(goal.what, f"{goal.figure:,.2f} {goal.unit}", goal.goal, verdict)
    console.print(goals)
