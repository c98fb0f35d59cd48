"""How far a migration's long acts have come: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Final, NamedTuple, Self

from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from cm_platform.migration.progress import Progress

from .output import Output, counted, size_text, time_text

EVERY: Final = 30.0
"""Seconds between lines, where there is no terminal."""

_WINDOW: Final = 30.0


class Sample(NamedTuple):
    """What was done by then. at: monotonic seconds."""

    at: float
    objects: int
    size: int


class Speed:
    """Objects and bytes a second, over the last half minute."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        """So much has been done by now."""
        self._samples.append(sample)
        while len(self._samples) > 2 and sample.at - self._samples[0].at > _WINDOW:
            self._samples.popleft()

    def rates(self) -> tuple[float, float] | None:
        """Objects and bytes a second; None as long as nobody can tell."""
        if len(self._samples) < 2:
            return None
        first, last = self._samples[0], self._samples[-1]
        if (seconds := last.at - first.at) <= 0:
            return None
        return (last.objects - first.objects) / seconds, (last.size - first.size) / seconds


class Watch:
    """Called with each report; says on stderr how far it is, or what is waited for.

    A bar on a terminal, gone when the block ends. Elsewhere a line when something is waited for,
    and one every so often; with `--json` none, because errors there are JSON.

    total: objects, for reports that do not know. now: monotonic seconds. every: seconds between
    lines.
    """

    def __init__(
        self,
        out: Output,
        *,
        total: int | None = None,
        now: Callable[[], float] = time.monotonic,
        every: float = EVERY,
    ) -> None:
        self._out = out
        self._total = total
        self._now = now
        self._every = every
        self._bars: Bars | None = None
        if out.stderr.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[figures]}", markup=False),
                console=out.stderr,
                transient=True,
                expand=True,
            )
        self._row: tuple[str, bool] | None = None
        self._task: TaskID | None = None
        self._speed = Speed()
        self._told = 0.0

    def __call__(self, progress: Progress) -> None:
        """This is how far it is."""
        if progress.total is None:
            progress = replace(progress, total=self._total)
        now = self._now()
        row = progress.act, progress.waiting is not None
        is_new = row != self._row
        if is_new:
            self._row, self._speed = row, Speed()
        self._speed.add(Sample(now, progress.done, progress.moved))
        if self._bars is not None:
            self._drawn(self._bars, progress, is_new)
        elif not self._out.as_json:
            self._written(progress, now, is_new)

    def _drawn(self, bars: Bars, progress: Progress, is_new: bool) -> None:
        if is_new and self._task is not None:
            bars.remove_task(self._task)
            self._task = None
        text = progress.waiting or progress.act
        shown = "" if progress.waiting else figures(progress, self._speed.rates())
        if self._task is None:
            self._task = bars.add_task(text, total=progress.total, figures=shown)
        bars.update(
            self._task,
            description=text,
            completed=progress.done,
            total=progress.total,
            figures=shown,
        )

    def _written(self, progress: Progress, now: float, is_new: bool) -> None:
        if is_new:
            # What is over in no time is not worth a line; a wait is.
            self._told = now if progress.waiting is None else now - self._every
        if now - self._told >= self._every:
            self._told = now
            self._out.note(
                f"{progress.act}: " + (progress.waiting or figures(progress, self._speed.rates()))
            )

    def __enter__(self) -> Self:
        """Nothing is shown yet."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take it away."""
        if self._bars is not None:
            self._bars.stop()


def figures(progress: Progress, rates: tuple[float, float] | None) -> str:
    """What is done, how fast, how long the rest takes at that pace, and what failed.

    What a narrow terminal has no room for stands last.
    """
    if progress.total is None:
        told = [counted(progress.done, "object")]
    else:
        told = [f"{progress.done:,} of {progress.total:,} objects"]
    size = size_text(progress.moved)
    if rates is not None and rates[0] > 0:
        told[0] += f", {rates[0]:,.0f}/s"
        size += f", {size_text(round(rates[1]))}/s"
        if progress.total is not None and progress.total > progress.done:
            told.append(f"{time_text((progress.total - progress.done) / rates[0])} left")
    if progress.failed:
        told.append(f"{progress.failed:,} failed")
    return "; ".join([*told, size])


__all__ = ["EVERY", "Sample", "Speed", "Watch", "figures"]
