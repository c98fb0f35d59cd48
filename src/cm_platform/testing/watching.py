"""A backend that is watched: what reached it, and what it is made to answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from cm_platform.registry import Backend
from cm_platform.runtime import Clock, Runtime

Lie = Callable[[str, Any], Any]
"""Given a method's name and its answer, the answer to give instead."""

Before = Callable[[str, tuple[Any, ...], Mapping[str, Any]], None]
"""Told of a method's name and its arguments before it is called."""

# They reach no store: asked for at any time, and no sign that bad input went too far.
_SILENT = frozenset({"close", "native", "translate"})


class WatchedBackend:
    """A backend of any kind, with the names of the methods that were called on it.

    calls: in order; tests clear it. lie: in place of None, answers for the backend.
    before: in place of None, is told of each call.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.calls: list[str] = []
        self.lie: Lie | None = None
        self.before: Before | None = None

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self.backend, name)
        if name in _SILENT or not callable(found):
            return found
        method = cast("Callable[..., Awaitable[Any]]", found)

        async def called(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.before is not None:
                self.before(name, args, kwargs)
            answer = await method(*args, **kwargs)
            return answer if self.lie is None else self.lie(name, answer)

        return called


def watched(
    descriptor: Backend[Any],
    opened: Callable[[WatchedBackend], None],
    clock: Clock | None = None,
) -> Backend[Any]:
    """The same backend, watched; `opened` is told of each that is opened.

    clock: the backend's, where it must not be the library's.
    """

    async def open_watched(config: Any, runtime: Runtime) -> WatchedBackend:
        given: Any = runtime if clock is None else _Clocked(runtime, clock)
        backend = WatchedBackend(await descriptor.open(config, given))
        opened(backend)
        return backend

    return replace(descriptor, open=open_watched)


class _Clocked:
    """A runtime that goes by another clock."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self.clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    async def sleep(self, seconds: float) -> None:
        """See `Runtime.sleep`."""
        if self._runtime.is_async:
            await self.clock.sleep_async(seconds)
        else:
            self.clock.sleep(seconds)


__all__ = ["Before", "Lie", "WatchedBackend", "watched"]
