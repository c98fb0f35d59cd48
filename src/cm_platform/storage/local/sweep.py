"""Removing what crashed writers left: files that no sidecar names, and empty directories."""
# Paths are plain strings here: pathlib costs more than the system calls that are made.
# ruff: noqa: PTH106, PTH108

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from cm_platform.errors import IntegrityError

from . import sidecar
from .locks import KeyLocks
from .paths import CONTINUED, SIDECAR, Location, decode

_LEFT: Final = re.compile(r"(?P<stem>[^~]+)~(?P<version>[0-9a-f]{24})\.(?:data|draft)")


def sweep_objects(top: str, locks: KeyLocks, before: float) -> int:
    """Remove unreferenced files last changed before that time; how many there were.

    By change time, not modification time: a copy is a link, and shares the latter with a file
    that may be years old.
    """
    removed = 0
    directories: list[str] = []
    for directory, begin in _directories(top):
        directories.append(directory)
        for file in _files(directory, before):
            found = _LEFT.fullmatch(file)
            if found is not None and (piece := decode(found["stem"])) is not None:
                location = Location(directory, found["stem"])
                removed += _remove(location, begin + piece, file, found["version"], locks)
    for directory in reversed(directories[1:]):
        with suppress(OSError):
            os.rmdir(directory)
    return removed


def _remove(location: Location, key: str, file: str, version: str, locks: KeyLocks) -> bool:
    try:
        if _names(location, key, version):
            return False
        # Nobody commits while we look again.
        with locks.hold(key):
            if _names(location, key, version):
                return False
            os.unlink(f"{location.directory}/{file}")
    except FileNotFoundError:
        return False
    except IntegrityError:
        return False  # It cannot be told what a damaged sidecar names.
    return True


def _names(location: Location, key: str, version: str) -> bool:
    info = sidecar.read(location.sidecar, key)
    return info is not None and info.etag == version


def _directories(top: str) -> Iterator[tuple[str, str]]:
    unread = [(top, "")]
    while unread:
        path, begin = unread.pop()
        yield path, begin
        for entry in _listed(path):
            file = entry.name
            if "~" in file or not entry.is_dir(follow_symlinks=False):
                continue
            continued = file.endswith(CONTINUED)
            piece = decode(file[: -len(CONTINUED)] if continued else file)
            if piece is not None:
                unread.append((f"{path}/{file}", begin + piece + ("" if continued else "/")))


def _files(directory: str, before: float) -> Iterator[str]:
    for entry in _listed(directory):
        if "~" in entry.name and not entry.name.endswith(SIDECAR):
            with suppress(FileNotFoundError):
                if (
                    entry.is_file(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_ctime < before
                ):
                    yield entry.name


def _listed(directory: str) -> list[os.DirEntry[str]]:
    # Links are never followed: what they lead to is not ours to remove.
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


__all__ = ["sweep_objects"]
