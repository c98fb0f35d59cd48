"""Deadlines on an event loop: what `asyncio.timeout` does, ours does, with one timer for all."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import sys
import weakref
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, TypeAlias

import pytest

from cm_platform.runtime import AsyncRuntime

SOON = 0.005
LATE = 60.0

Timeout: TypeAlias = Callable[[float], AbstractAsyncContextManager[Any]]


# What earlier ones do otherwise: 3.11.2 knows no cause, and no deadline within a cancellation.
REFERENCE: Final = (3, 11, 7)


@pytest.fixture(params=["ours", "asyncio's"])
def timeout(request: pytest.FixtureRequest) -> Timeout:
    """Both: what is demanded of ours is what the standard library does, by now."""
    if request.param != "ours" and sys.version_info < REFERENCE:
        pytest.skip("this Python's own is not yet what we go by")
    if request.param == "ours":
        return AsyncRuntime().timeout
    return asyncio.timeout


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


def let_pass(seconds: float) -> None:
    """Keep the loop busy, so that whatever is due by then is due in one turn."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        pass


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    async def at_most() -> None:
        await asyncio.wait_for(coroutine, 10)

    asyncio.run(at_most())


def test_a_block_that_takes_longer_is_ended(timeout: Timeout) -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with timeout(SOON):
                await for_ever()
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert cancelling() == 0

    run(work())


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_deadline_that_has_passed_ends_the_first_wait(timeout: Timeout, seconds: float) -> None:
    async def work() -> None:
        async with timeout(seconds):
            pass  # Nothing is waited for, so there is nothing to end.
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with timeout(seconds):
                await for_ever()

    run(work())


def test_a_block_that_is_done_in_time_is_left_alone_for_ever(timeout: Timeout) -> None:
    async def work() -> None:
        async with timeout(SOON):
            await asyncio.sleep(0)
        await asyncio.sleep(3 * SOON)
        assert cancelling() == 0

    run(work())


@pytest.mark.parametrize("failure", [KeyError("x"), TimeoutError("another's"), GeneratorExit()])
def test_what_the_block_raises_is_passed_on(timeout: Timeout, failure: BaseException) -> None:
    async def work() -> None:
        with pytest.raises(type(failure)) as caught:
            async with timeout(LATE):
                raise failure
        assert caught.value is failure

    run(work())


def test_a_block_may_end_in_another_error_when_its_time_is_up(timeout: Timeout) -> None:
    async def work() -> None:
        with pytest.raises(KeyError):
            async with timeout(SOON):
                try:
                    await for_ever()
                finally:
                    raise KeyError("x")
        assert cancelling() == 0

    run(work())


def test_a_block_that_survives_its_deadline_leaves_no_cancellation_behind(
    timeout: Timeout,
) -> None:
    async def work() -> None:
        async with timeout(SOON):
            with suppress(asyncio.CancelledError):
                await for_ever()
        assert cancelling() == 0
        await asyncio.sleep(0)

    run(work())


def test_a_task_can_only_be_timed_out_where_there_is_one(timeout: Timeout) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[BaseException] = loop.create_future()

        async def block() -> None:
            async with timeout(LATE):
                pass

        def without_a_task() -> None:
            coroutine = block()
            try:
                coroutine.send(None)
            except BaseException as error:  # noqa: BLE001 - whatever it is, is looked at
                outcome.set_result(error)

        loop.call_soon(without_a_task)
        assert isinstance(await outcome, RuntimeError)

    run(work())


# Somebody else cancels the task -----------------------------------------------------------


def test_a_cancellation_from_outside_stays_one(timeout: Timeout) -> None:
    async def work() -> None:
        async def block() -> None:
            async with timeout(LATE):
                await for_ever()

        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(work())


@pytest.mark.parametrize("first", ["deadline", "cancellation"])
def test_a_cancellation_in_the_same_turn_as_the_deadline_goes_first(
    timeout: Timeout, first: str
) -> None:
    async def work() -> None:
        left: list[int] = []

        async def block() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            try:
                async with timeout(2 * SOON):
                    loop.call_later(3 * SOON if first == "deadline" else SOON, task.cancel)
                    let_pass(4 * SOON)
                    await for_ever()
            finally:
                left.append(task.cancelling())

        task = asyncio.create_task(block())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left == [1]

    run(work())


def test_a_cancellation_while_the_block_cleans_up_after_its_deadline_goes_first(
    timeout: Timeout,
) -> None:
    async def work() -> None:
        cleaning = asyncio.Event()

        async def block() -> None:
            async with timeout(SOON):
                try:
                    await for_ever()
                finally:
                    cleaning.set()
                    await for_ever()

        task = asyncio.create_task(block())
        await cleaning.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())


def test_a_deadline_holds_in_a_task_that_is_being_cancelled(timeout: Timeout) -> None:
    async def work() -> None:
        seen: list[int] = []

        async def cleans_up() -> None:
            try:
                await for_ever()
            finally:
                with pytest.raises(TimeoutError):
                    async with timeout(SOON):
                        await for_ever()
                seen.append(cancelling())

        task = asyncio.create_task(cleans_up())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == [1]

    run(work())


def test_a_group_of_tasks_ends_with_the_deadline_around_it(timeout: Timeout) -> None:
    async def work() -> None:
        ended: list[str] = []

        async def member() -> None:
            try:
                await for_ever()
            finally:
                ended.append("member")

        with pytest.raises(TimeoutError):
            async with timeout(SOON), asyncio.TaskGroup() as group:
                group.create_task(member())
                group.create_task(member())
        assert ended == ["member", "member"]
        assert cancelling() == 0

    run(work())


# One inside the other ---------------------------------------------------------------------


def test_the_inner_deadline_ends_the_inner_block_only(timeout: Timeout) -> None:
    async def work() -> None:
        async with timeout(LATE):
            with pytest.raises(TimeoutError):
                async with timeout(SOON):
                    await for_ever()
            await asyncio.sleep(0)
            assert cancelling() == 0

    run(work())


@pytest.mark.parametrize("inner", [LATE, 2 * SOON], ids=["later", "due-in-the-same-turn"])
def test_the_outer_deadline_ends_both_blocks_and_is_raised_outside(
    timeout: Timeout, inner: float
) -> None:
    async def work() -> None:
        where: list[str] = []
        try:
            async with timeout(SOON):
                try:
                    async with timeout(inner):
                        let_pass(3 * SOON)
                        await for_ever()
                except TimeoutError:
                    where.append("inside")
                except asyncio.CancelledError:
                    where.append("cancelled")
                    raise
        except TimeoutError:
            where.append("outside")
        assert where == ["cancelled", "outside"]
        assert cancelling() == 0

    run(work())


def test_a_library_that_uses_asyncios_own_inside_ours_is_none_the_wiser() -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with AsyncRuntime().timeout(SOON):
                async with asyncio.timeout(LATE):
                    await for_ever()
        async with AsyncRuntime().timeout(LATE):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(for_ever(), SOON)
        assert cancelling() == 0

    run(work())


# One timer for all ------------------------------------------------------------------------


def test_deadlines_that_are_met_cost_no_timer_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        runtime, loop = AsyncRuntime(), asyncio.get_running_loop()
        made: list[float] = []
        call_at = loop.call_at

        def counted(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
            made.append(when)
            return call_at(when, *args, **options)

        monkeypatch.setattr(loop, "call_at", counted)
        for _ in range(1000):
            async with runtime.timeout(LATE), runtime.timeout(2 * LATE):
                pass
        assert len(made) == 1

    run(work())


def test_each_of_many_deadlines_is_kept_and_none_comes_early() -> None:
    async def work() -> None:
        runtime, loop = AsyncRuntime(), asyncio.get_running_loop()
        chance = random.Random(7)  # noqa: S311 - no secret
        late = early = 0

        async def waits(patience: float, ends: float | None) -> None:
            nonlocal late, early
            began = loop.time()
            try:
                async with runtime.timeout(patience):
                    await (for_ever() if ends is None else asyncio.sleep(ends))
            except TimeoutError:
                late += 1
                assert loop.time() >= began + patience
                assert ends is None
            else:
                early += 1

        await asyncio.gather(
            *(waits(chance.uniform(0.001, 0.1), None) for _ in range(300)),
            *(waits(LATE, chance.uniform(0, 0.05)) for _ in range(300)),
        )
        assert (late, early) == (300, 300)

    run(work())


def test_a_deadline_is_kept_that_was_not_the_earliest_when_it_was_set() -> None:
    async def work() -> None:
        runtime = AsyncRuntime()
        async with runtime.timeout(SOON):
            pass
        # The timer goes off for a block that is gone; this one is due later.
        with pytest.raises(TimeoutError):
            async with runtime.timeout(4 * SOON):
                await for_ever()
        # And now it is idle: the next block must wake it.
        with pytest.raises(TimeoutError):
            async with runtime.timeout(SOON):
                await for_ever()

    run(work())


def test_a_runtime_that_comes_to_another_loop_keeps_its_deadlines_there() -> None:
    runtime = AsyncRuntime()

    async def work() -> None:
        async with runtime.timeout(LATE):
            with pytest.raises(TimeoutError):
                async with runtime.timeout(SOON):
                    await for_ever()

    for _ in range(3):
        run(work())


def test_no_deadline_is_one_that_never_comes() -> None:
    async def work() -> None:
        async with AsyncRuntime().timeout(None):
            await asyncio.sleep(0)
        with pytest.raises(KeyError):
            async with AsyncRuntime().timeout(None):
                raise KeyError("x")

    run(work())


def test_the_timer_keeps_nothing_of_a_request_that_ended() -> None:
    class Request:
        pass

    current: contextvars.ContextVar[Request] = contextvars.ContextVar("current")

    async def work() -> None:
        runtime = AsyncRuntime()

        async def serve(request: Request) -> None:
            current.set(request)
            async with runtime.timeout(LATE):
                pass

        request = Request()
        gone = weakref.ref(request)
        await asyncio.create_task(serve(request))
        del request
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None

    run(work())
