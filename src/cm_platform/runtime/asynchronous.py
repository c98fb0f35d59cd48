"""The runtime of the async face: tasks on the caller's event loop, threads for blocking SDKs."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from .clock import SYSTEM_CLOCK, Clock
from .protocol import BACKGROUND_LIMIT
from .shapes import taken

# asyncio costs 50 ms to import: a program that uses the sync face alone never pays for it.
if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from .deadlines import Deadlines

T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger("cm_platform.runtime")

CALL_THREADS: Final = 32


class AsyncRuntime:
    """Waits by suspending. Belongs to one event loop: that of its first use."""

    is_async = True

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        # Not at the top of the module, and not on every call.
        from asyncio import get_running_loop

        from .deadlines import NO_DEADLINE, Deadline, Deadlines

        self.clock = clock
        self.dropped = 0
        self._running_loop = get_running_loop
        self._no_deadline = NO_DEADLINE
        self._new_deadline = Deadline
        self._new_deadlines = Deadlines
        self._deadlines: Deadlines | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._running: set[asyncio.Task[Any]] = set()

    async def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it in a worker thread."""
        import asyncio

        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            # Of our own: the loop's default pool has five threads on a machine with one core,
            # and somebody else's slow look-ups in it.
            self._threads = ThreadPoolExecutor(CALL_THREADS, thread_name_prefix="cm_platform")
        context = contextvars.copy_context()
        work: Callable[[], T] = partial(_contained, partial(fn, *args, **kwargs))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(context.run, work))

    async def sleep(self, seconds: float) -> None:
        """Suspend."""
        await self.clock.sleep_async(seconds)

    async def gather(
        self,
        coroutines: Iterable[Coroutine[Any, Any, T]] | AsyncIterable[Coroutine[Any, Any, T]],
        *,
        limit: int,
    ) -> list[T]:
        """See `Runtime.gather`."""
        if limit <= 1:
            async with taken(coroutines) as items:
                return [await coroutine async for coroutine in items]
        import asyncio

        tasks: list[asyncio.Task[T]] = []
        pending: set[asyncio.Task[T]] = set()
        failures: list[BaseException] = []

        def note(task: asyncio.Task[T]) -> None:
            # In the order of time. What is looked at is not reported as never retrieved.
            if not task.cancelled() and (error := task.exception()) is not None:
                failures.append(error)

        async with taken(coroutines) as items:
            try:
                async for coroutine in items:
                    if failures:
                        coroutine.close()
                        break
                    task = asyncio.create_task(coroutine)
                    task.add_done_callback(note)
                    tasks.append(task)
                    pending.add(task)
                    while len(pending) >= limit and not failures:
                        _, pending = await asyncio.wait(
                            pending, return_when=asyncio.FIRST_COMPLETED
                        )
                if pending and not failures:
                    await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in tasks:
                    task.cancel()
                if tasks:
                    await asyncio.wait(tasks)
        if failures:
            raise failures[0]
        return [task.result() for task in tasks]

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Cancels the task when the time is up, and makes a TimeoutError of that."""
        loop = self._running_loop()
        deadlines = self._deadlines
        if deadlines is None or deadlines.loop is not loop:
            deadlines = self._deadlines = self._new_deadlines(loop)
        if seconds is None:
            return self._no_deadline
        return self._new_deadline(deadlines, seconds)

    def lock(self) -> AbstractAsyncContextManager[Any]:
        """An asyncio lock."""
        import asyncio

        return asyncio.Lock()

    def semaphore(self, value: int) -> AbstractAsyncContextManager[Any]:
        """An asyncio semaphore."""
        import asyncio

        return asyncio.Semaphore(value)

    def event(self) -> _AsyncEvent:
        """An asyncio event."""
        return _AsyncEvent()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run as a task, if there is room."""
        import asyncio

        if len(self._running) >= BACKGROUND_LIMIT:
            self.dropped += 1
            coroutine.close()
            return False
        # The set holds the only strong reference: the loop keeps weak ones.
        task = asyncio.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return True

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("background work failed: %s", type(error).__name__)

    async def close(self, timeout: float = 5.0) -> None:
        """Wait for background work, cancel what is left, stop the threads."""
        import asyncio

        if self._running:
            _, late = await asyncio.wait(set(self._running), timeout=timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def _contained(fn: Callable[[], T]) -> T:
    try:
        return fn()
    except StopIteration as error:
        # asyncio cannot hand a StopIteration over, and the caller would wait for ever. This is
        # what it becomes in a coroutine of the blocking face, too.
        raise RuntimeError("a function in a worker thread raised StopIteration") from error


class _AsyncEvent:
    __slots__ = ("_event",)

    def __init__(self) -> None:
        import asyncio

        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self, timeout: float | None = None) -> bool:
        import asyncio

        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


__all__ = ["AsyncRuntime"]
