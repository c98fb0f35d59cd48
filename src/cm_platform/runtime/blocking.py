"""The runtime of the sync face: the caller's thread, a small pool, threads in the background."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from cm_platform.errors import UnavailableError

from .background import Background, Stop
from .clock import SYSTEM_CLOCK, Clock
from .driving import drive
from .protocol import WorkStopped
from .shapes import taken

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger("cm_platform.runtime")

GATHER_THREADS: Final = 32


class BlockingRuntime:
    """Waits by blocking; runs concurrent work in threads that drive coroutines."""

    is_async = False

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.dropped = 0
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        self._background = Background()
        self._inside = threading.local()

    async def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it, here."""
        return fn(*args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        """Block this thread."""
        stop = self._stop_here()
        if stop is None:
            self.clock.sleep(seconds)
        else:
            stop.sleep(self.clock, seconds)

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
                    try:
                        future = pool.submit(context.run, self._share, coroutine, failures)
                    except RuntimeError as error:
                        # The pool was shut down while we took from the iterable.
                        coroutine.close()
                        raise UnavailableError("the platform was closed", not_sent=True) from error
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
        return _BlockingEvent(self._stop_here)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run in a background thread, if there is room."""
        self._check_fork()
        if self._background.start(partial(self._attempt, coroutine)):
            return True
        with self._guard:
            self.dropped += 1
        coroutine.close()
        return False

    def _attempt(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            self._work(coroutine)
        except WorkStopped:
            pass
        except BaseException as error:  # noqa: BLE001 - nobody waits for the result
            logger.warning("background work failed: %s", type(error).__name__)

    async def close(self, timeout: float = 5.0) -> None:
        """Wait for background work, stop what is left, then stop the threads."""
        self._check_fork()
        with self._guard:
            workers, self._workers = self._workers, None
        busy = self._background.close(timeout)
        if busy:
            logger.warning("%d background threads are still busy and are left behind", busy)
        if workers is not None:
            # What waits for a thread still gets one: a future that is cancelled here would never
            # wake the `gather` that waits for it.
            workers.shutdown(wait=False)

    def _stop_here(self) -> Stop | None:
        return self._background.stop_here()

    def _pool(self) -> ThreadPoolExecutor:
        self._check_fork()
        with self._guard:
            if self._workers is None:
                from concurrent.futures import ThreadPoolExecutor

                self._workers = ThreadPoolExecutor(GATHER_THREADS, "cm_platform")
            return self._workers

    def _check_fork(self) -> None:
        # A child inherits the pool's object and none of its threads: work given to it would
        # wait for ever. The guard may have been held by a thread that is no more.
        if self._pid != os.getpid():
            self._guard = threading.Lock()
            self._workers = None
            self._background = Background()
            self._inside = threading.local()
            # Last: whoever sees the new number must find the rest new, too.
            self._pid = os.getpid()


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
    __slots__ = ("_changed", "_stop_here", "_up")

    def __init__(self, stop_here: Callable[[], Stop | None]) -> None:
        self._stop_here = stop_here
        self._changed = threading.Condition()
        self._up = False

    def set(self) -> None:
        with self._changed:
            self._up = True
            self._changed.notify_all()

    def is_set(self) -> bool:
        return self._up

    async def wait(self, timeout: float | None = None) -> bool:
        stop = self._stop_here()
        if stop is not None:
            return stop.wait_for(self._changed, self.is_set, timeout)
        with self._changed:
            return self._changed.wait_for(self.is_set, timeout)


__all__ = ["BlockingRuntime"]
