"""A store, or a ledger, behind the breaker that all who ask it share.

A tenant's migration asks three: its source, its target, the ledger. What one of them does says
nothing of the others, and what it does to one tenant it does to all. So each has one breaker, the
same for every tenant, moving or not; the executor's own, for what moves, never opens.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from cm_platform.errors import DeadlineExceededError, InternalError, PlatformError
from cm_platform.resilience import CircuitBreaker, NotAskedError
from cm_platform.runtime import Clock

_ALWAYS: Final = frozenset({"close", "ping", "prepare"})
"""What must reach it whatever the breaker says."""


class Guarded:
    """The same object, but for the breaker before and after each of its coroutines. What it
    was given when it was made (capabilities, limits) does not change any more.

    name: of the backend, for errors. patience: seconds; a call that was cancelled after so many
    was not answered, one that was cancelled sooner says nothing: its caller gave up.

    A refusal is a `NotAskedError`. What a reply does that outlives its call is not seen.
    """

    def __init__(
        self, inner: Any, breaker: CircuitBreaker, clock: Clock, *, name: str, patience: float
    ) -> None:
        self._inner = inner
        self._breaker = breaker
        self._now = clock.monotonic
        self._name = name
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if inspect.iscoroutinefunction(found):
            if name in _ALWAYS:
                return found
            found = partial(self._asked, found)
        elif isinstance(inspect.getattr_static(self._inner, name, None), property):
            # It may say something else the next time.
            return found
        # Looked up once: the next time it is an attribute like any other.
        setattr(self, name, found)
        return found

    async def _asked(self, call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        breaker = self._breaker
        try:
            probe = breaker.check()
        except NotAskedError as refused:
            refused.backend = self._name
            raise
        began = self._now()
        try:
            answer = await call(*args, **kwargs)
        except Exception as error:
            found = self._classified(error)
            breaker.failed(found or InternalError(type(error).__name__))
            if found is None or found is error or isinstance(error, TimeoutError):
                raise
            # Classified once: to say it without a secret, some backends take an error apart.
            raise found from error
        except BaseException:
            if self._now() - began >= self._patience:
                breaker.failed(DeadlineExceededError("cancelled"))
            elif probe:
                breaker.released()
            raise
        breaker.succeeded()
        return answer

    def _classified(self, error: Exception) -> PlatformError | None:
        """What the backend says of it; None for what only its caller understands."""
        if isinstance(error, PlatformError):
            return error
        if type(error) is TimeoutError:
            return DeadlineExceededError("no answer in time", retryable=True)
        # A ledger has none, and says by exceptions, too, that a stage has changed.
        translate: Callable[[Exception], PlatformError | None] | None
        translate = getattr(self._inner, "translate", None)
        return translate(error) if translate is not None else None


class Unbroken(CircuitBreaker):
    """The executor's breaker before a migration: what it asks has breakers of its own."""

    def failed(self, error: PlatformError) -> None:
        """Whose failure it is, is not known here."""


__all__ = ["Guarded", "Unbroken"]
