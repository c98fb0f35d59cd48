"""An object under way through boto3, in worker threads that a caller may leave at any moment."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from cm_platform.errors import InternalError, UnavailableError
from cm_platform.runtime import Runtime
from cm_platform.storage.backend import ObjectInfo

CHUNK: Final = 1024 * 1024


class CompleteReply:
    """See `ObjectReply`. info: of the object; answer: boto3's, whose body is now ours to close."""

    __slots__ = ("_body", "_guard", "_left", "_reading", "_runtime", "info")

    def __init__(self, info: ObjectInfo, answer: Mapping[str, Any], runtime: Runtime) -> None:
        self.info = info
        self._body: Any = answer["Body"]
        self._left: int = answer["ContentLength"]
        self._runtime = runtime
        self._guard = threading.Lock()
        self._reading = False

    async def read(self) -> bytes:
        """See `ObjectReply.read`."""
        if self._body is None or self._left == 0:
            return b""
        return self._counted(await self._runtime.call(self._read))

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `ObjectReply.chunks`."""
        while self._body is not None and self._left > 0:
            chunk = await self._runtime.call(self._read, min(CHUNK, self._left))
            yield self._counted(chunk, at_least=1)

    async def close(self) -> None:
        """See `ObjectReply.close`. At once, or when a read that is under way is done."""
        with self._guard:
            body, self._body = self._body, None
            if self._reading:
                # To close it is to wait for the reader's own lock, up to the read timeout, and
                # here that would be the event loop: the reading thread closes it.
                return
        if body is not None:
            body.close()

    def _read(self, most: int | None = None) -> bytes:
        with self._guard:
            body = self._body
            if body is None:
                raise InternalError("the reply was closed; read it before that")
            self._reading = True
        try:
            data: bytes = body.read(most)
        finally:
            with self._guard:
                self._reading = False
                closed = self._body is None
            if closed:
                body.close()
        return data

    def _counted(self, data: bytes, *, at_least: int | None = None) -> bytes:
        if len(data) < (self._left if at_least is None else at_least):
            raise UnavailableError("the body ended before its announced size", retryable=True)
        self._left -= len(data)
        return data


__all__ = ["CompleteReply"]
