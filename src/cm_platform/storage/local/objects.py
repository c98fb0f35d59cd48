"""Objects on disk: read one, commit a version, delete one. Blocking.

A version is a data file that never changes. The sidecar says which version counts, and replacing
it is the commit: before, readers find the old version; after, the new one. What a crash leaves
behind is a file that no sidecar names, and `sweep` removes those.
"""
# Paths are plain strings here: pathlib costs more than the system calls that are made.
# ruff: noqa: PTH105, PTH108, PTH110, PTH112, PTH202

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cm_platform.errors import (
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from cm_platform.runtime import Clock
from cm_platform.storage.backend import Attributes, ObjectInfo, Written

from . import sidecar
from .conditions import Condition, Ticket, require
from .errors import Effect
from .files import (
    ATTEMPTS,
    busy,
    check_file,
    copy_range,
    create,
    discard,
    gone,
    open_file,
    prune,
    sync_directories,
    sync_file,
    truncated,
    write_all,
    write_file,
)
from .locks import KeyLocks
from .paths import Location, locate

_NOTHING_AROUND: Final = nullcontext()


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects below a directory. fsync: make each write durable before it is answered."""

    top: str
    locks: KeyLocks
    clock: Clock
    fsync: bool = field(kw_only=True)

    def read(self, key: str) -> ObjectInfo:
        """Describe an object; `not_found`."""
        info = sidecar.read(locate(self.top, key).sidecar, key)
        if info is None:
            raise self._missing()
        return info

    def open(self, key: str, *, etag: str | None = None) -> tuple[ObjectInfo, int]:
        """An object and a descriptor of its bytes, which stay whole whatever happens to the key.

        `not_found`; `precondition_failed` when it has another etag.
        """
        location = locate(self.top, key)
        seen = None
        for _ in range(ATTEMPTS):
            info = sidecar.read(location.sidecar, key)
            if info is None:
                raise self._missing()
            if etag is not None:
                require(etag, info)
            try:
                descriptor = open_file(location.data(info.etag))
            except FileNotFoundError:
                seen = _replaced_since(seen, info.etag)
                continue
            if os.fstat(descriptor).st_size != info.size:
                os.close(descriptor)
                raise truncated()
            return info, descriptor
        raise busy()

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        attributes: Attributes,
        condition: Condition,
        ticket: Ticket,
    ) -> Written:
        """Store bytes; see `StorageBackend.put`."""
        return self.commit(
            key,
            lambda path: write_file(path, data, fsync=self.fsync),
            attributes,
            condition,
            ticket,
        )

    def copy(
        self,
        source: str,
        target: str,
        attributes: Attributes,
        etag: str,
        condition: Condition,
        ticket: Ticket,
    ) -> Written:
        """Give a version a second name; see `StorageBackend.copy`."""
        return self.commit(
            target, lambda path: self._link(source, etag, path), attributes, condition, ticket
        )

    def commit(
        self,
        key: str,
        produce: Callable[[str], int],
        attributes: Attributes,
        condition: Condition,
        ticket: Ticket,
        *,
        around: AbstractContextManager[None] = _NOTHING_AROUND,
    ) -> Written:
        """Make a new version the object's current one.

        produce: creates the data file at a path and returns its size. Runs without the lock.
        around: entered under the lock, just before the commit; what it raises prevents it.
        """
        location = locate(self.top, key)
        version = sidecar.new_version()
        draft, data = location.draft(version), location.data(version)
        with Effect() as effect:
            if condition:
                # Asked again under the lock; here it saves writing what would be thrown away.
                condition.check(sidecar.read(location.sidecar, key))
            # First of all, as an entry that keeps the directory from being pruned.
            descriptor = create(draft, top=self.top)
            try:
                try:
                    size = produce(data)
                    now = datetime.fromtimestamp(self.clock.wall(), UTC)
                    info = sidecar.describe(
                        key, size=size, version=version, last_modified=now, attributes=attributes
                    )
                    write_all(descriptor, sidecar.encode(info))
                    if self.fsync:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                with self.locks.hold(key):
                    old = self._current(location, key, condition)
                    condition.check(old)
                    with around:
                        if not os.path.exists(data):
                            raise _swept()
                        ticket.check()
                        _replace(draft, location.sidecar)
            except BaseException:
                effect.possible = not self._abandoned(location, draft, data)
                raise
            effect.possible = True
            if self.fsync:
                sync_directories(location.directory, top=self.top)
        if old is not None:
            discard(location.data(old.etag))
        return Written(version, now)

    def delete(self, key: str, condition: Condition, ticket: Ticket) -> None:
        """Remove an object; see `StorageBackend.delete`."""
        location = locate(self.top, key)
        old = None
        with Effect() as effect:
            with self.locks.hold(key):
                old = self._current(location, key, condition)
                condition.check(old)
                ticket.check()
                try:
                    os.unlink(location.sidecar)
                except FileNotFoundError:
                    self.check_there()
                effect.possible = True
            if self.fsync:
                # Also where nothing was: whoever removed it may not have come this far.
                sync_directories(location.directory, top=self.top)
        if old is not None:
            discard(location.data(old.etag))
        prune(location.directory, top=self.top)

    def check_there(self) -> None:
        """`unavailable` when the whole store is gone: an unmounted volume is not an empty one."""
        if not os.path.isdir(self.top):
            raise gone()

    def _missing(self) -> NotFoundError:
        self.check_there()
        return NotFoundError("no object has this key")

    def _current(self, location: Location, key: str, condition: Condition) -> ObjectInfo | None:
        try:
            return sidecar.read(location.sidecar, key)
        except IntegrityError:
            if condition:
                raise
            return None  # Replacing or deleting is how a damaged object is mended.

    def _abandoned(self, location: Location, draft: str, data: str) -> bool:
        # A draft that is gone became the sidecar: an interrupt can strike between the commit and
        # the next line, and the data file is the object's then.
        try:
            os.unlink(draft)
        except OSError:
            return False
        discard(data)
        prune(location.directory, top=self.top)
        return True

    def _link(self, source: str, etag: str, path: str) -> int:
        # A version never changes, so two objects can share the file.
        location = locate(self.top, source)
        seen = None
        for _ in range(ATTEMPTS):
            info = self.read(source)
            require(etag, info)
            try:
                check_file(location.data(info.etag))
                os.link(location.data(info.etag), path)
            except FileNotFoundError:
                seen = _replaced_since(seen, info.etag)
            except OSError:
                return self._copy(source, etag, path)  # No links here, or too many of this file.
            else:
                if os.path.getsize(path) != info.size:
                    discard(path)
                    raise truncated()
                if self.fsync:
                    sync_file(path)  # The source may be of a time without fsync.
                return info.size
        raise busy()

    def _copy(self, source: str, etag: str, path: str) -> int:
        info, reading = self.open(source, etag=etag)
        try:
            writing = create(path, top=self.top)
            try:
                copy_range(reading, writing, 0, info.size)
                if self.fsync:
                    os.fsync(writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        return info.size


def _replaced_since(seen: str | None, version: str) -> str:
    # The sidecar is replaced before its old data is removed: the same version named twice
    # without data is damage, no race.
    if seen == version:
        raise IntegrityError("the stored bytes of the object are missing: the file was removed")
    return version


def _replace(draft: str, sidecar: str) -> None:
    try:
        os.replace(draft, sidecar)
    except FileNotFoundError:
        raise _swept() from None


def _swept() -> UnavailableError:
    return UnavailableError(
        "a sweep removed this write before it was committed: it took longer than the sweep's "
        "`older_than`",
        retryable=True,
        not_sent=True,
    )


__all__ = ["Objects"]
