"""The three places where an SDK's sync and async clients differ in shape."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Generator,
    Iterable,
)
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
)
from inspect import CORO_CREATED, getcoroutinestate, isawaitable
from typing import Any, TypeVar, cast

T = TypeVar("T")


async def settle(value: Awaitable[T] | T) -> T:
    """A reply that one client returns and the other makes you await."""
    if isawaitable(value):
        return cast("T", await value)
    return value


@asynccontextmanager
async def entered(
    manager: AbstractAsyncContextManager[T] | AbstractContextManager[T],
) -> AsyncGenerator[T, None]:
    """A context manager of either kind."""
    if isinstance(manager, AbstractAsyncContextManager):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


async def each(iterable: AsyncIterable[T] | Iterable[T]) -> AsyncGenerator[T, None]:
    """The items of an iterable of either kind."""
    if isinstance(iterable, AsyncIterable):
        async for item in iterable:
            yield item
    else:
        for item in iterable:
            yield item


@asynccontextmanager
async def taken(
    coroutines: AsyncIterable[Coroutine[Any, Any, T]] | Iterable[Coroutine[Any, Any, T]],
) -> AsyncGenerator[AsyncIterator[Coroutine[Any, Any, T]], None]:
    """Coroutines to be taken one by one; at the end, what was not taken is closed.

    Left to the garbage collector, a generator would hold its file or connection for a while,
    and a coroutine would complain that nobody awaited it.
    """
    items = each(coroutines)
    try:
        yield items
    finally:
        await items.aclose()
        if isinstance(coroutines, AsyncGenerator):
            await coroutines.aclose()
        elif isinstance(coroutines, Generator):
            coroutines.close()
        elif isinstance(coroutines, list | tuple):
            for coroutine in coroutines:
                if getcoroutinestate(coroutine) == CORO_CREATED:
                    coroutine.close()


__all__ = ["each", "entered", "settle", "taken"]
