"""Where the processes of a machine keep count together: a small file, locked while it is used.

It lies in a directory that only this user can enter. One that somebody else made, or could have
changed, is not used; nor is a symbolic link followed. Where there is no such place (a read-only
disk), each process counts for itself, and says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import stat
import tempfile
import threading
import weakref
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

from .ring import Memory

logger = logging.getLogger("cm_platform.cloudflare")


class Record(Memory, Protocol):
    """A ring's bytes, and the lock on them. shared: with the other processes of this machine."""

    shared: bool

    def locked(self) -> AbstractContextManager[bool]:
        """The lock, held within the block; False when another process has it now."""
        ...

    def substitute(self, error: OSError) -> LocalRecord:
        """What to use from now on, because this one failed; the same one for all who ask."""
        ...


def record_of(token: str, directory: Path | None = None) -> Record:
    """The record of a token; the same one wherever this process asks.

    token: only its digest is written down, as the file's name.
    directory: where; made if it is not there. None: for this user, with the temporary files.
    """
    name = hashlib.sha256(b"cm_platform rest limiter\0" + token.encode()).hexdigest()[:40]
    with _guard:
        key = (str(directory), name)
        if (known := _records.get(key)) is not None:
            return known
        record: Record
        try:
            record = FileRecord(directory or _usual(), f"{name}.rate")
        except OSError as error:
            _say_alone(error)
            record = LocalRecord()
        _records[key] = record
        return record


def _usual() -> Path:
    # OSError where there is no directory for temporary files.
    return Path(tempfile.gettempdir()) / f"cm_platform-{os.geteuid()}"


class LocalRecord:
    """In this process alone. A child made by fork starts from a copy."""

    shared = False

    def __init__(self) -> None:
        self._data = bytearray()
        self.lock = threading.Lock()
        _all.add(self)

    @contextmanager
    def locked(self) -> Generator[bool, None, None]:
        """See `Record`."""
        with self.lock:
            yield True

    def read(self, offset: int, size: int) -> bytes:
        """See `Memory`."""
        return bytes(self._data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """See `Memory`."""
        end = offset + len(data)
        self._data.extend(bytes(max(end - len(self._data), 0)))
        self._data[offset:end] = data

    def substitute(self, error: OSError) -> LocalRecord:
        """Itself: memory does not fail so."""
        raise error

    def after_fork(self) -> None:
        """In the child: the lock may have been held by a thread that is no more."""
        self.lock = threading.Lock()


class FileRecord:
    """In a file. OSError when its place is not private, or it cannot be made, read or written."""

    shared = True

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self.lock = threading.Lock()
        self._file: int | None = _opened(directory, name)
        self._substitute: LocalRecord | None = None
        _all.add(self)

    @contextmanager
    def locked(self) -> Generator[bool, None, None]:
        """See `Record`."""
        with self.lock:
            file = self._current()
            try:
                # Of the open file, so that two descriptors of one process exclude each other
                # too; and not waiting, because its owner may have been stopped.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def read(self, offset: int, size: int) -> bytes:
        """See `Memory`."""
        return os.pread(self._held(), size, offset)

    def write(self, offset: int, data: bytes) -> None:
        """See `Memory`."""
        if os.pwrite(self._held(), data, offset) != len(data):
            raise OSError("the record of requests could not be written whole")

    def substitute(self, error: OSError) -> LocalRecord:
        """See `Record`."""
        with self.lock:
            if self._substitute is None:
                _say_alone(error)
                self._substitute = LocalRecord()
            return self._substitute

    def after_fork(self) -> None:
        """In the child: a lock on the parent's descriptor would be the parent's lock, too."""
        self.lock = threading.Lock()
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _held(self) -> int:
        if self._file is None:
            raise OSError("the record of requests is not open")
        return self._file

    def _current(self) -> int:
        if self._file is not None and os.fstat(self._file).st_nlink == 0:
            # Somebody tidied up. Others will make a new one, and must find there what we know.
            old, self._file = self._file, None
            try:
                self._file = _opened(self._directory, self._name)
                self._hand_over(old, self._file)
            finally:
                os.close(old)
        if self._file is None:
            self._file = _opened(self._directory, self._name)
        return self._file

    def _hand_over(self, old: int, new: int) -> None:
        fcntl.flock(new, fcntl.LOCK_EX)
        try:
            if os.fstat(new).st_size == 0:
                os.pwrite(new, os.pread(old, os.fstat(old).st_size, 0), 0)
        finally:
            fcntl.flock(new, fcntl.LOCK_UN)


def _say_alone(error: OSError) -> None:
    logger.warning(
        "this process alone counts its requests to Cloudflare's API, others on this machine count "
        "theirs, and together they may exceed the token's rate: %s. Set `limiter_directory` to a "
        "directory that only this user can read and write",
        error.strerror or type(error).__name__,
    )


def _opened(directory: Path, name: str) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_private(os.fstat(folder))
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(name, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(0, "the record of requests is no regular file")
        _check_private(status)
    except OSError:
        os.close(file)
        raise
    return file


def _check_private(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise PermissionError(0, "the place of the record belongs to another user")
    if status.st_mode & 0o077:
        raise PermissionError(0, "the place of the record is open to other users")


_guard = threading.Lock()
_records: Final[dict[tuple[str, str], Record]] = {}
_all: Final[weakref.WeakSet[LocalRecord | FileRecord]] = weakref.WeakSet()


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()
    for record in list(_all):
        record.after_fork()


os.register_at_fork(after_in_child=_after_fork)

__all__ = ["FileRecord", "LocalRecord", "Record", "record_of"]
