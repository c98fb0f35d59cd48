"""A coroutine runs to its end in the caller's thread, or says that it cannot."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self

import pytest

from cm_platform.runtime import drive, drive_each, each, entered, settle

from .doubles import Face


class Suspension:
    """Awaited, it suspends; as a foreign client would."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def test_drive_returns_what_the_coroutine_returns() -> None:
    async def answer() -> int:
        return 42

    assert drive(answer()) == 42


def test_drive_passes_exceptions_through_untouched() -> None:
    error = LookupError("mine")

    async def failing() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        drive(failing())
    assert caught.value is error


def test_a_suspension_is_an_error_and_the_coroutine_is_closed() -> None:
    log: list[str] = []

    async def suspending() -> None:
        try:
            await Suspension()
        finally:
            log.append("closed")

    with pytest.raises(RuntimeError, match="suspended under the blocking runtime"):
        drive(suspending())
    assert log == ["closed"]


def test_an_asyncio_sleep_is_such_a_suspension() -> None:
    async def sleeping() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="suspended under the blocking runtime"):
        drive(sleeping())

    async def inside_a_loop() -> None:
        with pytest.raises(RuntimeError, match="suspended under the blocking runtime"):
            drive(asyncio.sleep(60))

    asyncio.run(inside_a_loop())


def test_a_failing_clean_up_does_not_hide_the_suspension() -> None:
    async def suspending() -> None:
        try:
            await Suspension()
        finally:
            raise ValueError("clean-up")

    with pytest.raises(RuntimeError, match="suspended under the blocking runtime"):
        drive(suspending())


def test_a_generator_is_closed_when_the_consumer_breaks_off() -> None:
    log: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                log.append(f"made {number}")
                yield number
        finally:
            log.append("closed")

    for number in drive_each(numbers()):
        if number == 1:
            break
    gc.collect()
    assert log == ["made 0", "made 1", "closed"]


def test_a_generator_is_closed_when_the_consumer_fails() -> None:
    log: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            log.append("closed")

    walk = drive_each(numbers())
    assert next(walk) == 1
    with pytest.raises(KeyError):
        walk.throw(KeyError("x"))  # type: ignore[attr-defined]
    assert log == ["closed"]


def test_drive_each_ends_and_fails_with_the_generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise LookupError("end")

    seen: list[int] = []
    with pytest.raises(LookupError, match="end"):
        seen.extend(drive_each(numbers()))

    async def two() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert list(drive_each(two())) == [1, 2]


def test_drive_each_takes_an_iterator_that_cannot_be_closed() -> None:
    class Once:
        done = False

        def __aiter__(self) -> Once:
            return self

        async def __anext__(self) -> int:
            if self.done:
                raise StopAsyncIteration
            self.done = True
            return 1

    assert list(drive_each(Once())) == [1]


def test_a_suspension_in_a_generator_is_an_error() -> None:
    async def suspending() -> AsyncIterator[int]:
        await Suspension()
        yield 1

    with pytest.raises(RuntimeError, match="suspended under the blocking runtime"):
        list(drive_each(suspending()))


# The three shapes -------------------------------------------------------------------------


def test_settle_takes_a_reply_or_what_must_be_awaited(face: Face) -> None:
    async def later() -> int:
        return 2

    async def run() -> tuple[int, int]:
        given: int = await settle(1)
        awaited: int = await settle(later())
        return given, awaited

    assert face.run(run()) == (1, 2)


def test_entered_takes_either_kind_of_context_manager(face: Face) -> None:
    log: list[str] = []

    @contextmanager
    def plain() -> Generator[str, None, None]:
        yield "plain"
        log.append("plain left")

    @asynccontextmanager
    async def asynchronous() -> AsyncIterator[str]:
        yield "async"
        log.append("async left")

    async def enter() -> list[str]:
        async with entered(plain()) as one, entered(asynchronous()) as other:
            return [one, other]

    assert face.run(enter()) == ["plain", "async"]
    assert log == ["async left", "plain left"]


def test_entered_lets_the_context_manager_see_and_swallow_the_failure(face: Face) -> None:
    class Swallows:
        seen: type[BaseException] | None = None

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exc: BaseException | None,
            traceback: TracebackType | None,
        ) -> bool:
            self.seen = exc_type
            return True

    manager = Swallows()

    async def enter() -> None:
        async with entered(manager):
            raise KeyError("x")

    face.run(enter())
    assert manager.seen is KeyError


def test_each_takes_either_kind_of_iterable(face: Face) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 3

    async def collect() -> list[int]:
        return [n async for n in each([1, 2])] + [n async for n in each(numbers())]

    assert face.run(collect()) == [1, 2, 3]
