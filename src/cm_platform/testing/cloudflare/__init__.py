"""A local Cloudflare for tests and for development: the shipped gateway in workerd, and REST.

    from cm_platform.testing.cloudflare import LocalCloudflare

    with LocalCloudflare() as cloudflare:
        ...                                # cloudflare.gateway_url, cloudflare.rest_url, ...
        cloudflare.clock.advance(60)       # KV's other locations have heard of it now

It refuses what production refuses, and its KV is as stale as production's may be. Names are loaded
on first use: importing this package starts nothing and imports no pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clock import VirtualClock
    from .configuration import RestCap
    from .fixtures import local_cloudflare
    from .local import LocalCloudflare, RestCounts

_HOMES = {
    "LocalCloudflare": "local",
    "RestCap": "configuration",
    "RestCounts": "local",
    "VirtualClock": "clock",
    "local_cloudflare": "fixtures",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ["LocalCloudflare", "RestCap", "RestCounts", "VirtualClock", "local_cloudflare"]
