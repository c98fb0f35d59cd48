"""The simulated runtime keeps the contract of `Runtime`, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from cm_platform.runtime import Runtime
from cm_platform.testing.simulation import Cancelled, SimulatedRuntime, Simulation, point

T = TypeVar("T")


def _run(work: Callable[[Runtime], Coroutine[Any, Any, T]], seed: int = 1) -> tuple[T, float]:
    """What it returns, and how long it took."""
    with Simulation(seed) as simulation:
        process = simulation.process("app")
        task = process.spawn(work(SimulatedRuntime(process)))
        simulation.run(until=task)
        return task.value, simulation.now


def test_waiting_takes_virtual_time_only() -> None:
    async def work(runtime: Runtime) -> tuple[float, float]:
        wall, monotonic = runtime.clock.wall(), runtime.clock.monotonic()
        await runtime.sleep(1000)
        await runtime.clock.sleep_async(500)
        return runtime.clock.wall() - wall, runtime.clock.monotonic() - monotonic

    (wall, monotonic), took = _run(work)
    assert wall == pytest.approx(1500, abs=0.1)
    assert monotonic == pytest.approx(1500, abs=0.1)
    assert took == pytest.approx(1500, abs=0.1)


def test_each_process_has_clocks_of_its_own() -> None:
    with Simulation(1) as simulation:
        true = SimulatedRuntime(simulation.process("a")).clock
        off = SimulatedRuntime(simulation.process("b", wall=-90, monotonic=7000)).clock
        assert off.wall() - true.wall() == -90
        assert off.monotonic() - true.monotonic() == 7000
        with pytest.raises(RuntimeError, match="simulation"):
            true.sleep(1)


def test_call_runs_here() -> None:
    async def work(runtime: Runtime) -> int:
        return await runtime.call(divmod, 7, 2) == (3, 1)

    assert _run(work)[0]


@pytest.mark.parametrize("seed", range(5))
def test_gather_keeps_the_order_and_the_limit(seed: int) -> None:
    running: set[int] = set()
    most = 0

    async def one(runtime: Runtime, number: int) -> int:
        nonlocal most
        running.add(number)
        most = max(most, len(running))
        await runtime.sleep(10 - number)
        running.discard(number)
        return number

    async def work(runtime: Runtime) -> list[int]:
        return await runtime.gather((one(runtime, n) for n in range(10)), limit=3)

    found, took = _run(work, seed)
    assert found == list(range(10))
    assert most == 3
    assert 15 < took < 30


@pytest.mark.parametrize("limit", [1, 4])
def test_gather_takes_from_the_iterable_only_when_there_is_room(limit: int) -> None:
    taken = done = 0

    async def one() -> None:
        nonlocal done
        await point()
        done += 1

    async def several() -> AsyncGenerator[Coroutine[Any, Any, None], None]:
        nonlocal taken
        for _ in range(20):
            assert taken - done < limit
            taken += 1
            await point()
            yield one()

    async def work(runtime: Runtime) -> None:
        await runtime.gather(several(), limit=limit)

    _run(work)
    assert done == 20


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_gather_cancels_the_others_after_a_failure(limit: int) -> None:
    ends: list[str] = []

    async def fails(runtime: Runtime) -> None:
        await runtime.sleep(1)
        raise ZeroDivisionError

    async def lasts(runtime: Runtime) -> None:
        try:
            await runtime.sleep(100)
            ends.append("done")
        except Cancelled:
            await runtime.sleep(1)
            ends.append("cancelled")
            raise

    async def work(runtime: Runtime) -> float:
        coroutines = [fails(runtime), *(lasts(runtime) for _ in range(5))]
        with pytest.raises(ZeroDivisionError):
            await runtime.gather(coroutines, limit=limit)
        return runtime.clock.monotonic()

    after, _ = _run(work)
    assert ends == ["cancelled"] * min(limit - 1, 5)
    assert after == pytest.approx(1 if limit == 1 else 2, abs=0.1)


def test_a_cancelled_gather_cancels_its_own() -> None:
    ends: list[str] = []

    async def lasts(runtime: Runtime) -> None:
        try:
            await runtime.sleep(100)
        finally:
            ends.append("ended")

    async def work(runtime: Runtime) -> None:
        with pytest.raises(TimeoutError):
            async with runtime.timeout(1):
                await runtime.gather([lasts(runtime) for _ in range(3)], limit=3)

    _, took = _run(work)
    assert ends == ["ended"] * 3
    assert took < 2


def test_a_timeout_is_a_cancellation_inside_and_a_timeout_error_outside() -> None:
    seen: list[type[BaseException]] = []

    async def work(runtime: Runtime) -> None:
        with pytest.raises(TimeoutError):
            async with runtime.timeout(5):
                try:
                    await runtime.sleep(100)
                except BaseException as error:
                    seen.append(type(error))
                    raise
        async with runtime.timeout(5):
            await runtime.sleep(1)
        async with runtime.timeout(None):
            await runtime.sleep(1000)

    _, took = _run(work)
    assert seen == [Cancelled]
    assert took == pytest.approx(1006, abs=0.1)


def test_the_outer_of_two_timeouts_ends_the_outer_block() -> None:
    async def work(runtime: Runtime) -> str:
        try:
            async with runtime.timeout(1):
                try:
                    async with runtime.timeout(5):
                        await runtime.sleep(100)
                except TimeoutError:
                    return "inner"
        except TimeoutError:
            return "outer"
        return "neither"

    assert _run(work)[0] == "outer"


def test_a_timeout_leaves_the_failure_of_its_block_alone() -> None:
    async def work(runtime: Runtime) -> None:
        with pytest.raises(ZeroDivisionError):
            async with runtime.timeout(1):
                try:
                    await runtime.sleep(100)
                except Cancelled:
                    raise ZeroDivisionError from None
        # Nothing of it is left over.
        await runtime.sleep(1)

    _run(work)


def test_a_timeout_that_is_over_already_ends_the_block_where_it_first_waits() -> None:
    async def work(runtime: Runtime) -> bool:
        reached = False
        with pytest.raises(TimeoutError):
            async with runtime.timeout(-1):
                reached = True
                await point()
                await point()
        return reached

    assert _run(work)[0]


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (3, 3)])
def test_locks_and_semaphores_let_no_more_in(value: int, expected: int) -> None:
    inside = most = 0

    async def enters(guard: Any) -> None:
        nonlocal inside, most
        async with guard:
            inside += 1
            most = max(most, inside)
            await point()
            inside -= 1

    async def work(runtime: Runtime) -> None:
        guard = runtime.lock() if value == 1 else runtime.semaphore(value)
        await runtime.gather([enters(guard) for _ in range(12)], limit=12)

    _run(work)
    assert most == expected


@pytest.mark.parametrize("seed", range(30))
def test_who_gives_up_waiting_for_a_lock_leaves_it_to_others(seed: int) -> None:
    async def holds(runtime: Runtime, guard: Any) -> None:
        async with guard:
            await runtime.sleep(1.0)

    async def impatient(runtime: Runtime, guard: Any) -> None:
        try:
            # At about the time when the lock is let go.
            async with runtime.timeout(1.0), guard:
                pass
        except TimeoutError:
            pass

    async def work(runtime: Runtime) -> None:
        guard = runtime.lock()
        holding = holds(runtime, guard)
        several = [impatient(runtime, guard) for _ in range(4)]
        await runtime.gather([holding, *several], limit=5)
        async with guard:
            pass

    _run(work, seed)


def test_an_event_wakes_all_who_wait_or_their_patience_ends() -> None:
    async def work(runtime: Runtime) -> list[bool]:
        event = runtime.event()

        async def waits(timeout: float | None) -> bool:
            return await event.wait(timeout)

        async def sets() -> bool:
            await runtime.sleep(10)
            event.set()
            return event.is_set()

        assert not await event.wait(0)
        found = await runtime.gather([waits(None), waits(5), waits(50), sets()], limit=4)
        return [*found, await event.wait(), await event.wait(0)]

    assert _run(work)[0] == [True, False, True, True, True, True]


def test_background_work_is_bounded_joined_and_stopped() -> None:
    ends: list[str] = []

    async def lasts(runtime: Runtime, seconds: float) -> None:
        try:
            await runtime.sleep(seconds)
            ends.append("done")
        except Cancelled:
            ends.append("cancelled")
            raise

    async def work(runtime: Runtime) -> tuple[list[bool], int]:
        taken = [runtime.spawn(lasts(runtime, 1 if n else 100)) for n in range(66)]
        await runtime.close(5)
        # It is usable afterwards.
        assert runtime.spawn(lasts(runtime, 1))
        await runtime.close(5)
        return taken, runtime.dropped

    (taken, dropped), took = _run(work)
    assert taken == [True] * 64 + [False] * 2
    assert dropped == 2
    assert ends == ["done"] * 63 + ["cancelled", "done"]
    assert took == pytest.approx(6, abs=0.5)


def test_background_work_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    async def work(runtime: Runtime) -> None:
        runtime.spawn(fails())
        await runtime.close()

    _run(work)
    assert "ZeroDivisionError" in caplog.text
