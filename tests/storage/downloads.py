"""A store of one object behind an executor, whose connections are cut as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from cm_platform.errors import (
    PermissionDeniedError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.executor import Endpoint, Executor
from cm_platform.resilience import CircuitBreaker, RetryPolicy
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Clock, Runtime, drive
from cm_platform.storage import operations
from cm_platform.storage.download import Download, open_download

T = TypeVar("T")

BODY = bytes(range(256)) * 4
CHUNK = 100


class LostError(Exception):
    """The connection went away."""


class ForbiddenError(Exception):
    """The answer was 403."""


class StandingClock:
    """Moves when it is slept on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


@dataclass(frozen=True)
class Face:
    """One of the two ways in which everything is run."""

    is_async: bool

    def runtime(self, clock: Clock) -> Runtime:
        return AsyncRuntime(clock=clock) if self.is_async else BlockingRuntime(clock=clock)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(coroutine) if self.is_async else drive(coroutine)


@dataclass
class Route:
    """Endpoints whose current one the test may change."""

    endpoint: Endpoint

    def current(self) -> Endpoint | None:
        return self.endpoint

    async def refresh(self) -> Endpoint:
        return self.endpoint


class Object:
    """A store of one object, whose connections are cut as the test says.

    cuts: for each opening, after how many bytes the connection fails; None: not at all.
    """

    capabilities: frozenset[str] = frozenset()

    def __init__(
        self,
        *cuts: int | None,
        body: bytes = BODY,
        how: Callable[[], Exception] | None = LostError,
        chunk: int = CHUNK,
    ) -> None:
        self.chunk = chunk
        self.body = body
        self.etag = "v1"
        self.cuts = list(cuts)
        self.how = how
        self.opened: list[tuple[int, str | None]] = []
        self.replies: list[Reply] = []

    def translate(self, error: Exception) -> PlatformError | None:
        if isinstance(error, LostError):
            return UnavailableError("the connection was lost", retryable=True)
        if isinstance(error, ForbiddenError):
            return PermissionDeniedError("not allowed")
        return None

    async def get(self, start: int, end: int | None, if_match: str | None) -> Reply:
        self.opened.append((start, if_match))
        if if_match not in (None, self.etag):
            raise PreconditionFailedError("replaced")
        cut = self.cuts.pop(0) if self.cuts else None
        reply = Reply(self.etag, self.body[start:end], cut, self.how, self.chunk)
        self.replies.append(reply)
        return reply


class Reply:
    def __init__(
        self,
        etag: str,
        body: bytes,
        cut: int | None,
        how: Callable[[], Exception] | None,
        chunk: int,
    ) -> None:
        self.chunk = chunk
        self.etag = etag
        self.body = body
        self.cut = cut
        self.how = how
        self.closed = 0
        self.refuses_to_close = False

    async def read(self) -> bytes:
        if self.cut is not None and self.how is not None:
            raise self.how()
        return self.body[: self.cut]

    async def chunks(self) -> AsyncIterator[bytes]:
        end = len(self.body) if self.cut is None else self.cut
        for start in range(0, end, self.chunk):
            yield self.body[start : min(start + self.chunk, end)]
        if self.cut is not None and self.how is not None:
            raise self.how()

    async def close(self) -> None:
        self.closed += 1
        if self.refuses_to_close:
            raise OSError("broken pipe")


class Reading:
    """An object opened through an executor, on one face."""

    def __init__(
        self, face: Face, stored: Object, *, attempts: int = 4, timeout: float = 60.0
    ) -> None:
        self.face = face
        self.stored = stored
        self.clock = StandingClock()
        self.breaker = CircuitBreaker(self.clock, failures=3)
        self.policy = RetryPolicy(attempts=attempts)
        self.endpoint = self.serving(stored, timeout=timeout)
        self.route = Route(self.endpoint)
        self.executor = Executor("storage", self.route)

    def serving(self, stored: Object, *, timeout: float = 60.0) -> Endpoint:
        return Endpoint(
            "scripted",
            stored,
            self.face.runtime(self.clock),
            policy=self.policy,
            timeout=timeout,
            breaker=self.breaker,
        )

    async def open(self, size: int | None = None) -> Download[Reply]:
        async def open_at(
            backend: Object, begin: int, end: int | None, first: Reply | None
        ) -> Reply:
            return await backend.get(begin, end, None if first is None else first.etag)

        length = len(self.stored.body) if size is None else size
        return await open_download(
            self.executor, operations.GET, open_at, size=lambda reply: length
        )

    def whole(self, size: int | None = None) -> bytes:
        async def run() -> bytes:
            return await (await self.open(size)).read()

        return self.face.run(run())

    def pieces(self, size: int | None = None) -> list[bytes]:
        async def run() -> list[bytes]:
            stream = await self.open(size)
            return [chunk async for chunk in stream.chunks()]

        return self.face.run(run())

    def all_closed(self) -> bool:
        return all(reply.closed for reply in self.stored.replies)
