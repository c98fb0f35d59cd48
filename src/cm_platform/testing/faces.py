"""Both faces of a platform behind the sync face's signatures: written once, tested twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from inspect import isawaitable
from types import MappingProxyType, TracebackType
from typing import Any, Final, Literal, Self, TypeVar, cast

from cm_platform.config import load
from cm_platform.platform import AsyncPlatform, Platform
from cm_platform.registry import Backend, Registry
from cm_platform.runtime import SYSTEM_CLOCK, Clock, drive
from cm_platform.tenant import Tenant

from .watching import WatchedBackend, watched

T = TypeVar("T")

FACES: Final = ("sync", "async")

_SIGNING: Final = {"keys": {"suite": "the-key-of-a-conformance-suite-0"}}


class Face:
    """One backend behind a platform of one face. Use it as a context manager.

    name: "sync" or "async". backend_table: see `with_driver`. layout: of physical keys.
    backend_name, signing, settings, clock: when they matter to what is tested; signing is the
        `[signing]` table, settings what else stands in the kind's. backend_clock: in place of
        `clock`, for the backend.

    The async face runs on an event loop of its own, in the caller's thread.
    """

    def __init__(
        self,
        name: str,
        kind: Literal["storage", "cache"],
        backend_table: Mapping[str, Any],
        *,
        layout: str,
        backend_name: str = "tested",
        signing: Mapping[str, Any] = _SIGNING,
        settings: Mapping[str, Any] = MappingProxyType({}),
        clock: Clock = SYSTEM_CLOCK,
        backend_clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.is_async = name == "async"
        self._kind: Any = kind
        self._opened: list[WatchedBackend] = []
        registry = Registry()
        table = with_driver(backend_table, registry)
        config = load(
            {
                kind: {
                    **settings,
                    "default": backend_name,
                    "layout": layout,
                    "backends": {backend_name: table},
                },
                "signing": dict(signing),
            },
            # What the machine's environment says is not what is tested.
            environ={},
            registry=registry,
        )
        descriptor = registry.get(kind, config.kinds[kind].backends[backend_name].driver)
        registry.register(watched(descriptor, self._opened.append, backend_clock))
        self._runner: asyncio.Runner | None = None
        self._platform: Platform | AsyncPlatform
        if self.is_async:
            self._runner = asyncio.Runner()
            self._platform = AsyncPlatform(config, registry=registry, clock=clock)
        else:
            self._platform = Platform(config, registry=registry, clock=clock)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of this face to its end, such as a call on `backend`."""
        return drive(coroutine) if self._runner is None else self._runner.run(coroutine)

    def get_service(self, tenant: Tenant) -> Any:
        """The tenant's service; on the async face, an adapter with the sync signatures."""
        return self._blocking(self._platform.get_service(self._kind, tenant))

    @property
    def backend(self) -> WatchedBackend:
        """The backend itself, opened if it is not yet. Its methods are coroutines: see `run`."""
        if not self._opened:
            self.get_service(Tenant("opening", site_id="opening")).capabilities()
        return self._opened[-1]

    @property
    def calls(self) -> list[str]:
        """The backend's methods that were called, in order; `clear()` it before an act."""
        return self.backend.calls

    def at_once(self, service: Any, calls: Sequence[Callable[[Any], Any]]) -> list[Any]:
        """Make calls at the same time, in threads or tasks; results and exceptions, in order.

        calls: each is given the service and returns what its method returns.
        """
        if self._runner is None:
            start = threading.Barrier(len(calls))
            with ThreadPoolExecutor(len(calls)) as pool:
                running = [pool.submit(_caught, service, call, start) for call in calls]
                return [future.result() for future in running]
        target = cast("_Blocking", service).target

        async def gathered() -> list[Any]:
            return await asyncio.gather(*(call(target) for call in calls), return_exceptions=True)

        return self._runner.run(gathered())

    def close(self) -> None:
        """Close the platform and, of the async face, the loop."""
        closing = self._platform.close()
        if closing is not None:
            self.run(closing)
        if self._runner is not None:
            self._runner.close()

    def __enter__(self) -> Self:
        """The face itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _blocking(self, service: Any) -> Any:
        return service if self._runner is None else _Blocking(service, self._runner)


def with_driver(backend_table: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """The table as it would stand in a file, its descriptor in the registry.

    backend_table: `[<kind>.backends.<name>]`; its "driver" is a name, or the descriptor of a
    backend that has no entry point.
    """
    table = dict(backend_table)
    if isinstance(table.get("driver"), Backend):
        descriptor: Backend[Any] = table["driver"]
        registry.register(descriptor)
        table["driver"] = descriptor.name.partition(".")[2]
    return table


class _Blocking:
    """An async object whose calls run on a loop until they are done, as its sync twin's do."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self.target = target
        self._runner = runner

    def __repr__(self) -> str:
        return repr(self.target)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.target, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._finished(found(*args, **kwargs))

        return call

    def __enter__(self) -> Self:
        self._finished(self.target.__aenter__())
        return self

    def __exit__(self, *exc: object) -> None:
        self._finished(self.target.__aexit__(*exc))

    def _finished(self, result: Any) -> Any:
        if hasattr(result, "__anext__"):
            return _stepped(result, self._runner)
        if isawaitable(result):
            result = self._runner.run(_awaited(result))
        is_ours = type(result).__module__.startswith("cm_platform.")
        return _Blocking(result, self._runner) if is_ours and _is_async(result) else result


def _is_async(result: object) -> bool:
    return type(result).__name__.startswith("Async")


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _stepped(iterator: AsyncIterator[Any], runner: asyncio.Runner) -> Iterator[Any]:
    end = object()
    try:
        while (item := runner.run(_awaited(anext(iterator, end)))) is not end:
            yield item
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            runner.run(_awaited(close()))


def _caught(service: Any, call: Callable[[Any], Any], start: threading.Barrier) -> Any:
    start.wait(10)
    try:
        return call(service)
    except Exception as error:  # noqa: BLE001 - the outcome is the result
        return error


__all__ = ["FACES", "Face", "with_driver"]
