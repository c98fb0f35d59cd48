"""One write a second for a key: who waits, who is replaced, and what happens to all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cm_platform.cache.workers_kv.guard import WriteGuard
from cm_platform.errors import RateLimitedError
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, drive

PATIENCE = 10.0


class FakeClock:
    """Stands still until it is told to move, or slept on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds

    def sleep(self, seconds: float, /) -> None:
        self.move(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.move(seconds)


class Sent:
    """What reached KV, and when."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.values: list[Any] = []
        self.times: list[float] = []

    async def __call__(self, value: Any) -> None:
        self.values.append(value)
        self.times.append(self.clock.now)


class TurningClock(FakeClock):
    """Lets the loop turn until it is told to move: a sleep ends when its time has come."""

    async def sleep_async(self, seconds: float) -> None:
        ends = self.now + seconds
        async with asyncio.timeout(PATIENCE):
            while self.now < ends:  # noqa: ASYNC110 - the clock is no event
                await asyncio.sleep(0)


class LastFirst(AsyncRuntime):
    """Whoever came last to wait for an event is the first to wake."""

    def event(self) -> Any:
        return LastFirstEvent()


class LastFirstEvent:
    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._up = False

    def set(self) -> None:
        self._up = True
        for future in reversed(self._waiting):
            if not future.done():
                future.set_result(None)

    def is_set(self) -> bool:
        return self._up

    async def wait(self, timeout: float | None = None) -> bool:
        if not self._up:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]
        return True


def turn(coroutine: Any) -> Any:
    """Run on a loop."""

    async def timed() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await coroutine

    return asyncio.run(timed())


async def some_turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_writes_to_a_key_are_a_second_apart() -> None:
    clock = FakeClock()
    guard, sent = WriteGuard(BlockingRuntime(clock=clock), 1.0), Sent(clock)
    for value in (1, 2, 3):
        drive(guard.write("key", value, sent))
    drive(guard.write("other", 4, sent))
    assert sent.values == [1, 2, 3, 4]
    assert sent.times == [1000.0, 1001.0, 1002.0, 1002.0]
    assert guard.dropped == 0


def test_who_comes_within_the_second_is_written_once_and_the_last_wins() -> None:
    async def act() -> None:
        clock = TurningClock()
        guard, sent = WriteGuard(AsyncRuntime(clock=clock), 1.0), Sent(clock)
        await guard.write("key", 0, sent)
        waiting = [asyncio.create_task(guard.write("key", n, sent)) for n in range(1, 6)]
        other = asyncio.create_task(guard.write("other", "other", sent))
        await some_turns()
        assert sent.values == [0, "other"]
        assert other.done()
        assert not any(task.done() for task in waiting)
        clock.move(1)
        await asyncio.gather(*waiting)
        assert sent.values == [0, "other", 5]
        assert guard.dropped == 4

    turn(act())


def test_who_comes_while_it_is_on_its_way_is_the_next() -> None:
    async def act() -> None:
        clock = TurningClock()
        guard = WriteGuard(AsyncRuntime(clock=clock), 1.0)
        arrived, go_on = asyncio.Event(), asyncio.Event()
        values: list[int] = []

        async def send(value: int) -> None:
            arrived.set()
            await go_on.wait()
            values.append(value)

        first = asyncio.create_task(guard.write("key", 1, send))
        await arrived.wait()
        others = [asyncio.create_task(guard.write("key", n, send)) for n in (2, 3)]
        await some_turns()
        go_on.set()
        await first
        assert values == [1]
        await some_turns()
        assert values == [1]
        clock.move(1)
        await asyncio.gather(*others)
        assert values == [1, 3]
        assert guard.dropped == 1

    turn(act())


def test_a_failure_reaches_all_who_wait_and_the_next_is_a_second_later() -> None:
    async def act() -> None:
        clock = TurningClock()
        guard, sent = WriteGuard(AsyncRuntime(clock=clock), 1.0), Sent(clock)
        await guard.write("key", 0, sent)

        async def refuse(value: int) -> None:
            raise RateLimitedError("slow down")

        waiting = [asyncio.create_task(guard.write("key", n, refuse)) for n in range(3)]
        await some_turns()
        clock.move(1)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RateLimitedError] * 3
        # It may have landed.
        again = asyncio.create_task(guard.write("key", 9, sent))
        await some_turns()
        assert sent.values == [0]
        clock.move(1)
        await again
        assert sent.values == [0, 9]

    turn(act())


@pytest.mark.parametrize("runtime", [AsyncRuntime, LastFirst])
@pytest.mark.parametrize("when", ["it waits", "it sends"])
def test_a_leader_that_is_cancelled_hands_the_last_value_over(
    when: str, runtime: type[AsyncRuntime]
) -> None:
    async def act() -> None:
        clock = TurningClock()
        guard = WriteGuard(runtime(clock=clock), 1.0)
        values: list[int] = []
        hang = asyncio.Event()

        async def send(value: int) -> None:
            if hang.is_set():
                await asyncio.Event().wait()
            values.append(value)

        await guard.write("key", 0, send)
        leader = asyncio.create_task(guard.write("key", 1, send))
        await some_turns()
        # In any order in which they wake, the last one's value is the last.
        others = [asyncio.create_task(guard.write("key", n, send)) for n in (2, 3, 4)]
        await some_turns()
        if when == "it sends":
            hang.set()
            clock.move(1)
            await some_turns()
            hang.clear()
        leader.cancel()
        await some_turns()
        assert leader.cancelled()
        assert values == [0]
        clock.move(1)
        await asyncio.gather(*others)
        assert values[-1] == 4
        assert set(values) == {0, 4}

    turn(act())


def test_one_who_waits_may_be_cancelled() -> None:
    async def act() -> None:
        clock = TurningClock()
        guard, sent = WriteGuard(AsyncRuntime(clock=clock), 1.0), Sent(clock)
        await guard.write("key", 0, sent)
        tasks = [asyncio.create_task(guard.write("key", n, sent)) for n in (1, 2, 3)]
        await some_turns()
        tasks[1].cancel()
        clock.move(1)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            asyncio.CancelledError,
            type(None),
        ]
        assert sent.values == [0, 3]

    turn(act())


def test_many_keys_wait_for_the_latest_of_them() -> None:
    clock = FakeClock()
    guard, sent = WriteGuard(BlockingRuntime(clock=clock), 1.0), Sent(clock)

    async def together() -> str:
        sent.times.append(clock.now)
        return "reply"

    drive(guard.write("a", 1, sent))
    clock.move(0.5)
    drive(guard.write("b", 1, sent))
    assert drive(guard.together(["a", "b", "c"], together)) == "reply"
    drive(guard.write("c", 1, sent))
    assert sent.times == [1000.0, 1000.5, 1001.5, 1002.5]


def test_who_finds_that_others_wrote_meanwhile_waits_again() -> None:
    clock = FakeClock()
    guard, sent = WriteGuard(BlockingRuntime(clock=clock), 1.0), Sent(clock)
    drive(guard.write("key", 1, sent))
    sleep, slept = clock.sleep, [0]

    def sleep_and_write(seconds: float) -> None:
        sleep(seconds)
        slept[0] += 1
        if slept[0] == 1:
            drive(guard.together(["key"], reply))

    async def reply() -> None:
        sent.times.append(clock.now)

    clock.sleep = sleep_and_write  # type: ignore[method-assign]
    drive(guard.write("key", 2, sent))
    assert sent.times == [1000.0, 1001.0, 1002.0]


def test_keys_of_the_past_are_forgotten() -> None:
    clock = FakeClock()
    guard, sent = WriteGuard(BlockingRuntime(clock=clock), 1.0), Sent(clock)
    for n in range(1000):
        drive(guard.write(f"key-{n}", n, sent))
        clock.move(0.5)
    assert len(guard._last) < 10
    assert not guard._turns


class Gate:
    """Threads that write at once, on a clock on which nobody waits long."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.guard = WriteGuard(BlockingRuntime(clock=self.clock), 1.0)
        self.lock = threading.Lock()
        self.values: list[int] = []

    async def send(self, value: int) -> None:
        with self.lock:
            self.values.append(value)

    def write(self, value: int) -> None:
        drive(self.guard.write("key", value, self.send))


def at_once(pool: ThreadPoolExecutor, acts: list[Callable[[], None]]) -> None:
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], None]) -> None:
        start.wait(PATIENCE)
        act()

    for future in [pool.submit(run, act) for act in acts]:
        future.result(PATIENCE)


def test_threads_never_lose_a_later_value() -> None:
    """Whoever has returned was written, or replaced by one that began before it returned; so what
    is written after all have returned is last."""
    gate = Gate()
    with ThreadPoolExecutor(8) as pool:
        for round_ in range(50):
            base = round_ * 10
            at_once(pool, [lambda n=base + n: gate.write(n) for n in range(8)])  # type: ignore[misc]
            assert base <= gate.values[-1] < base + 8
            gate.write(base + 9)
            assert gate.values[-1] == base + 9
    assert gate.guard.dropped == 50 * 9 - len(gate.values)
