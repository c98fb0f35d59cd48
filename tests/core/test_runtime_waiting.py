"""Calls, deadlines, locks and forks, on both faces."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from cm_platform.runtime import AsyncRuntime, BlockingRuntime, drive

from .doubles import Face, FakeClock

PATIENCE = 10.0


def test_call_runs_a_function_with_its_arguments(face: Face) -> None:
    async def run() -> tuple[tuple[int, ...], bool]:
        runtime = face.runtime()
        where = await runtime.call(threading.get_ident)
        found = await runtime.call(lambda *args, key: (*args, key), 1, 2, key=3)
        await runtime.close()
        return found, where == threading.get_ident()

    assert face.run(run()) == ((1, 2, 3), not face.is_async)


def test_call_passes_the_failure_on(face: Face) -> None:
    async def run() -> None:
        runtime = face.runtime()
        try:
            await runtime.call(int, "x")
        finally:
            await runtime.close()

    with pytest.raises(ValueError, match="invalid literal"):
        face.run(run())


def test_a_function_that_raises_stop_iteration_does_not_hang_the_caller(face: Face) -> None:
    async def run() -> None:
        runtime = face.runtime()
        try:
            async with asyncio.timeout(PATIENCE) if face.is_async else runtime.timeout(None):
                await runtime.call(next, iter([]))
        finally:
            await runtime.close()

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        face.run(run())


def test_call_sees_the_callers_context(face: Face) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    async def run() -> str:
        runtime = face.runtime()
        name.set("caller")
        found = await runtime.call(name.get)
        await runtime.close()
        return found

    assert face.run(run()) == "caller"


def test_sleep_waits_on_the_clock_that_was_given(face: Face, clock: FakeClock) -> None:
    async def run() -> None:
        await face.runtime(clock).sleep(3.5)

    face.run(run())
    assert clock.slept == [3.5]


def test_a_runtime_is_usable_after_close(face: Face) -> None:
    async def value() -> int:
        return 1

    async def run() -> list[int]:
        runtime = face.runtime()
        await runtime.close()
        await runtime.call(int)
        found = await runtime.gather((value() for _ in range(3)), limit=2)
        await runtime.close()
        return found

    assert face.run(run()) == [1, 1, 1]


# Deadlines, locks, events -----------------------------------------------------------------


def test_a_timeout_interrupts_async_code() -> None:
    async def run() -> None:
        runtime = AsyncRuntime()
        async with runtime.timeout(0.01):
            await runtime.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(run())


def test_a_timeout_does_nothing_to_blocking_code() -> None:
    async def run() -> int:
        runtime = BlockingRuntime()
        async with runtime.timeout(0.0):
            await runtime.sleep(0.001)
        return 1

    assert drive(run()) == 1


@pytest.mark.parametrize("many", [1, 3])
def test_a_semaphore_lets_so_many_in(face: Face, many: int) -> None:
    inside = most = 0

    async def run() -> None:
        runtime = face.runtime()
        gate = runtime.lock() if many == 1 else runtime.semaphore(many)

        async def work() -> None:
            nonlocal inside, most
            async with gate:
                inside += 1
                most = max(most, inside)
                await runtime.sleep(0.003)
                inside -= 1

        await runtime.gather((work() for _ in range(12)), limit=12)
        await runtime.close()

    face.run(run())
    assert most == many


def test_a_lock_is_free_after_a_failure_inside(face: Face) -> None:
    async def run() -> int:
        runtime = face.runtime()
        lock = runtime.lock()
        with pytest.raises(KeyError):
            async with lock:
                raise KeyError("x")
        async with lock:
            return 1

    assert face.run(run()) == 1


def test_an_event_wakes_all_who_wait(face: Face) -> None:
    async def run() -> list[bool]:
        runtime = face.runtime()
        event = runtime.event()
        assert not event.is_set()
        assert await event.wait(0.001) is False

        async def waits() -> bool:
            return await event.wait(PATIENCE)

        async def sets() -> bool:
            await runtime.sleep(0.005)
            event.set()
            return event.is_set()

        found = await runtime.gather((w for w in [waits(), waits(), sets()]), limit=3)
        await runtime.close()
        return found

    assert face.run(run()) == [True, True, True]


# Fork -------------------------------------------------------------------------------------

FORK = """
import os, signal, sys
from cm_platform.runtime import BlockingRuntime, drive

runtime = BlockingRuntime()
done = []

async def value(number):
    return number

async def note():
    done.append(os.getpid())

def work():
    found = drive(runtime.gather((value(n) for n in range(8)), limit=4))
    runtime.spawn(note())
    drive(runtime.close())
    return found == list(range(8)) and done == [os.getpid()]

found = drive(runtime.gather((value(n) for n in range(8)), limit=4))
# As if other threads held them in the moment of the fork.
runtime._guard.acquire()
runtime._background._guard.acquire()
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if work() else 1)
runtime._guard.release()
runtime._background._guard.release()
_, status = os.waitpid(child, 0)
sys.exit(0 if status == 0 and work() else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_gets_threads_of_its_own() -> None:
    ended = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_cancelled_call_returns_while_its_thread_works_on() -> None:
    release, ended = threading.Event(), threading.Event()

    def blocking() -> None:
        release.wait(PATIENCE)
        ended.set()

    async def run() -> None:
        runtime = AsyncRuntime()
        task = asyncio.create_task(runtime.call(blocking))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not ended.is_set()
        release.set()
        await runtime.close()

    asyncio.run(run())
    assert ended.wait(PATIENCE)


def test_a_clock_of_the_machine_moves() -> None:
    from cm_platform.runtime import SYSTEM_CLOCK

    before = SYSTEM_CLOCK.monotonic()
    SYSTEM_CLOCK.sleep(0.001)
    asyncio.run(SYSTEM_CLOCK.sleep_async(0.001))
    wait: Callable[[float], None] = SYSTEM_CLOCK.sleep
    wait(0)
    assert SYSTEM_CLOCK.monotonic() - before >= 0.002
    assert abs(SYSTEM_CLOCK.wall() - time.time()) < 60
