"""A backend that is watched: what reached it, and what it is made to answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

from cm_platform.registry import Backend
from cm_platform.runtime import Runtime

Lie = Callable[[str, Any], Any]
"""Given a method's name and its answer, the answer to give instead."""

# They reach no store: asked for at any time, and no sign that bad input went too far.
_SILENT = frozenset({"close", "native", "translate"})


class WatchedBackend:
    """A backend of any kind, with the names of the methods that were called on it.

    calls: in order; tests clear it. lie: in place of None, answers for the backend.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.calls: list[str] = []
        self.lie: Lie | None = None

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self.backend, name)
        if name in _SILENT or not callable(found):
            return found
        method = cast("Callable[..., Awaitable[Any]]", found)

        async def called(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            answer = await method(*args, **kwargs)
            return answer if self.lie is None else self.lie(name, answer)

        return called


def watched(descriptor: Backend[Any], opened: Callable[[WatchedBackend], None]) -> Backend[Any]:
    """The same backend, watched; `opened` is told of each that is opened."""

    async def open_watched(config: Any, runtime: Runtime) -> WatchedBackend:
        backend = WatchedBackend(await descriptor.open(config, runtime))
        opened(backend)
        return backend

    return replace(descriptor, open=open_watched)


__all__ = ["Lie", "WatchedBackend", "watched"]
