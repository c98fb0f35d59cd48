"""The body of an object that is being read."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import AsyncIterator

from cm_platform.errors import InternalError
from cm_platform.runtime import Runtime
from cm_platform.storage.backend import ObjectInfo

from .files import CHUNK, read_range


class LocalBody:
    """Bytes in hand, or a range of an open file. Its methods block, but not `close`.

    It exists before the file is opened, so that a caller who is cancelled meanwhile can close
    it: the thread that opens then lets go of the file itself.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._data = b""
        self._descriptor = -1
        self._at = self._end = 0
        self._reading = self._closed = False

    def fill(self, data: bytes) -> None:
        """The whole body, read already."""
        self._data = data

    def attach(self, descriptor: int, start: int, end: int) -> None:
        """The body is bytes [start, end) of an open file, which is now ours to close."""
        with self._guard:
            self._descriptor, self._at, self._end = descriptor, start, end
            if self._closed:
                self._release()

    @property
    def at_hand(self) -> bool:
        """Whether `read` answers without I/O."""
        return self._descriptor < 0

    def read(self, most: int | None = None) -> bytes:
        """The next bytes, up to `most`; all that is left by default. Empty at the end."""
        with self._guard:
            if self._closed:
                raise InternalError("the reply was closed; read it before that")
            if self._descriptor < 0:
                data, self._data = self._data, b""
                return data
            self._reading = True
        try:
            end = self._end if most is None else min(self._end, self._at + most)
            data = read_range(self._descriptor, self._at, end) if end > self._at else b""
            self._at = end
            return data
        finally:
            self._stop_reading()

    def close(self) -> None:
        """Let go of the file: at once, or when a read that is under way in a thread is done."""
        with self._guard:
            self._closed = True
            self._data = b""
            if not self._reading:
                self._release()

    def _stop_reading(self) -> None:
        with self._guard:
            self._reading = False
            if self._closed:
                self._release()

    def _release(self) -> None:
        # While a thread reads, its descriptor must stay: the number could soon be another file.
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if self._descriptor >= 0:
            warnings.warn("a storage reply was not closed", ResourceWarning, stacklevel=2)
            self._release()


class LocalReply:
    """An `ObjectReply` over a body."""

    def __init__(self, info: ObjectInfo, body: LocalBody, runtime: Runtime) -> None:
        self.info = info
        self._body = body
        self._runtime = runtime

    async def read(self) -> bytes:
        """The rest of the body."""
        return await self._next(None)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces of 1 MiB."""
        while piece := await self._next(CHUNK):
            yield piece

    async def close(self) -> None:
        """Let go of the file."""
        self._body.close()

    async def _next(self, most: int | None) -> bytes:
        if self._body.at_hand:
            return self._body.read(most)
        return await self._runtime.call(self._body.read, most)


__all__ = ["LocalBody", "LocalReply"]
