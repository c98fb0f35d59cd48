"""What a runtime offers to services and backends."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from .clock import Clock

T = TypeVar("T")
P = ParamSpec("P")

# Of one runtime, at a time. On the blocking face each is a thread, so it is no larger; on the
# async face it is the same, so that one source meets one bound.
BACKGROUND_LIMIT: Final = 64


class WorkStopped(BaseException):
    """Raised in background work of the blocking face when `close` has no more time for it.

    The counterpart of `asyncio.CancelledError`, and like it no Exception: code that survives
    failures (`except Exception`) must not survive this. Only `Runtime.sleep` and `Event.wait`
    raise it, and only in what was given to `spawn`. Unlike a cancellation it stays: whoever
    catches it and waits again gets it again. Clean up in `finally`, without waiting.
    """


class Event(Protocol):
    """A flag that others can wait for."""

    def set(self) -> None:
        """Raise the flag; wakes all who wait."""
        ...

    def is_set(self) -> bool:
        """Whether the flag is up."""
        ...

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the flag, at most `timeout` seconds; whether it is up."""
        ...


class Runtime(Protocol):
    """The face-dependent half of waiting, locking and concurrency.

    is_async: build the SDK's async client, else its sync one.
    clock: where time comes from.
    dropped: background work that `spawn` refused, since the runtime was made.
    """

    is_async: bool
    clock: Clock
    dropped: int

    async def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function: here, or (async) in a worker thread.

        A cancelled async call returns at once while its thread works on: a write that ends so
        is ambiguous.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def gather(
        self,
        coroutines: Iterable[Coroutine[Any, Any, T]] | AsyncIterable[Coroutine[Any, Any, T]],
        *,
        limit: int,
    ) -> list[T]:
        """Run coroutines, at most `limit` at a time; their results in order.

        The next is taken from the iterable only when there is room, so a generator that reads
        a file holds `limit` pieces of it and no more. After the first failure none is started,
        those under way are cancelled (async) or awaited (blocking), and the failure is raised.
        """
        ...

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Raise TimeoutError when the block takes longer (async).

        Blocking code can only be interrupted by its socket's timeout: there it does nothing.
        """
        ...

    def lock(self) -> AbstractAsyncContextManager[Any]:
        """Mutual exclusion within this process and runtime."""
        ...

    def semaphore(self, value: int) -> AbstractAsyncContextManager[Any]:
        """At most `value` inside at a time."""
        ...

    def event(self) -> Event:
        """A new flag, down."""
        ...

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run in the background, beside all others, if there is room; whether it was taken.

        A task, or a daemon thread of its own: work without an end (a heartbeat) starves nobody.
        There is room for 64 at a time (`BACKGROUND_LIMIT`), and none while the interpreter
        exits. What is refused is closed and counted in `dropped`. What fails is logged. What
        runs is joined or stopped by `close`; a process that ends without `close` cuts it off.
        """
        ...

    async def close(self, timeout: float = 5.0) -> None:
        """Wait up to `timeout` seconds for background work, stop the rest, let go of threads.

        Async: the rest is cancelled, wherever it awaits. Blocking: it gets `WorkStopped` where
        it sleeps or waits for an event, and a second to clean up; what is in a blocking call is
        left behind, and logged. The runtime remains usable.
        """
        ...


__all__ = ["BACKGROUND_LIMIT", "Event", "Runtime", "WorkStopped"]
