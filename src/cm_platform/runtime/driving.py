"""Running a coroutine that never suspends, without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in this thread and return what it returns.

    Under the blocking runtime no `await` ever suspends, so one `send` reaches the end.
    A coroutine that does suspend awaited something foreign: a bug, raised as RuntimeError.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    _abandon(coroutine)
    raise RuntimeError(
        "a coroutine suspended under the blocking runtime: it awaited something that is not "
        "the runtime's (asyncio, or a client of the other face)"
    )


def _abandon(coroutine: Coroutine[Any, Any, Any]) -> None:
    # A coroutine that suspends again in its `finally` refuses to close, and one whose clean-up
    # fails raises that; ours is the better error.
    with suppress(Exception):
        coroutine.close()


def drive_each(iterator: AsyncIterator[T]) -> Iterator[T]:
    """Walk an async iterator from blocking code; closing this generator closes that one."""
    try:
        while True:
            try:
                item = drive(_step(iterator))
            except StopAsyncIteration:
                break
            yield item
    except Exception:
        # Its failure is the better error than one about closing it: in 3.11 a generator that
        # suspended counts as running and cannot be closed.
        with suppress(Exception):
            drive(_closed(iterator))
        raise
    except BaseException:
        drive(_closed(iterator))
        raise
    drive(_closed(iterator))


async def _step(iterator: AsyncIterator[T]) -> T:
    return await anext(iterator)


async def _closed(iterator: AsyncIterator[Any]) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


__all__ = ["drive", "drive_each"]
