"""What somebody sees who watches a migration: bars on a terminal, a few lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cm_platform.cli.migrate_progress import Sample, Speed, Watch, figures
from cm_platform.cli.output import Output, time_text
from cm_platform.migration.progress import Progress


class Stopwatch:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def output(*, terminal: bool, as_json: bool = False) -> tuple[Output, io.StringIO]:
    stream = io.StringIO()
    out = Output(as_json=as_json)
    out.stderr = Console(file=stream, force_terminal=terminal, width=120)
    return out, stream


def reports(watch: Watch, clock: Stopwatch) -> None:
    """A wait of a minute, and a backfill of 100 seconds."""
    for left in range(60, 0, -1):
        watch(Progress("backfill", waiting=f"waiting {left} s"))
        clock.now += 1
    for done in range(0, 1001, 10):
        watch(Progress("backfill", done, 1000, done * 1000, 2))
        clock.now += 1


def test_a_terminal_shows_what_is_waited_for_then_pace_and_time_left() -> None:
    out, stream = output(terminal=True)
    clock = Stopwatch()
    with Watch(out, now=clock) as watch:
        watch(Progress("backfill", waiting="waiting 60 s"))
        assert out.stderr.is_terminal
        for done in (0, 100, 200):
            watch(Progress("backfill", done, 1000, done * 1000))
            clock.now += 10
    shown = stream.getvalue()
    assert "waiting 60 s" in shown
    assert "200 of 1,000 objects, 10/s; 1 min 20 s left; 200.0 kB, 10.0 kB/s" in shown


def test_elsewhere_a_line_now_and_then_is_enough() -> None:
    out, stream = output(terminal=False)
    clock = Stopwatch()
    with Watch(out, now=clock) as watch:
        reports(watch, clock)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["backfill: waiting 60 s", "backfill: waiting 30 s"]
    assert lines[2] == (
        "backfill: 300 of 1,000 objects, 10/s; 1 min 10 s left; 2 failed; 300.0 kB, 10.0 kB/s"
    )
    assert len(lines) == 5


def test_with_json_stderr_is_left_to_errors() -> None:
    out, stream = output(terminal=False, as_json=True)
    clock = Stopwatch()
    with Watch(out, now=clock) as watch:
        reports(watch, clock)
    assert stream.getvalue() == ""


def test_a_total_that_the_act_does_not_know_may_be_known_here() -> None:
    out, stream = output(terminal=False)
    clock = Stopwatch()
    with Watch(out, total=400, now=clock, every=10) as watch:
        for done in (0, 100):
            watch(Progress("backfill", done))
            clock.now += 10
    assert "100 of 400 objects, 10/s; 30 s left; 0 B, 0 B/s" in stream.getvalue()


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    speed = Speed()
    assert speed.rates() is None
    for second in range(100):
        speed.add(Sample(second, 0 if second < 50 else (second - 50) * 10, 0))
    rates = speed.rates()
    assert rates is not None
    assert rates[0] == pytest.approx(10)


def test_the_time_left_and_failures_fit_into_80_columns() -> None:
    shown = figures(Progress("backfill", 1_234_567, 2_000_000, 123_456_789_012, 2), (1234, 12e6))
    assert shown == (
        "1,234,567 of 2,000,000 objects, 1,234/s; 10 min 20 s left; 2 failed; 123.5 GB, 12.0 MB/s"
    )
    assert len("backfill " + shown.partition("failed")[0]) <= 80


def test_without_a_total_there_is_no_time_left() -> None:
    assert figures(Progress("plan", 7, None, 100), (2.0, 50.0)) == ("7 objects, 2/s; 100 B, 50 B/s")
    assert figures(Progress("plan", 1), None) == "1 object; 0 B"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"),
        (3, "3 s"),
        (45.4, "45 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (86_400, "1 d"),
        (100_000, "1 d 3 h"),
    ],
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
