"""One writer per key at a time, across threads and processes."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

from cm_platform.errors import UnavailableError

from .files import FILE_MODE

WAIT: Final = 10.0
"""Seconds that a writer waits for others. Holders only rename: more means one is stuck."""

_FIRST_PAUSE: Final = 0.000_2
_LONGEST_PAUSE: Final = 0.01


class KeyLocks:
    """256 lock files in a directory. Keys that share one wait for each other, no more."""

    def __init__(self, directory: str, *, wait: float = WAIT) -> None:
        self._directory = directory
        self._wait = wait

    @contextmanager
    def hold(self, key: str) -> Generator[None]:
        """Be the only writer of a key; `unavailable` after `wait` seconds."""
        import fcntl  # Not on Windows, which `open` refuses with a reason.

        shard = blake2b(key.encode(), digest_size=1).hexdigest()
        # Opened anew each time: flock excludes open files from each other, so a descriptor that
        # two threads share would let both in.
        descriptor = os.open(f"{self._directory}/{shard}", os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            _acquire(descriptor, time.monotonic() + self._wait)
            try:
                yield
            finally:
                # Not left to close: a child forked meanwhile holds the same open file.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


def _acquire(descriptor: int, deadline: float) -> None:
    import fcntl

    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    "another writer held the key's lock for too long",
                    retryable=True,
                    not_sent=True,
                ) from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return


__all__ = ["WAIT", "KeyLocks"]
