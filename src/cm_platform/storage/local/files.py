"""Files and directories as the embedded store makes them: private, whole, and synced if asked."""
# Paths are plain strings here: pathlib costs more than the system calls that are made.
# ruff: noqa: PTH102, PTH106, PTH108, PTH112, PTH120

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import Final

from cm_platform.errors import IntegrityError, UnavailableError

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
CHUNK: Final = 1024**2
ATTEMPTS: Final = 100
"""How often a race with other writers is run again before it is called a failure."""

# A link is never ours. And opening a pipe would wait for somebody who writes to it.
_READ_OURS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_PREAD_MOST: Final = 1024**3  # Linux reads at most 2 GiB less a page in one call.


def gone() -> UnavailableError:
    """The error for a store whose directory is no longer there."""
    return UnavailableError(
        "the store's directory is gone; is its volume still mounted?", retryable=True
    )


def busy() -> UnavailableError:
    """The error for a race that was lost `ATTEMPTS` times."""
    return UnavailableError(
        "other writers were faster every time; try again", retryable=True, not_sent=True
    )


def create(path: str, *, top: str) -> int:
    """Create a file for writing, with its directories below `top`, which must exist."""
    for _ in range(ATTEMPTS):
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        except FileNotFoundError:
            # Also when the directory was made, found empty and pruned by somebody else.
            _make_directories(os.path.dirname(path), top)
    raise busy()


def write_all(descriptor: int, data: bytes | memoryview) -> int:
    """Write all of it; how many bytes that were."""
    view = memoryview(data)
    rest = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
    size = rest.nbytes
    while rest.nbytes:
        rest = rest[os.write(descriptor, rest) :]
    return size


def write_file(path: str, data: bytes | memoryview, *, fsync: bool) -> int:
    """Create a file in an existing directory and fill it; its size."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        size = write_all(descriptor, data)
        if fsync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size


def open_file(path: str) -> int:
    """Open one of our files for reading; `integrity` for a link, and what else is no file."""
    try:
        descriptor = os.open(path, _READ_OURS)
    except OSError as error:
        if error.errno in _IS_LINK:
            raise _planted() from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _planted()
    return descriptor


def read_file(path: str) -> bytes:
    """All of a small file."""
    descriptor = open_file(path)
    try:
        pieces = [os.read(descriptor, 65536)]
        while pieces[-1] and len(pieces[-1]) == 65536:
            pieces.append(os.read(descriptor, 65536))
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def read_range(descriptor: int, start: int, end: int) -> bytes:
    """Bytes [start, end) of a file that must have them."""
    data = os.pread(descriptor, min(end - start, _PREAD_MOST), start)
    if len(data) == end - start:
        return data
    pieces = [data]
    at = start + len(data)
    while pieces[-1] and at < end:
        pieces.append(os.pread(descriptor, min(end - at, _PREAD_MOST), at))
        at += len(pieces[-1])
    if at < end:
        raise truncated()
    return b"".join(pieces)


def copy_range(source: int, target: int, start: int, end: int) -> None:
    """Append bytes [start, end) of one file to another, inside the kernel where it can."""
    while start < end:
        moved = _copy_some(source, target, start, end - start)
        if moved == 0:
            raise truncated()
        start += moved


def check_file(path: str) -> int:
    """The size of one of our files; `integrity` as in `open_file`."""
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise _planted()
    return found.st_size


def truncated() -> IntegrityError:
    """The error for a data file that is shorter than its sidecar says."""
    return IntegrityError("the stored bytes are fewer than were written: the file was damaged")


def sync_directories(directory: str, *, top: str) -> None:
    """Make the names in a directory durable, and the directory's own, up to `top`.

    All of them: another writer may have made a directory and not synced it yet.
    """
    while True:
        with suppress(FileNotFoundError):  # Emptied and pruned: nothing is left to keep.
            sync_file(directory)
        if directory == top:
            return
        directory = os.path.dirname(directory)


def sync_file(path: str) -> None:
    """Make a file's bytes, or a directory's names, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(*paths: str) -> None:
    """Remove files that may not be there. What cannot be removed waits for a sweep."""
    for path in paths:
        with suppress(OSError):
            os.unlink(path)


def prune(directory: str, *, top: str) -> None:
    """Remove a directory and those above it, up to `top`, as far as they are empty."""
    while directory != top:
        try:
            os.rmdir(directory)
        except OSError:
            return
        directory = os.path.dirname(directory)


# What opening a link without following it says: POSIX and, besides, FreeBSD and NetBSD.
_IS_LINK: Final = {errno.ELOOP, errno.EMLINK}


def _planted() -> IntegrityError:
    return IntegrityError(
        "in place of a file of the store there is something else, such as a link, which somebody "
        "must have put there; put the object again, or delete it"
    )


def _make_directories(directory: str, top: str) -> None:
    missing: list[str] = []
    while directory != top:
        missing.append(directory)
        directory = os.path.dirname(directory)
        if os.path.isdir(directory):
            break
    else:
        raise gone()
    for path in reversed(missing):
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except FileExistsError:
            continue
        except FileNotFoundError:
            return  # Pruned meanwhile; `create` comes back.


# Errors that say "not here, not these files": a plain copy does what the kernel would not.
_NO_KERNEL_COPY: Final = {
    errno.ENOSYS,
    errno.EXDEV,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.ETXTBSY,
}


def _copy_some(source: int, target: int, start: int, count: int) -> int:
    if sys.platform == "linux":
        try:
            # Zero is no proof of the end: some file systems answer it for "cannot".
            if moved := os.copy_file_range(source, target, min(count, _PREAD_MOST), start):
                return moved
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
    return write_all(target, os.pread(source, min(count, CHUNK), start))


__all__ = [
    "ATTEMPTS",
    "CHUNK",
    "DIRECTORY_MODE",
    "FILE_MODE",
    "busy",
    "check_file",
    "copy_range",
    "create",
    "discard",
    "gone",
    "open_file",
    "prune",
    "read_file",
    "read_range",
    "sync_directories",
    "sync_file",
    "truncated",
    "write_all",
    "write_file",
]
