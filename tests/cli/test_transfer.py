"""A bar shows when something takes long, on a terminal, and is gone in the end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cm_platform.cli.output import size_text
from cm_platform.cli.transfer import Bar


def shown(*, terminal: bool, patience: float) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80)
    with Bar(console, "press/été.png", patience=patience) as bar:
        bar(1_000_000, 4_000_000)
        bar(2_000_000, 4_000_000)
    return stream.getvalue()


def test_a_long_transfer_shows_a_bar() -> None:
    assert "press/été.png" in shown(terminal=True, patience=0)


def test_a_short_one_shows_none() -> None:
    assert shown(terminal=True, patience=60) == ""


def test_into_a_file_nothing_is_written() -> None:
    assert shown(terminal=False, patience=0) == ""


def test_a_size_that_nobody_knows_is_no_reason_to_fail() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Bar(console, "stdin", patience=0) as bar:
        bar(1, None)
        bar(2, None)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (4435, "4.4 kB"), (3_000_000, "3.0 MB"), (2 * 10**12, "2.0 TB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
