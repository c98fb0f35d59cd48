"""A progress bar for what takes long enough to wonder about."""

from __future__ import annotations

import time
from threading import Lock
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

# Seconds. What is done sooner needs no bar.
PATIENCE: Final = 2.0


class Bar:
    """Called with bytes done and bytes in all, from any thread; shows up after a while.

    Only on a terminal, and gone when the block ends. patience: seconds before it shows.
    """

    def __init__(self, console: Console, text: str, *, patience: float = PATIENCE) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            expand=True,
        )
        self._shown = not console.is_terminal
        self._text = text
        self._task: TaskID | None = None
        self._since = time.monotonic()
        self._patience = patience
        self._guard = Lock()

    def __call__(self, done: int, total: int | None) -> None:
        """This much has been moved."""
        with self._guard:
            if not self._shown and time.monotonic() - self._since >= self._patience:
                self._shown = True
                self._task = self._progress.add_task(self._text, total=total, completed=done)
                self._progress.start()
            if self._task is not None:
                self._progress.update(self._task, completed=done, total=total)

    def __enter__(self) -> Self:
        """The bar, not shown yet."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take it away."""
        with self._guard:
            self._shown = True
            if self._task is not None:
                self._progress.stop()


__all__ = ["PATIENCE", "Bar"]
