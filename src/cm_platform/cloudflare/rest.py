"""The client of Cloudflare's REST API: the `cloudflare` SDK, held to its token's rate.

For provisioning, bulk and whatever is rare: 1,200 requests in 5 minutes for one token are 4 a
second, for all tenants together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import httpx

from cm_platform.errors import PlatformError
from cm_platform.limits import limits
from cm_platform.registry import missing_sdk
from cm_platform.runtime import Runtime, settle

from .limiter import Limiter
from .quiet import quiet_sdk
from .refusal import error_of_sdk
from .settings import RestSettings
from .throttled import AsyncThrottled, Throttled
from .trust import ssl_context

if TYPE_CHECKING:
    from cloudflare import AsyncCloudflare, Cloudflare

T = TypeVar("T")

Client: TypeAlias = "Cloudflare | AsyncCloudflare"


class Rest:
    """One API token on one account. Makes one attempt each: retries are the executor's.

    limiter: of the token; `open` finds it.
    """

    def __init__(self, settings: RestSettings, runtime: Runtime, limiter: Limiter) -> None:
        self._settings = settings
        self._runtime = runtime
        self._context = ssl_context(settings.ca_file)
        self._client: Any = None
        self.account_id = settings.account_id
        self.limiter = limiter

    @classmethod
    def open(cls, settings: RestSettings, runtime: Runtime) -> Rest:
        """A client under a runtime. No network I/O; the SDK is imported on first use, because
        that takes half a second and 40 MB."""
        rate = limits("cloudflare", "rest")
        limiter = Limiter.of_token(
            settings.api_token.get_secret_value(),
            runtime,
            max_requests=rate["max_requests"],
            period=rate["period"],
            # To connect, to send, and to wait for the answer's head.
            in_flight=settings.connect_timeout + 2 * settings.read_timeout,
            directory=settings.limiter_directory,
        )
        return cls(settings, runtime, limiter)

    async def call(
        self, request: Callable[[Any], Awaitable[T] | T], *, deadline: float | None = None
    ) -> T:
        """Let the SDK make a request, and wait for its reply.

        request: given the SDK's client of this face, calls one of its methods.
        deadline: on the runtime's clock; a turn that would come later is not waited for. None:
            the setting `limiter_wait`.

        Raises `rate_limited` (not sent, with `retry_after`) for a turn that would come too late,
        and for the API's own 429; for other refusals what their status means: `not_found`,
        `unauthenticated`, `permission_denied`, `already_exists`, `invalid_argument`,
        `config_invalid`, `unavailable`; `deadline_exceeded` for silence.
        """
        client = await self.native()
        if deadline is not None:
            left = max(deadline - self._runtime.clock.monotonic(), 0.0)
            wait = min(left, self._settings.limiter_wait)
            # A copy reads the environment once more.
            client = _token_only(client.with_options(timeout=self._timeouts(wait)))
        try:
            return await settle(request(client))
        except Exception as error:
            known = error_of_sdk(error, self._runtime.clock.wall())
            if known is None or known is error:
                raise
            # Our own refusal, out of the limiter, says all there is.
            raise known from (None if isinstance(error.__cause__, PlatformError) else error)

    async def native(self) -> Any:
        """The SDK's client of this face, limited like everything here; `close` closes it."""
        if self._client is None:
            sdk = await self._runtime.call(_imported)
            # Another task may have been here while this one waited.
            if self._client is None:
                self._client = self._new_client(sdk)
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await settle(client.close())

    def _timeouts(self, wait: float) -> httpx.Timeout:
        settings = self._settings
        return httpx.Timeout(
            settings.read_timeout, connect=settings.connect_timeout, pool=max(wait, 1e-3)
        )

    def _new_client(self, sdk: Any) -> Client:
        settings = self._settings
        how: dict[str, Any] = {
            "verify": self._context,
            "trust_env": False,
            "limits": httpx.Limits(
                max_connections=settings.pool_size,
                max_keepalive_connections=settings.pool_size,
                keepalive_expiry=60.0,
            ),
            "proxy": settings.proxy.get_secret_value() if settings.proxy is not None else None,
            "retries": 0,
        }
        timeouts = self._timeouts(settings.limiter_wait)
        http: httpx.Client | httpx.AsyncClient
        if self._runtime.is_async:
            kind = sdk.AsyncCloudflare
            transport = AsyncThrottled(self.limiter, httpx.AsyncHTTPTransport(**how))
            http = httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeouts)
        else:
            kind = sdk.Cloudflare
            http = httpx.Client(
                transport=Throttled(self.limiter, httpx.HTTPTransport(**how)),
                trust_env=False,
                timeout=timeouts,
            )
        client: Client = _token_only(
            kind(
                api_token=settings.api_token.get_secret_value(),
                base_url=settings.base_url,
                max_retries=0,
                timeout=timeouts,
                http_client=http,
            )
        )
        quiet_sdk()
        return client


def _token_only(client: Any) -> Any:
    # From the environment, where they would take precedence over the token.
    client.api_key = client.api_email = client.user_service_key = None
    return client


def _imported() -> Any:
    try:
        import cloudflare
    except ImportError as error:
        raise missing_sdk("cloudflare.rest", "cloudflare", error) from error
    return cloudflare


__all__ = ["Rest"]
