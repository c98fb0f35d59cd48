"""The one path of every call: route, capability, deadline, attempt, recovery.

Two doors. `run` is for one reply; `stream` for replies that outlive the call. The first attempt
goes straight to the backend; breaker, retries and the resolution of doubt exist on the failure
path only.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from .errors import (
    DeadlineExceededError,
    InternalError,
    PlatformError,
    UnavailableError,
    UnsupportedError,
)
from .operation import Capability, Operation, Resolve
from .recovery import Recovery
from .resilience import CircuitBreaker, RetryBudget, RetryPolicy
from .routing import OutdatedRouteError
from .runtime import Runtime
from .stream import Reply, Stream
from .telemetry import observed, observing

T = TypeVar("T")
R = TypeVar("R", bound=Reply)

logger = logging.getLogger("cm_platform.executor")


class Endpoint:
    """An opened backend and what guards it; shared by all tenants with the same configuration.

    name: the backend's name in the configuration.
    budget: of retries; one of its own unless given.
    """

    __slots__ = (
        "__weakref__",
        "backend",
        "breaker",
        "budget",
        "closed",
        "loop",
        "name",
        "outdated",
        "policy",
        "runtime",
        "timeout",
        "translate",
    )

    def __init__(
        self,
        name: str,
        backend: Any,
        runtime: Runtime,
        *,
        policy: RetryPolicy,
        timeout: float,
        breaker: CircuitBreaker,
        budget: RetryBudget | None = None,
        loop: object = None,
    ) -> None:
        self.name = name
        self.backend = backend
        self.translate: Callable[[Exception], PlatformError | None] = backend.translate
        self.runtime = runtime
        self.policy = policy
        self.timeout = timeout
        self.breaker = breaker
        self.budget = budget or RetryBudget(runtime.clock)
        self.loop = loop
        self.closed = False
        """Whether no call may begin here any more; those under way go on."""
        self.outdated = False
        """Whether the route that led here has turned out to be one of before."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the backend can do just now: one that moves changes with its stage."""
        found: frozenset[Capability] = self.backend.capabilities
        return found


class Endpoints(Protocol):
    """Where an executor learns who serves its tenant now."""

    def current(self) -> Endpoint | None:
        """The endpoint of the tenant's current route, if it is known and open. Fast."""
        ...

    async def refresh(self) -> Endpoint:
        """Find the route and open its backend."""
        ...


class Executor:
    """Runs the operations of one service of one tenant."""

    __slots__ = ("_endpoints", "_labels", "service", "timeout")

    def __init__(
        self,
        service: str,
        endpoints: Endpoints,
        *,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.service = service
        self._endpoints = endpoints
        self._labels = labels
        self.timeout = timeout
        """Seconds for a whole operation, retries included; None: the endpoint's."""

    def with_timeout(self, seconds: float) -> Executor:
        """The same path with another deadline."""
        return Executor(
            self.service,
            self._endpoints,
            labels=self._labels,
            timeout=seconds,
        )

    async def endpoint(self) -> Endpoint:
        """Who serves the tenant now."""
        return self._endpoints.current() or await self._endpoints.refresh()

    def run(
        self,
        operation: Operation,
        call: Callable[[Any], Awaitable[T]],
        *,
        requires: Capability | None = None,
        resolve: Resolve | None = None,
        endpoint: Endpoint | None = None,
    ) -> Coroutine[Any, Any, T]:
        """Make one call that ends with its reply.

        call: given the backend, makes the request. May be called several times.
        requires: a capability that these arguments need, beyond the operation's own.
        resolve: given the backend, finds out what became of a write that was not answered:
            the lost reply, `NOT_LANDED` or `UNKNOWN`.
        endpoint: stay with this one, whatever the route says by now (the parts of an upload).

        Raises what the backend's `translate` says; `unsupported` before the network is touched;
        `ambiguous` for a write in doubt.
        """
        # Not a coroutine itself: one more on the way of every call costs as much as all that is
        # decided here.
        if endpoint is None or observing():
            return self._observed(operation, call, endpoint, requires, resolve)
        return self._run(operation, call, endpoint, requires, resolve, None)

    async def _observed(
        self,
        operation: Operation,
        call: Callable[[Any], Awaitable[T]],
        endpoint: Endpoint | None,
        requires: Capability | None,
        resolve: Resolve | None,
    ) -> T:
        endpoint = endpoint or await self.endpoint()
        if not observing():
            return await self._run(operation, call, endpoint, requires, resolve, None)
        with observed(operation, endpoint.name, self._labels, endpoint.runtime.clock) as details:
            return await self._run(operation, call, endpoint, requires, resolve, details)

    @contextmanager
    def span(self, operation: Operation, endpoint: Endpoint) -> Generator[None, None, None]:
        """One span and one measurement around an operation that takes several requests."""
        if not observing():
            yield
            return
        with observed(operation, endpoint.name, self._labels, endpoint.runtime.clock):
            yield

    def check(self, operation: Operation, capability: Capability, endpoint: Endpoint) -> None:
        """Raise `unsupported` when the endpoint lacks the capability."""
        if capability not in endpoint.capabilities:
            lacking = UnsupportedError(
                f"this backend, as configured, lacks the capability {str(capability)!r}",
                not_sent=True,
            )
            raise self.placed(lacking, operation, endpoint)

    async def _run(
        self,
        operation: Operation,
        call: Callable[[Any], Awaitable[T]],
        endpoint: Endpoint,
        requires: Capability | None,
        resolve: Resolve | None,
        details: dict[str, Any] | None,
        until: float | None = None,
    ) -> T:
        """until: the deadline of a call that was made before, by a route that was outdated."""
        if operation.requires is not None:
            self.check(operation, operation.requires, endpoint)
        if requires is not None:
            self.check(operation, requires, endpoint)
        runtime = endpoint.runtime
        deadline = until or runtime.clock.monotonic() + (self.timeout or endpoint.timeout)
        try:
            result = await self.attempt(operation, call, endpoint, deadline)
        except PlatformError as error:
            if not self._leads_on(error, operation, endpoint) or until is not None:
                recovery = Recovery(operation, call, endpoint, resolve, deadline, self)
                try:
                    return await recovery.after(error)
                finally:
                    if details is not None:
                        details["attempts"] = recovery.attempts
        else:
            endpoint.budget.deposit()
            return result
        endpoint = await self._endpoints.refresh()
        return await self._run(operation, call, endpoint, requires, resolve, details, deadline)

    def _leads_on(self, error: PlatformError, operation: Operation, endpoint: Endpoint) -> bool:
        """Whether a failure says that the tenant is served elsewhere by now, as the call may be."""
        if not isinstance(error, OutdatedRouteError) or not error.not_sent:
            return False
        # Whoever comes next finds the route out anew, whatever becomes of this call.
        endpoint.outdated = endpoint.closed = True
        return not operation.continues

    async def attempt(
        self,
        operation: Operation,
        call: Callable[[Any], Awaitable[T]],
        endpoint: Endpoint,
        deadline: float,
    ) -> T:
        """One try, its failure classified."""
        breaker = endpoint.breaker
        try:
            probe = breaker.check()
        except UnavailableError as refused:
            raise self.placed(refused, operation, endpoint) from None
        try:
            runtime = endpoint.runtime
            if runtime.is_async:
                async with runtime.timeout(deadline - runtime.clock.monotonic()):
                    result = await call(endpoint.backend)
            else:
                result = await call(endpoint.backend)
        except Exception as caught:  # noqa: BLE001 - whatever leaves a backend is classified
            error = self.classified(caught, operation, endpoint)
            self.judge(caught, error, endpoint, probe=probe)
            raise error from (caught if error is not caught else caught.__cause__)
        except BaseException:
            if probe:
                breaker.released()
            raise
        breaker.succeeded()
        return result

    def judge(
        self, caught: Exception, error: PlatformError, endpoint: Endpoint, *, probe: bool = False
    ) -> None:
        """Tell the breaker what a failed attempt says about the backend."""
        ours = endpoint.runtime.is_async and type(caught) is TimeoutError
        if ours and self.timeout is not None and self.timeout < endpoint.timeout:
            # Less patience than was configured says nothing about the backend's health.
            if probe:
                endpoint.breaker.released()
        else:
            endpoint.breaker.failed(error)

    def classified(
        self, caught: Exception, operation: Operation, endpoint: Endpoint
    ) -> PlatformError:
        """What the backend says of an exception, with the place where it happened."""
        error: PlatformError | None
        if isinstance(caught, PlatformError):
            error = caught
        elif type(caught) is TimeoutError:
            # The runtime's; asked first, because to a backend it is one OSError of many.
            error = DeadlineExceededError("no answer before the deadline", retryable=True)
        else:
            try:
                error = endpoint.translate(caught)
            except Exception:  # noqa: BLE001 - a defect of the backend must not hide the failure
                logger.warning("translate of %s failed", endpoint.name)
                error = None
            if error is None:
                error = InternalError(f"the backend raised {type(caught).__name__}")
        return self.placed(error, operation, endpoint)

    def placed(
        self, error: PlatformError, operation: Operation, endpoint: Endpoint
    ) -> PlatformError:
        """The error, completed with where it happened."""
        error.service = error.service or operation.service
        error.operation = error.operation or operation.name
        error.backend = error.backend or endpoint.name
        return error

    async def stream(
        self,
        operation: Operation,
        call: Callable[[Any], Awaitable[R]],
        *,
        requires: Capability | None = None,
        endpoint: Endpoint | None = None,
    ) -> Stream[R]:
        """Open a reply that outlives the call: a download, tokens as they come, a long poll.

        call: given the backend, opens it. May be called several times.
        requires, endpoint: as in `run`.

        The deadline covers the opening and each wait for more; not what the caller does between.
        """
        if endpoint is None:
            endpoint = await self.endpoint()
        reply = await self.run(operation, call, requires=requires, endpoint=endpoint)
        return Stream(self, operation, endpoint, reply)


__all__ = ["Endpoint", "Endpoints", "Executor"]
