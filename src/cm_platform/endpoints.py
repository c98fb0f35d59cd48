"""Who serves one tenant now: its route, and what was opened for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from .errors import DeadlineExceededError
from .executor import Endpoint
from .opening import Opener
from .routing import OutdatedRouteError, Route, RouteTable


class TenantEndpoints:
    """Finds the endpoint of one tenant's current route: what the executor asks each time."""

    __slots__ = (
        "_held",
        "_is_async",
        "_kind",
        "_opener",
        "_running_loop",
        "_table",
        "_tenant_id",
    )

    def __init__(
        self, kind: str, tenant_id: str, table: RouteTable, opener: Opener, *, is_async: bool
    ) -> None:
        self._kind = kind
        self._tenant_id = tenant_id
        self._table = table
        self._opener = opener
        self._is_async = is_async
        # Weakly: what a table has let go of must not live on in every handle of its tenant.
        self._held: tuple[Route, weakref.ref[Endpoint]] | None = None
        if is_async:
            # Looked up once: an import statement on each call would cost more than the call.
            from asyncio import get_running_loop

            self._running_loop: Callable[[], object] = get_running_loop

    def current(self) -> Endpoint | None:
        """The endpoint, if its route is fresh and it is open on this loop."""
        held = self._held
        if held is None:
            return None
        route, held_endpoint = held
        endpoint = held_endpoint()
        if endpoint is None or endpoint.closed or self._table.cached(self._tenant_id) is not route:
            return None
        if self._is_async and endpoint.loop is not self._running_loop():
            return None
        return endpoint

    async def refresh(self) -> Endpoint:
        """Find the route, which may ask a flag service, and open its backend.

        Once more where the route turns out to be one of before.
        """
        if self._held is not None:
            endpoint = self._held[1]()
            if endpoint is not None and endpoint.outdated:
                self._table.invalidate(self._tenant_id)
        try:
            return await self._opened()
        except OutdatedRouteError:
            self._table.invalidate(self._tenant_id)
            return await self._opened()

    async def _opened(self) -> Endpoint:
        route = await self._route()
        endpoint = await self._opener.open(self._table.kind.name, route, self._tenant_id)
        self._held = (route, weakref.ref(endpoint))
        return endpoint

    async def _route(self) -> Route:
        route = self._table.cached(self._tenant_id)
        if route is not None:
            return route
        runtime = self._opener.session().runtime
        try:
            async with runtime.timeout(self._opener.timeout(self._kind)):
                return await runtime.call(self._table.refresh, self._tenant_id)
        except TimeoutError as error:
            raise DeadlineExceededError(
                "the flag service did not say in time where this tenant is",
                service=self._kind,
                retryable=True,
                not_sent=True,
            ) from error


__all__ = ["TenantEndpoints"]
