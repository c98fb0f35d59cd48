"""Uploads in parts: a directory each, a file per part, one object in the end. Blocking.

A part's file is its bytes and then its etag, so that replacing the file replaces both at once,
and the bytes begin where a block does, which lets file systems share instead of copy.
"""
# Paths are plain strings here: pathlib costs more than the system calls that are made.
# ruff: noqa: PTH102, PTH104, PTH105, PTH106, PTH110, PTH114, PTH208

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from cm_platform.errors import IntegrityError, InvalidArgumentError, NotFoundError
from cm_platform.storage.backend import Attributes, Part, Written

from .conditions import Condition, Ticket
from .errors import Effect
from .files import (
    DIRECTORY_MODE,
    FILE_MODE,
    copy_range,
    create,
    discard,
    open_file,
    read_file,
    sync_directories,
    write_all,
    write_file,
)
from .objects import Objects
from .paths import check_text
from .sidecar import attribute_fields, attributes_of, is_version, new_version

_ABOUT: Final = "upload.json"
_ENDED: Final = "~ended"
_ETAG_SIZE: Final = 24


@dataclass(frozen=True, slots=True)
class Uploads:
    """The uploads below a directory, on the file system of the objects."""

    top: str
    objects: Objects

    def begin(self, key: str, attributes: Attributes) -> str:
        """A new upload's id."""
        check_text(key)
        upload_id = new_version()
        directory = f"{self.top}/{upload_id}"
        about = {"key": key, **attribute_fields(attributes)}
        with Effect():
            try:
                os.mkdir(directory, DIRECTORY_MODE)
                text = json.dumps(about).encode()
                write_file(f"{directory}/{_ABOUT}", text, fsync=self.objects.fsync)
                self._sync(directory)
            except BaseException:
                _remove(directory)
                raise
        return upload_id

    def put(
        self, key: str, upload_id: str, number: int, data: bytes | memoryview, ticket: Ticket
    ) -> Part:
        """Store a part; replaces an earlier one of that number."""

        def fill(descriptor: int) -> None:
            write_all(descriptor, data)

        return self._fill(key, upload_id, number, fill, ticket)

    def copy(
        self,
        key: str,
        upload_id: str,
        number: int,
        source: str,
        start: int,
        end: int,
        etag: str,
        ticket: Ticket,
    ) -> Part:
        """Store a part from bytes [start, end) of an object that must have that etag."""
        with Effect():
            info, reading = self.objects.open(source, etag=etag)
        try:
            if not 0 <= start < end <= info.size:
                raise InvalidArgumentError(
                    f"a part's range must lie within its source of {info.size} bytes and hold "
                    f"at least one; this is [{start}, {end})"
                )
            return self._fill(
                key,
                upload_id,
                number,
                lambda writing: copy_range(reading, writing, start, end),
                ticket,
            )
        finally:
            os.close(reading)

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], condition: Condition, ticket: Ticket
    ) -> Written:
        """Make the parts one object; see `StorageBackend.complete_multipart`."""
        with Effect():
            directory, attributes = self._find(key, upload_id)
        numbers = [part.number for part in parts]
        if not numbers or any(after <= before for before, after in pairwise(numbers)):
            raise InvalidArgumentError(
                "an upload is completed with at least one part, each once, by rising number"
            )
        written = self.objects.commit(
            key,
            lambda path: self._join(directory, parts, path),
            attributes,
            condition,
            ticket,
            around=_ending(directory),
        )
        _remove(directory + _ENDED)
        return written

    def abort(self, key: str, upload_id: str) -> None:
        """Forget an upload, if there is one."""
        try:
            with Effect():
                directory, _ = self._find(key, upload_id)
            os.rename(directory, directory + _ENDED)
        except (NotFoundError, FileNotFoundError):
            return
        _remove(directory + _ENDED)

    def sweep(self, before: float) -> int:
        """Remove uploads in which nothing has happened since that time; how many."""
        removed = 0
        for name in os.listdir(self.top):
            directory = f"{self.top}/{name}"
            with suppress(FileNotFoundError):
                found = os.lstat(directory)
                if stat.S_ISDIR(found.st_mode) and found.st_ctime < before:
                    _remove(directory)
                    removed += 1
        return removed

    def _find(self, key: str, upload_id: str) -> tuple[str, Attributes]:
        if not is_version(upload_id):
            raise _unknown()
        directory = f"{self.top}/{upload_id}"
        try:
            about = json.loads(read_file(f"{directory}/{_ABOUT}"))
            wanted = about.pop("key") == key
            attributes = attributes_of(about)
        except FileNotFoundError:
            self.objects.check_there()
            raise _unknown() from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError("the upload's description is damaged; begin it again") from error
        if not wanted:
            raise _unknown()
        return directory, attributes

    def _fill(
        self,
        key: str,
        upload_id: str,
        number: int,
        fill: Callable[[int], object],
        ticket: Ticket,
    ) -> Part:
        version = new_version()
        with Effect() as effect:
            directory, _ = self._find(key, upload_id)
            draft = f"{directory}/{version}.draft"
            try:
                descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
                try:
                    fill(descriptor)
                    write_all(descriptor, version.encode())
                    if self.objects.fsync:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                ticket.check()
                os.replace(draft, f"{directory}/{_part(number)}")
            except FileNotFoundError:
                raise _unknown() from None  # Completed or aborted meanwhile.
            except BaseException:
                discard(draft)
                raise
            effect.possible = True
            self._sync(directory)
        return Part(number, version)

    def _join(self, directory: str, parts: Sequence[Part], path: str) -> int:
        writing = create(path, top=self.objects.top)
        try:
            for part in parts:
                _append(directory, part, writing)
            if self.objects.fsync:
                os.fsync(writing)
            return os.fstat(writing).st_size
        finally:
            os.close(writing)

    def _sync(self, directory: str) -> None:
        if self.objects.fsync:
            sync_directories(directory, top=self.top)


def _part(number: int) -> str:
    return f"{number:05d}.part"


def _append(directory: str, part: Part, writing: int) -> None:
    try:
        reading = open_file(f"{directory}/{_part(part.number)}")
    except FileNotFoundError:
        if not os.path.exists(directory):
            raise _unknown() from None
        raise InvalidArgumentError(f"part {part.number} was not uploaded") from None
    try:
        size = os.fstat(reading).st_size - _ETAG_SIZE
        if os.pread(reading, _ETAG_SIZE, size) != part.etag.encode():
            raise InvalidArgumentError(
                f"part {part.number} has another etag: it was uploaded again since"
            )
        copy_range(reading, writing, 0, size)
    finally:
        os.close(reading)


@contextmanager
def _ending(directory: str) -> Generator[None]:
    # Under the key's lock, so of two who complete an upload the second finds it ended.
    if not os.path.exists(directory):
        raise _unknown()
    yield
    with suppress(FileNotFoundError):
        os.rename(directory, directory + _ENDED)


def _remove(directory: str) -> None:
    if os.path.islink(directory):
        return  # Somebody put it there, and what it leads to is not ours.
    with suppress(OSError):
        discard(*(f"{directory}/{name}" for name in os.listdir(directory)))
        os.rmdir(directory)


def _unknown() -> NotFoundError:
    return NotFoundError("no such upload: it was never begun here, or it has ended")


__all__ = ["Uploads"]
