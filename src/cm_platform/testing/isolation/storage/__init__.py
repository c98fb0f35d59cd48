"""The isolation suite of storage."""

from __future__ import annotations

from .cursors import CursorIsolation
from .lying import LyingIsolation
from .presigned import PresignedIsolation
from .reaching import ReachingIsolation
from .tenants import TenantIsolation


class StorageIsolation(
    ReachingIsolation, CursorIsolation, PresignedIsolation, TenantIsolation, LyingIsolation
):
    """All of it, over both faces and three layouts. See `IsolationHarness` for what you give.

    After each attack the victims' objects are as they were, and nothing of them was in a value,
    an error or a log.
    """


__all__ = ["StorageIsolation"]
