"""The scheduler: one seed, one course of events; processes that end as SIGKILL ends them."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator

import pytest

from cm_platform.testing.simulation import (
    Cancelled,
    DeadlockError,
    LivelockError,
    Simulation,
    point,
)
from cm_platform.testing.simulation.tasks import parked


async def _marking(log: list[str], name: str, times: int = 3) -> str:
    for number in range(times):
        log.append(f"{name}{number}")
        await point()
    return name


def _order(seed: int) -> list[str]:
    log: list[str] = []
    with Simulation(seed) as simulation:
        process = simulation.process("app")
        for name in "abc":
            process.spawn(_marking(log, name))
        simulation.run()
    return log


def test_any_task_may_be_next_and_the_seed_says_which() -> None:
    orders = {tuple(_order(seed)) for seed in range(200)}
    assert len(orders) > 100
    assert all(sorted(order) == sorted(_order(0)) for order in orders)
    assert [_order(seed) for seed in range(20)] == [_order(seed) for seed in range(20)]


def test_a_task_has_its_value_when_it_is_done() -> None:
    with Simulation(1) as simulation:
        task = simulation.process("app").spawn(_marking([], "a"))
        simulation.run(until=task)
        assert (task.is_done, task.value) == (True, "a")


def test_time_passes_a_little_with_each_step_and_jumps_when_all_wait() -> None:
    with Simulation(1, step=0.01) as simulation:
        process = simulation.process("app")
        simulation.run(until=process.spawn(_marking([], "a", 100)))
        assert 0.2 < simulation.now < 0.8
        before, steps = simulation.now, simulation.steps
        simulation.run(until=process.spawn(simulation.sleep(3600)))
        assert 3600 <= simulation.now - before < 3601
        assert simulation.steps - steps < 5


def test_a_stalled_task_lets_time_pass() -> None:
    with Simulation(1, stall=0.5, longest_stall=10) as simulation:
        simulation.run(until=simulation.process("app").spawn(_marking([], "a", 100)))
        assert 100 < simulation.now < 500


def test_a_failure_that_nobody_listens_for_ends_the_run() -> None:
    async def fails() -> None:
        await point()
        raise ZeroDivisionError

    with Simulation(1) as simulation:
        process = simulation.process("app")
        forever = process.spawn(parked_for_ever())
        process.spawn(fails())
        with pytest.raises(ZeroDivisionError):
            simulation.run(until=forever)


async def parked_for_ever() -> None:
    await parked()


def test_when_all_wait_for_each_other_it_says_where() -> None:
    with Simulation(1) as simulation:
        task = simulation.process("app").spawn(parked_for_ever(), "waiter")
        with pytest.raises(DeadlockError, match=r"app/waiter in .*parked"):
            simulation.run(until=task)


def test_without_tasks_to_wait_for_nothing_left_to_do_is_the_end() -> None:
    log: list[str] = []
    with Simulation(1) as simulation:
        process = simulation.process("app")
        process.spawn(parked_for_ever())
        process.spawn(_marking(log, "a"))
        simulation.at(5, lambda: log.append("timer"))
        simulation.run()
        assert log == ["a0", "a1", "a2", "timer"]


def test_work_without_an_end_is_found() -> None:
    async def spins() -> None:
        while True:
            await point()

    with Simulation(1) as simulation:
        task = simulation.process("app").spawn(spins(), "spinner")
        with pytest.raises(LivelockError, match=r"500 steps: app/spinner in .*spins"):
            simulation.run(until=task, max_steps=500)


def test_the_dice_of_the_module_random_are_seeded_and_given_back() -> None:
    async def rolls() -> list[float]:
        return [random.random() for _ in range(3)]  # noqa: S311 - dice

    def rolled(seed: int) -> list[float]:
        with Simulation(seed) as simulation:
            task = simulation.process("app").spawn(rolls())
            simulation.run(until=task)
            return task.value

    before = random.getstate()
    assert rolled(1) == rolled(1) != rolled(2)
    assert random.getstate() == before


def test_a_cancelled_task_sees_it_where_it_waits() -> None:
    seen: list[str] = []

    async def waits() -> None:
        try:
            await parked()
        except Cancelled:
            seen.append("cancelled")
            await point()
            seen.append("cleaned up")
            raise

    with Simulation(1) as simulation:
        process = simulation.process("app")
        task = process.spawn(waits())
        simulation.at(1, task.cancel)
        simulation.run(until=task)
        assert seen == ["cancelled", "cleaned up"]
        assert isinstance(task.error, Cancelled)


async def _cleaning(log: list[str]) -> None:
    try:
        while True:
            await point()
    finally:
        log.append("clean-up")
        # As clean-up does that asks a ledger: it suspends, again and again.
        for _ in range(5):
            await point()
        log.append("cleaned")


def test_a_killed_process_does_nothing_any_more() -> None:
    log: list[str] = []
    with Simulation(1) as simulation:
        process, other = simulation.process("app"), simulation.process("other")
        tasks = [process.spawn(_cleaning(log)) for _ in range(3)]
        tasks.append(process.spawn(parked_for_ever()))

        async def kills() -> None:
            await simulation.sleep(0.1)
            process.kill()

        other.spawn(kills())
        simulation.run(until=tasks)
        assert not process.is_alive
        survivor = other.spawn(_marking(log, "a", 50))
        simulation.run(until=survivor)
        simulation.run()
        assert "clean-up" not in log
        assert all(task.is_over and not task.is_done for task in tasks)


def test_a_process_that_crashes_itself_goes_no_further() -> None:
    log: list[str] = []

    with Simulation(1) as simulation:
        process = simulation.process("app")

        async def crashes() -> None:
            log.append("before")
            try:
                await process.crash()
            finally:
                log.append("after")

        task = process.spawn(crashes())
        simulation.run(until=task)
        simulation.run()
        assert log == ["before"]
        with pytest.raises(RuntimeError, match="dead"):
            process.spawn(parked_for_ever())


def test_what_is_left_at_the_end_is_disposed_of_without_a_word() -> None:
    # pytest makes a failure of every warning and of every exception that nobody caught.
    log: list[str] = []

    async def generates() -> AsyncGenerator[int, None]:
        try:
            while True:
                yield 1
                await point()
        finally:
            await point()

    async def consumes() -> None:
        async for _ in generates():
            await point()

    async def leaves_a_generator() -> None:
        async for _ in generates():
            break
        await parked()

    with Simulation(1) as simulation:
        killed, living = simulation.process("killed"), simulation.process("living")
        for process in (killed, living):
            process.spawn(_cleaning(log))
            process.spawn(consumes())
            process.spawn(leaves_a_generator())
        simulation.at(0.05, killed.kill)
        with pytest.raises(LivelockError):
            simulation.run(max_steps=200)
        living.spawn(_marking(log, "never begun"))


def test_who_waits_behind_a_dead_process_waits_no_longer_than_for_its_death() -> None:
    with Simulation(1) as simulation:
        process = simulation.process("app")
        task = process.spawn(parked_for_ever())
        simulation.at(1, process.kill)
        simulation.run(until=task)
        assert task.is_over
