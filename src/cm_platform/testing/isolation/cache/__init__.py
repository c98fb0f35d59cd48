"""The isolation suite of the cache."""

from __future__ import annotations

from .crossing import CrossingIsolation
from .lying import LyingIsolation
from .mixing import MixingIsolation
from .naming import NamingIsolation
from .poisoning import PoisoningIsolation
from .properties import PropertyIsolation
from .reaching import ReachingIsolation
from .scene import IsolationHarness
from .tenants import TenantIsolation


class CacheIsolation(
    ReachingIsolation,
    NamingIsolation,
    CrossingIsolation,
    TenantIsolation,
    LyingIsolation,
    MixingIsolation,
    PoisoningIsolation,
    PropertyIsolation,
):
    """All of it, over both faces and two layouts. See `IsolationHarness` for what you give.

    After each attack the victims' values are as they were, byte by byte; no name outside of the
    attacker's partition was told to the backend; nothing of a victim was in a value, an error
    or a log.
    """


__all__ = [
    "CacheIsolation",
    "CrossingIsolation",
    "IsolationHarness",
    "LyingIsolation",
    "MixingIsolation",
    "NamingIsolation",
    "PoisoningIsolation",
    "PropertyIsolation",
    "ReachingIsolation",
    "TenantIsolation",
]
