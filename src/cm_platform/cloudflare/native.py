"""The gateway's signature as httpx's `auth`, for an operator's own requests."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from urllib.parse import unquote

import httpx

from cm_platform.runtime import Clock

from .signature import RequestSigner


class Signing(httpx.Auth):
    """Signs whatever is sent, for the partition in the request's own header `cm-partition`."""

    requires_request_body = True

    def __init__(self, signer: RequestSigner, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        path, _, query = request.url.raw_path.partition(b"?")
        signed = self._signer.headers(
            request.method.encode(),
            path,
            query,
            hashlib.sha256(request.content).hexdigest(),
            unquote(request.headers.get("cm-partition", "")),
            now=self._clock.wall(),
        )
        for name, value in signed:
            request.headers[name.decode()] = value.decode()
        yield request


__all__ = ["Signing"]
