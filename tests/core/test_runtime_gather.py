"""Concurrent work: in order, bounded, lazily taken, and ended by the first failure."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest

from cm_platform.errors import UnavailableError
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Runtime, drive

from .doubles import Face, until

Work = Coroutine[Any, Any, int]
PATIENCE = 10.0


async def value(number: int) -> int:
    return number


async def failing(error: BaseException) -> int:
    raise error


class Meter:
    """How many are inside at a time."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self._guard = threading.Lock()

    def __enter__(self) -> None:
        with self._guard:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *exc: object) -> None:
        with self._guard:
            self.inside -= 1


def gathered(face: Face, make: Any, *, limit: int) -> list[int]:
    """Runs `make(runtime)`'s coroutines under a runtime that is closed afterwards."""

    async def run() -> list[int]:
        runtime = face.runtime()
        try:
            made = make(runtime)
            return await runtime.gather(made, limit=limit)
        finally:
            await runtime.close()

    return face.run(run())


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_results_come_in_order(face: Face, limit: int) -> None:
    async def slow_first(runtime: Runtime, number: int) -> int:
        await runtime.sleep(0.02 if number == 0 else 0.0)
        return number

    found = gathered(face, lambda runtime: (slow_first(runtime, n) for n in range(20)), limit=limit)
    assert found == list(range(20))


@pytest.mark.parametrize("limit", [1, 4])
def test_nothing_to_do_is_done(face: Face, limit: int) -> None:
    assert gathered(face, lambda runtime: [], limit=limit) == []


def test_an_async_iterable_is_taken_too(face: Face) -> None:
    async def numbers() -> AsyncIterator[Work]:
        for number in range(5):
            yield value(number)

    assert gathered(face, lambda runtime: numbers(), limit=3) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("limit", [2, 4])
def test_the_limit_is_reached_and_never_passed(face: Face, limit: int) -> None:
    meter = Meter()

    async def work(runtime: Runtime) -> int:
        with meter:
            await runtime.sleep(0.005)
        return 0

    gathered(face, lambda runtime: (work(runtime) for _ in range(20)), limit=limit)
    assert meter.most == limit


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_no_more_is_taken_than_there_is_room_for(face: Face, limit: int) -> None:
    done = 0
    ahead = 0
    guard = threading.Lock()

    async def work(runtime: Runtime) -> int:
        nonlocal done
        await runtime.sleep(0.002)
        with guard:
            done += 1
        return 0

    def pulled(runtime: Runtime) -> Iterator[Work]:
        nonlocal ahead
        for number in range(20):
            with guard:
                ahead = max(ahead, number + 1 - done)
            yield work(runtime)

    gathered(face, pulled, limit=limit)
    assert ahead <= limit


@pytest.mark.parametrize("limit", [1, 3])
def test_the_first_failure_is_raised_and_nothing_more_is_taken(face: Face, limit: int) -> None:
    taken: list[int] = []
    closed: list[bool] = []

    def pulled(runtime: Runtime) -> Iterator[Work]:
        try:
            for number in range(1000):
                taken.append(number)
                yield failing(LookupError("2")) if number == 2 else value(number)
        finally:
            closed.append(True)

    with pytest.raises(LookupError, match="2"):
        gathered(face, pulled, limit=limit)
    assert len(taken) <= 3 + limit
    assert closed == [True]


def test_a_failure_is_noticed_while_the_iterable_makes_one_wait(face: Face) -> None:
    failed = threading.Event()
    started: list[int] = []

    async def fails() -> int:
        failed.set()
        raise LookupError("early")

    async def work(number: int) -> int:
        started.append(number)
        return number

    async def pulled(runtime: Runtime) -> AsyncIterator[Work]:
        yield fails()
        while not failed.is_set():
            await runtime.sleep(0.001)
        await runtime.sleep(0.02)
        yield work(1)

    with pytest.raises(LookupError, match="early"):
        gathered(face, pulled, limit=10)
    assert started == []


def test_the_failure_that_came_first_is_raised_not_the_first_in_order(face: Face) -> None:
    early = threading.Event()

    async def late(runtime: Runtime) -> int:
        try:
            while not early.is_set():
                await runtime.sleep(0.001)
            await runtime.sleep(0.02)
        finally:
            raise KeyError("late")

    async def soon() -> int:
        early.set()
        raise LookupError("soon")

    with pytest.raises(LookupError, match="soon") as caught:
        gathered(face, lambda runtime: iter([late(runtime), soon()]), limit=2)
    assert not isinstance(caught.value, KeyError)


def test_what_runs_is_over_when_the_failure_is_raised(face: Face) -> None:
    meter = Meter()
    failing = threading.Event()

    async def work(runtime: Runtime) -> int:
        with meter:
            while not failing.is_set():
                await runtime.sleep(0.001)
            await runtime.sleep(0.02)
        return 0

    async def fails(runtime: Runtime) -> int:
        while meter.inside < 3:
            await runtime.sleep(0.001)
        failing.set()
        raise LookupError("now")

    def pulled(runtime: Runtime) -> Iterator[Work]:
        yield from (work(runtime) for _ in range(3))
        yield fails(runtime)

    with pytest.raises(LookupError):
        gathered(face, pulled, limit=4)
    assert meter.inside == 0


def test_what_waits_for_a_thread_is_not_begun_after_a_failure() -> None:
    started: list[int] = []
    everyone_waits = threading.Event()

    async def fails() -> int:
        assert everyone_waits.wait(PATIENCE)
        raise LookupError("first")

    async def waits() -> int:
        assert everyone_waits.wait(PATIENCE)
        await BlockingRuntime().sleep(0.05)  # the failure becomes known: nothing to poll for
        return 0

    async def queued(number: int) -> int:
        started.append(number)
        return number

    def pulled(runtime: Runtime) -> Iterator[Work]:
        yield fails()
        yield from (waits() for _ in range(31))
        yield from (queued(number) for number in range(20))
        everyone_waits.set()

    with pytest.raises(LookupError, match="first"):
        gathered(Face(False), pulled, limit=64)
    assert len(started) <= 1


@pytest.mark.parametrize("limit", [1, 2])
def test_a_list_leaves_no_coroutine_that_nobody_awaits(face: Face, limit: int) -> None:
    # A coroutine that is dropped unawaited is a RuntimeWarning, and warnings are errors here.
    with pytest.raises(LookupError):
        gathered(
            face,
            lambda runtime: [failing(LookupError("x")), *(value(n) for n in range(20))],
            limit=limit,
        )


@pytest.mark.parametrize("limit", [1, 3])
def test_a_failure_of_the_iterable_itself_is_raised(face: Face, limit: int) -> None:
    def pulled(runtime: Runtime) -> Iterator[Work]:
        yield value(1)
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        gathered(face, pulled, limit=limit)


def test_gathering_within_gathering_does_not_come_to_a_halt(face: Face) -> None:
    async def outer(runtime: Runtime, base: int) -> int:
        return sum(await runtime.gather((value(base + n) for n in range(5)), limit=5))

    found = gathered(face, lambda runtime: (outer(runtime, n) for n in range(64)), limit=64)
    assert found == [5 * n + 10 for n in range(64)]


def test_context_variables_go_along_and_do_not_come_back(face: Face) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")

    async def work(number: int) -> int:
        assert name.get() == "caller"
        name.set(f"work {number}")
        return number

    async def run() -> None:
        runtime = face.runtime()
        name.set("caller")
        await runtime.gather((work(n) for n in range(10)), limit=3)
        assert name.get() == "caller"
        await runtime.close()

    face.run(run())


def test_a_failing_task_cancels_the_others() -> None:
    cancelled: list[int] = []

    async def waits(runtime: Runtime, number: int) -> int:
        try:
            await runtime.sleep(60)
        except BaseException:
            cancelled.append(number)
            raise
        return number

    def pulled(runtime: Runtime) -> Iterator[Work]:
        yield from (waits(runtime, number) for number in range(3))
        yield failing(LookupError("x"))

    with pytest.raises(LookupError):
        gathered(Face(True), pulled, limit=10)
    assert sorted(cancelled) == [0, 1, 2]


def test_cancelling_the_caller_cancels_all_that_runs() -> None:
    running, cancelled = [0], [0]

    async def waits(runtime: Runtime) -> int:
        running[0] += 1
        try:
            await runtime.sleep(60)
        finally:
            cancelled[0] += 1
        return 0

    async def run() -> None:
        runtime = AsyncRuntime()
        work = runtime.gather((waits(runtime) for _ in range(5)), limit=3)
        task = asyncio.create_task(work)
        await until(lambda: running[0] == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await runtime.close()

    asyncio.run(run())
    assert (running, cancelled) == ([3], [3])


def test_threads_are_few_however_many_gather_at_once() -> None:
    runtime = BlockingRuntime()
    from cm_platform.runtime import drive

    meter = Meter()

    async def work() -> int:
        with meter:
            await runtime.sleep(0.002)
        return 1

    totals: list[int] = []

    def gather() -> None:
        totals.append(sum(drive(runtime.gather((work() for _ in range(20)), limit=20))))

    threads = [threading.Thread(target=gather) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    drive(runtime.close())
    assert totals == [20] * 8
    assert meter.most <= 32


def test_a_runtime_that_is_closed_meanwhile_ends_what_it_began_and_begins_no_more() -> None:
    runtime = BlockingRuntime()
    finished: list[int] = []

    async def work(number: int) -> None:
        finished.append(number)

    def coroutines() -> Iterator[Coroutine[Any, Any, None]]:
        yield work(0)
        yield work(1)
        drive(runtime.close())
        yield work(2)

    with pytest.raises(UnavailableError, match="closed"):
        drive(runtime.gather(coroutines(), limit=8))
    assert 2 not in finished
