"""A ledger as routes need it: one question, asked from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cm_platform.errors import PlatformError, UnavailableError
from cm_platform.routing import Route
from cm_platform.runtime import drive

from .ledger import Ledger, Subject, home_of

Opened = Callable[[], Ledger]
"""Opens a ledger under a blocking runtime."""

Resting = Callable[[str, str, str], Route]
"""The route of a tenant whose data is on one backend alone; given the kind, the backend, and the
migration that brought it there or may take it away."""


class LedgerWhereabouts:
    """Answers where a tenant's data is. Opens its ledger when it is first asked.

    A route table is refreshed in whatever thread comes; so the ledger has a runtime of its own,
    and is not one of those that belong to an event loop.
    """

    def __init__(self, opened: Opened, resting: Resting) -> None:
        self._open = opened
        self._resting = resting
        self._guard = threading.Lock()
        self._ledger: Ledger | None = None
        self._closed = False

    def authority(self, kind: str, tenant_id: str) -> str | None:
        """See `Whereabouts.authority`."""
        try:
            state = drive(self._opened().state(Subject(kind, tenant_id)))
        except PlatformError:
            raise
        except Exception as error:
            raise UnavailableError(
                f"the ledger could not be asked: {type(error).__name__}", retryable=True
            ) from error
        if state is None:
            return None
        if (home := home_of(state)) is not None:
            return str(self._resting(kind, home, state.terms.migration))
        return f"{state.terms.migration}:{state.stage}"

    def _opened(self) -> Ledger:
        with self._guard:
            if self._closed:
                raise UnavailableError("the platform was closed", not_sent=True)
            if self._ledger is None:
                self._ledger = self._open()
            return self._ledger

    def close(self) -> None:
        """Let go of the ledger."""
        with self._guard:
            self._closed = True
            ledger, self._ledger = self._ledger, None
        if ledger is not None:
            drive(ledger.close())

    def after_fork(self) -> None:
        """In the child: the parent's connections are left alone, its own are opened when needed."""
        self._guard = threading.Lock()
        self._inherited, self._ledger = self._ledger, None


__all__ = ["LedgerWhereabouts"]
