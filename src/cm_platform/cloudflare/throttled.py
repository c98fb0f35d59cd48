"""The limiter as a transport of httpx: whatever the SDK sends, each page of a listing too, waits
for its turn. How long it may wait is the request's `pool` timeout."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx

from cm_platform.runtime import drive, settle

from .limiter import Limiter


class Throttled(httpx.BaseTransport):
    """On the blocking face."""

    def __init__(self, limiter: Limiter, transport: httpx.BaseTransport) -> None:
        self._limiter = limiter
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`; `rate_limited` when the wait is too long."""
        return drive(_sent(self._limiter, self._transport.handle_request, request))

    def close(self) -> None:
        """Close the transport below."""
        self._transport.close()


class AsyncThrottled(httpx.AsyncBaseTransport):
    """On the async face."""

    def __init__(self, limiter: Limiter, transport: httpx.AsyncBaseTransport) -> None:
        self._limiter = limiter
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`; `rate_limited` when the wait is too long."""
        return await _sent(self._limiter, self._transport.handle_async_request, request)

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._transport.aclose()


async def _sent(
    limiter: Limiter,
    send: Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]],
    request: httpx.Request,
) -> httpx.Response:
    patience: float | None = request.extensions.get("timeout", {}).get("pool")
    ticket = await limiter.admit(patience or 0.0)
    try:
        response = await settle(send(request))
    except BaseException:
        await limiter.ended(ticket)
        raise
    await limiter.ended(ticket, response.status_code, response.headers)
    return response


__all__ = ["AsyncThrottled", "Throttled"]
