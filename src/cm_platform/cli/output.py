"""What a command says: results on stdout, everything else on stderr.

With `--json` stdout has one JSON document and nothing else, and an error is one on stderr.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cm_platform.errors import ConfigInvalidError, PlatformError
from cm_platform.redaction import redact

# Into a file or a pipe a line is a line, however long.
_UNLIMITED: Final = 10_000

Justify = Literal["left", "right"]


class Output:
    """The two streams of one command. as_json: `print_json` is what counts."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.stdout = _console(to_stderr=False)
        self.stderr = _console(to_stderr=True)

    def print_json(self, value: Any) -> None:
        """The command's one document."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """One line of the result."""
        self.stdout.print(Text(text, style=style), soft_wrap=True)

    def paragraph(self, text: str, style: str = "") -> None:
        """Text, wrapped between words to the terminal's width."""
        self.stdout.print(Text(text, style=style))

    def table(self, table: Table) -> None:
        """A table, as wide as it must be and the terminal is."""
        with self.stdout.capture() as capture:
            self.stdout.print(table)
        # rich fills lines up with blanks; in a file and in a diff they are in the way.
        for line in capture.get().splitlines():
            sys.stdout.write(f"{line.rstrip()}\n")

    def note(self, text: str) -> None:
        """Something beside the result."""
        self.stderr.print(Text(text, style="dim"), soft_wrap=True)

    def error(self, error: PlatformError) -> None:
        """Why the command failed. Never a secret: errors have none, and this looks again."""
        if self.as_json:
            told = error.to_dict()
            told["message"] = redact(told["message"])
            if isinstance(error, ConfigInvalidError):
                told["problems"] = [redact(problem) for problem in error.problems]
            sys.stderr.write(json.dumps({"error": told}, ensure_ascii=False) + "\n")
            return
        text = Text.assemble((error.code, "bold red"), ": ", redact(str(error)))
        self.stderr.print(text, soft_wrap=True)


def new_table(*columns: str | tuple[str, Justify], title: str | None = None) -> Table:
    """A table whose cells wrap and never lose a character."""
    table = Table(
        title=title,
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
    )
    for column in columns:
        name, justify = (column, "left") if isinstance(column, str) else column
        numeric = justify == "right"
        table.add_column(
            Text(name),
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
        )
    return table


def counted(number: int, noun: str) -> str:
    """A number of things: 1 tenant, 2 tenants."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_text(size: int) -> str:
    """Bytes for people: 812 B, 4.4 kB, 1.2 GB (powers of 1,000)."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def time_text(seconds: float) -> str:
    """A length of time for people: 0.3 s, 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for size, unit, smaller, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return _two(whole // size, unit, whole % size // smaller, name)
    return _two(whole // 60, "min", whole % 60, "s") if whole >= 60 else f"{whole} s"


def _two(large: int, unit: str, small: int, name: str) -> str:
    return f"{large} {unit} {small} {name}" if small else f"{large} {unit}"


def _console(*, to_stderr: bool) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    narrow = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        file=stream,
        width=None if narrow else _UNLIMITED,
        highlight=False,
        markup=False,
        emoji=False,
    )


__all__ = ["Output", "counted", "new_table", "size_text", "time_text"]
