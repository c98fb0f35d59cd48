"""The three places where an SDK's sync and async clients differ in shape."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
)
from inspect import isawaitable
from typing import TypeVar, cast

T = TypeVar("T")


async def settle(value: Awaitable[T] | T) -> T:
    """A reply that one client returns and the other makes you await."""
    if isawaitable(value):
        return cast("T", await value)
    return value


@asynccontextmanager
async def entered(
    manager: AbstractAsyncContextManager[T] | AbstractContextManager[T],
) -> AsyncIterator[T]:
    """A context manager of either kind."""
    if isinstance(manager, AbstractAsyncContextManager):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


async def each(iterable: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    """The items of an iterable of either kind."""
    if isinstance(iterable, AsyncIterable):
        async for item in iterable:
            yield item
    else:
        for item in iterable:
            yield item


__all__ = ["each", "entered", "settle"]
