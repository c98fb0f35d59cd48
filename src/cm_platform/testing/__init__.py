"""For tests of backends, and of applications: conformance suites, `override`, and servers.

    from cm_platform.testing import CacheConformance, CacheIsolation, override
    from cm_platform.testing import StorageConformance, StorageIsolation

Needs the extra `testing`. Names are loaded on first use: importing this package imports neither
pytest nor Hypothesis.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cache import CacheConformance
    from .isolation.cache import CacheIsolation
    from .isolation.storage import StorageIsolation
    from .ledger import LedgerConformance
    from .overriding import override
    from .storage import StorageConformance

_HOMES = {
    "CacheConformance": "cache",
    "CacheIsolation": "isolation.cache",
    "LedgerConformance": "ledger",
    "StorageConformance": "storage",
    "StorageIsolation": "isolation.storage",
    "override": "overriding",
}
_SUITES = ("cache", "isolation", "ledger", "storage")


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOMES[name]}"
    if _HOMES[name].partition(".")[0] in _SUITES and home not in sys.modules:
        import pytest

        # Failing assertions of the suites then show their values, as a test's own do.
        suites = (f"{__name__}.{suite}" for suite in _SUITES)
        pytest.register_assert_rewrite(*(suite for suite in suites if suite not in sys.modules))
    return getattr(import_module(home), name)


__all__ = [
    "CacheConformance",
    "CacheIsolation",
    "LedgerConformance",
    "StorageConformance",
    "StorageIsolation",
    "override",
]
