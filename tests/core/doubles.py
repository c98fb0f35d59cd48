"""What the core's tests stand in for: time, a store, and where an executor finds it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from cm_platform.errors import PermissionDeniedError, PlatformError, UnavailableError
from cm_platform.executor import Endpoint, Executor
from cm_platform.operation import Operation, Resolve
from cm_platform.resilience import CircuitBreaker, RetryPolicy
from cm_platform.runtime import (
    SYSTEM_CLOCK,
    AsyncRuntime,
    BlockingRuntime,
    Clock,
    Runtime,
    drive,
)

T = TypeVar("T")

READ = Operation("storage", "get", "read")
WRITE = Operation("storage", "put", "write")
ONCE = Operation("storage", "append", "write", idempotent=False)


class FakeClock:
    """Stands still until it is told to move, or slept on."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class LostError(Exception):
    """The connection went away after the request was sent."""


class RefusedError(Exception):
    """The connection was not made."""


class ForbiddenError(Exception):
    """The answer was 403."""


class StrangeError(Exception):
    """Nothing that the backend knows."""


class ScriptedBackend:
    """Answers each call with the next step: raises an exception, calls a function, else returns.

    The last step answers all later calls. A step may be a coroutine function.
    """

    capabilities = frozenset({"presign"})

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.calls = 0
        self.closed = 0

    async def call(self) -> Any:
        self.calls += 1
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            step = step()
            if isinstance(step, Awaitable):
                step = await step
        return step

    def translate(self, error: Exception) -> PlatformError | None:
        if isinstance(error, LostError):
            return UnavailableError("the connection was lost", retryable=True)
        if isinstance(error, RefusedError):
            return UnavailableError("the connection was refused", retryable=True, not_sent=True)
        if isinstance(error, ForbiddenError):
            return PermissionDeniedError("not allowed")
        return None

    async def close(self) -> None:
        self.closed += 1


class Route:
    """Endpoints whose current one the test may change."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint: Endpoint | None = endpoint
        self.next = endpoint
        self.refreshed = 0

    def current(self) -> Endpoint | None:
        return self.endpoint

    async def refresh(self) -> Endpoint:
        self.refreshed += 1
        self.endpoint = self.next
        return self.next


@dataclass(frozen=True)
class Face:
    """One of the two ways in which everything is run."""

    is_async: bool

    def runtime(self, clock: Clock = SYSTEM_CLOCK) -> Runtime:
        return AsyncRuntime(clock=clock) if self.is_async else BlockingRuntime(clock=clock)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(coroutine) if self.is_async else drive(coroutine)

    def endpoint(
        self,
        backend: Any,
        clock: Clock,
        *,
        name: str = "scripted",
        policy: RetryPolicy | None = None,
        timeout: float = 60.0,
        breaker: CircuitBreaker | None = None,
    ) -> Endpoint:
        return Endpoint(
            name,
            backend,
            self.runtime(clock),
            policy=policy or RetryPolicy(),
            timeout=timeout,
            breaker=breaker or CircuitBreaker(clock),
        )


class Caller:
    """An executor over one scripted backend, on one face and a clock of its own."""

    def __init__(self, face: Face, *steps: Any, **options: Any) -> None:
        self.face = face
        self.clock = FakeClock()
        self.backend = ScriptedBackend(*steps)
        self.endpoint = face.endpoint(self.backend, self.clock, **options)
        self.route = Route(self.endpoint)
        self.executor = Executor("storage", self.route)

    def run(self, operation: Operation = READ, **options: Any) -> Any:
        return self.face.run(self.executor.run(operation, _call, **options))


def _call(backend: ScriptedBackend) -> Awaitable[Any]:
    return backend.call()


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until this holds; at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition, not an event
            await asyncio.sleep(0)


def resolving(answer: Any) -> Resolve:
    """A look at the store that finds this; an exception is raised."""

    async def look(backend: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return Resolve(look)
