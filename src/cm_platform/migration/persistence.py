"""Asking a ledger again: its methods may be repeated, so a lost answer costs only time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

from cm_platform.errors import PlatformError
from cm_platform.runtime import Runtime

T = TypeVar("T")
P = ParamSpec("P")

_WAITS: Final = (0.05, 0.2, 0.5, 1.0)


async def persist(
    runtime: Runtime, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """What the call returns; a failure that may pass is met by asking again, five times in all.

    For the few who move data. Writers are answered sooner: the executor repeats for them.
    """
    for wait in _WAITS:
        try:
            return await call(*args, **kwargs)
        except PlatformError as error:
            if not error.retryable:
                raise
            # A breaker says when it lets somebody through, a store when it has room again.
            longer = error.retry_after or 0.0
        await runtime.sleep(max(wait, longer))
    return await call(*args, **kwargs)


__all__ = ["persist"]
