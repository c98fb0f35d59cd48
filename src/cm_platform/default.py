"""The platforms behind `cm_platform.get_service` and `get_async_service`."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import cm_platform

from .assembly import OnRouteEvent
from .config import Config
from .platform import AsyncPlatform, Platform, read_config
from .tenant import Tenant

_guard = threading.RLock()
_config: Config | None = None
_options: dict[str, Any] = {}
_platform: Platform | None = None
_async_platform: AsyncPlatform | None = None


def configure(
    source: str | os.PathLike[str] | Mapping[str, Any] | Config | None,
    *,
    embedded: bool,
    on_route_event: OnRouteEvent | None,
) -> None:
    """See `cm_platform.configure`."""
    global _config, _options
    config = read_config(source, embedded=embedded)
    with _guard:
        _reset()
        _config = config
        _options = {"on_route_event": on_route_event}


def reload(source: str | os.PathLike[str] | Mapping[str, Any] | Config | None) -> None:
    """See `cm_platform.reload`."""
    global _config
    with _guard:
        config = read_config(source)
        for platform in (_platform, _async_platform):
            if platform is not None:
                platform.reload(config)
        _config = config


def service(kind: str, tenant: Tenant) -> Any:
    """See `cm_platform.get_service`."""
    global _platform
    with _guard:
        if _platform is None:
            _platform = Platform(_configured(), **_options)
            # The very dictionary that the platform fills, so that a hit never comes here.
            cm_platform._services = _platform._services
        return _platform.get_service(kind, tenant)  # type: ignore[call-overload]


def async_service(kind: str, tenant: Tenant) -> Any:
    """See `cm_platform.get_async_service`."""
    global _async_platform
    with _guard:
        if _async_platform is None:
            _async_platform = AsyncPlatform(_configured(), **_options)
            cm_platform._async_services = _async_platform._services
        return _async_platform.get_service(kind, tenant)  # type: ignore[call-overload]


class State(NamedTuple):
    """What stands behind the two functions: None is not there yet."""

    config: Config | None
    platform: Platform | None
    async_platform: AsyncPlatform | None


def exchange(state: State) -> State:
    """Put other platforms in place; closes nothing. For `cm_platform.testing.override`."""
    global _config, _platform, _async_platform
    with _guard:
        before = State(_config, _platform, _async_platform)
        _config, _platform, _async_platform = state
        cm_platform._services = {} if _platform is None else _platform._services
        cm_platform._async_services = {} if _async_platform is None else _async_platform._services
    return before


def close() -> None:
    """See `cm_platform.close`."""
    global _platform
    with _guard:
        platform, _platform = _platform, None
        cm_platform._services = {}
    if platform is not None:
        platform.close()


async def aclose() -> None:
    """See `cm_platform.aclose`."""
    global _async_platform
    with _guard:
        platform, _async_platform = _async_platform, None
        cm_platform._async_services = {}
    if platform is not None:
        await platform.close()


def _configured() -> Config:
    global _config
    if _config is None:
        _config = read_config(None)
    return _config


def _reset() -> None:
    global _async_platform
    close()
    # Clients of an event loop are closed on it, by `aclose`; here they can only be let go, and
    # the warning about what was left open says so.
    _async_platform = None
    cm_platform._async_services = {}


def _after_fork() -> None:
    global _guard
    _guard = threading.RLock()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

__all__ = [
    "State",
    "aclose",
    "async_service",
    "close",
    "configure",
    "exchange",
    "reload",
    "service",
]
