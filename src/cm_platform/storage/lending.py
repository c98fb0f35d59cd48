"""Files that worker threads use, and whose owner may leave at any moment.

A cancelled call returns at once while its thread works on. The file can then be closed neither
under the thread's hands nor by the caller, who is gone: whoever of the two is last does it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cm_platform.errors import InternalError


class Lent:
    """What is used in worker threads and let go of once, when its owner has closed it."""

    def __init__(self, let_go: Callable[[], None]) -> None:
        self._let_go = let_go
        self._guard = threading.Lock()
        self._users = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the owner is gone: work of some length looks, and may stop."""
        return self._closed

    @contextmanager
    def used(self) -> Generator[None]:
        """Keep it while the block works; the last one out lets go of what was closed meanwhile."""
        with self._guard:
            if self._closed:
                raise InternalError("the caller was cancelled before this began")
            self._users += 1
        try:
            yield
        finally:
            self._leave()

    def close(self) -> None:
        """The owner is gone. Let go: now, or when those who use it are done. Once."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            idle = self._users == 0
        if idle:
            self._let_go()

    def _leave(self) -> None:
        with self._guard:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self._let_go()


class PartialFile:
    """A file that appears under its name only when it is whole. Its methods block.

    `close` may come at any moment: what was not committed by then leaves nothing behind.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path = target.with_name(f".{target.name}.{os.urandom(4).hex()}.partial")
        self._file: BinaryIO | None = None
        self._lent = Lent(self._let_go)

    def open(self) -> None:
        """Create it, under a name that nobody looks for."""
        with self._lent.used():
            self._file = self._path.open("xb")

    def write(self, data: bytes) -> None:
        """Append to it."""
        with self._lent.used():
            self._opened().write(data)

    def commit(self) -> None:
        """Give it its name."""
        with self._lent.used():
            file = self._opened()
            file.close()
            if not self._lent.closed:
                self._path.replace(self._target)
                self._file = None

    def close(self) -> None:
        """Remove what was not committed: now, or when the thread that writes is done."""
        self._lent.close()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise InternalError("a file that is not open was written to")
        return self._file

    def _let_go(self) -> None:
        if self._file is not None:
            # What is still buffered is thrown away with the file: it need not find room.
            with suppress(OSError):
                self._file.close()
            self._path.unlink(missing_ok=True)


__all__ = ["Lent", "PartialFile"]
