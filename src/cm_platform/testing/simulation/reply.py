"""A body on its way: in pieces, and maybe not to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from cm_platform.errors import UnavailableError
from cm_platform.storage.backend import ObjectInfo

# How many pieces a body comes in.
_PIECES = 2


class SimulatedReply:
    """An `ObjectReply`.

    body: what was asked for. wait: awaited before each piece. cut: the body ends after so many
    bytes, as with a connection that was lost.
    """

    __slots__ = ("_body", "_cut", "_wait", "info")

    def __init__(
        self,
        info: ObjectInfo,
        body: bytes,
        wait: Callable[[], Awaitable[None]],
        cut: int | None = None,
    ) -> None:
        self.info = info
        self._body = body
        self._wait = wait
        self._cut = cut

    def __repr__(self) -> str:
        # For traces, which must be the same in each run.
        cut = "" if self._cut is None else f", cut at {self._cut}"
        return f"<reply {self.info.etag}{cut}>"

    async def read(self) -> bytes:
        """See `ObjectReply.read`."""
        for _ in range(_PIECES):
            await self._wait()
        body, self._body = self._body, b""
        if self._cut is not None:
            raise _lost()
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `ObjectReply.chunks`."""
        size = -(-len(self._body) // _PIECES) or 1
        end = len(self._body) if self._cut is None else self._cut
        body = memoryview(self._body)[:end]
        for start in range(0, end, size):
            await self._wait()
            yield bytes(body[start : start + size])
        if self._cut is not None:
            await self._wait()
            raise _lost()

    async def close(self) -> None:
        """See `ObjectReply.close`."""
        self._body = b""


def _lost() -> UnavailableError:
    return UnavailableError("the connection was lost before the body was complete", retryable=True)


__all__ = ["SimulatedReply"]
