"""The runtime of the sync face: everything happens in the caller's thread, or in a small pool."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from .clock import SYSTEM_CLOCK, Clock
from .driving import drive
from .shapes import taken

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger("cm_platform.runtime")

GATHER_THREADS: Final = 32
BACKGROUND_THREADS: Final = 4
BACKGROUND_LIMIT: Final = 256


class BlockingRuntime:
    """Waits by blocking; runs concurrent work in threads that drive coroutines."""

    is_async = False

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.dropped = 0
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        self._background: ThreadPoolExecutor | None = None
        self._running: dict[Future[Any], Coroutine[Any, Any, Any]] = {}
        self._inside = threading.local()

    async def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it, here."""
        return fn(*args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        """Block this thread."""
        self.clock.sleep(seconds)

    async def gather(
        self,
        coroutines: Iterable[Coroutine[Any, Any, T]] | AsyncIterable[Coroutine[Any, Any, T]],
        *,
        limit: int,
    ) -> list[T]:
        """See `Runtime.gather`."""
        # Inside a worker a second level of gathering runs inline: a pool whose workers wait for
        # their own pool would come to a halt.
        self._check_fork()
        if limit <= 1 or getattr(self._inside, "worker", False):
            async with taken(coroutines) as items:
                return [await coroutine async for coroutine in items]
        from concurrent.futures import FIRST_COMPLETED, wait

        pool = self._pool()
        futures: list[Future[T]] = []
        pending: set[Future[T]] = set()
        failures: list[BaseException] = []
        async with taken(coroutines) as items:
            try:
                async for coroutine in items:
                    if failures:
                        coroutine.close()
                        break
                    context = contextvars.copy_context()
                    future = pool.submit(context.run, self._share, coroutine, failures)
                    futures.append(future)
                    pending.add(future)
                    while len(pending) >= limit and not failures:
                        _, pending = wait(pending, return_when=FIRST_COMPLETED)
            except BaseException as error:
                failures.append(error)
                raise
            finally:
                # Nobody can interrupt a thread: what runs is awaited, so that no write is under
                # way when the caller learns of the failure.
                wait(futures)
        if failures:
            raise failures[0]
        return [future.result() for future in futures]

    def _share(self, coroutine: Coroutine[Any, Any, T], failures: list[BaseException]) -> T:
        if failures:
            # It waited for a thread, and meanwhile another failed.
            coroutine.close()
            raise failures[0]
        try:
            return self._work(coroutine)
        except BaseException as error:
            failures.append(error)
            raise

    def _work(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self._inside.worker = True
        return drive(coroutine)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Nothing: a blocking call is interrupted by its socket's timeout only."""
        return _NO_TIMEOUT

    def lock(self) -> AbstractAsyncContextManager[Any]:
        """A thread lock."""
        return _Held(threading.Lock())

    def semaphore(self, value: int) -> AbstractAsyncContextManager[Any]:
        """A thread semaphore."""
        return _Held(threading.Semaphore(value))

    def event(self) -> _BlockingEvent:
        """A thread event."""
        return _BlockingEvent()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run in a background thread, if there is room."""
        self._check_fork()
        with self._guard:
            running = self._running
            if len(running) >= BACKGROUND_LIMIT:
                self._drop(coroutine)
                return False
            if self._background is None:
                self._background = _pool(BACKGROUND_THREADS, "cm_platform-background")
            context = contextvars.copy_context()
            try:
                future = self._background.submit(context.run, self._attempt, coroutine)
            except RuntimeError:
                # The interpreter is on its way out and starts no threads any more.
                self._drop(coroutine)
                return False
            running[future] = coroutine
        future.add_done_callback(lambda done: running.pop(done, None))
        return True

    def _drop(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.dropped += 1
        coroutine.close()

    def _attempt(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            self._work(coroutine)
        except Exception as error:  # noqa: BLE001 - nobody waits for the result
            logger.warning("background work failed: %s", type(error).__name__)

    async def close(self, timeout: float = 5.0) -> None:
        """Wait for background work, drop what has not begun, then stop the threads."""
        from concurrent.futures import wait

        self._check_fork()
        with self._guard:
            workers, self._workers = self._workers, None
            background, self._background = self._background, None
            running = dict(self._running)
        _, late = wait(running, timeout=timeout)
        for future in late:
            if future.cancel():
                self._drop(running[future])
        for pool in (workers, background):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    def _pool(self) -> ThreadPoolExecutor:
        self._check_fork()
        with self._guard:
            if self._workers is None:
                self._workers = _pool(GATHER_THREADS, "cm_platform")
            return self._workers

    def _check_fork(self) -> None:
        # A child inherits the pool's object and none of its threads: work given to it would
        # wait for ever. The guard may have been held by a thread that is no more.
        if self._pid != os.getpid():
            self._guard = threading.Lock()
            self._workers = self._background = None
            self._running = {}
            self._inside = threading.local()
            # Last: whoever sees the new number must find the rest new, too.
            self._pid = os.getpid()


def _pool(size: int, name: str) -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(size, thread_name_prefix=name)


class _Held:
    """A thread lock or semaphore as an async context manager that never suspends."""

    __slots__ = ("_lock",)

    def __init__(self, lock: threading.Lock | threading.Semaphore) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *exc: object) -> None:
        self._lock.release()


class _NoTimeout:
    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc: object) -> None:
        return None


_NO_TIMEOUT: Final = _NoTimeout()


class _BlockingEvent:
    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self, timeout: float | None = None) -> bool:
        return self._event.wait(timeout)


__all__ = ["BACKGROUND_LIMIT", "BlockingRuntime"]
