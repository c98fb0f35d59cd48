"""What it means when the gateway refuses a batch as a whole."""

from __future__ import annotations

from typing import Any, Final

import httpx
import orjson

from cm_platform.errors import (
    ConfigInvalidError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
)

from .errors import date_of, retry_after_of
from .outcome import said

# Seconds that the clocks of client and gateway may differ.
MAX_SKEW: Final = 60.0

_MAX_JSON: Final = 65_536


def error_of_answer(status: int, headers: httpx.Headers, body: bytes, now: float) -> PlatformError:
    """The error for an answer that is not 200. now: Unix seconds."""
    if status == 401:
        return UnauthenticatedError(_why_unauthenticated(headers, now), not_sent=True)
    if status in (400, 413, 414, 431):
        return InvalidArgumentError(_told(body) or _TOO_MUCH, not_sent=True)
    if status == 403:
        return PermissionDeniedError(
            "something before the gateway refuses the request: look at the Worker's routes, "
            "firewall rules and access policies",
            not_sent=True,
        )
    if status == 429:
        return RateLimitedError(
            "the gateway asks us to slow down",
            retryable=True,
            not_sent=True,
            retry_after=retry_after_of(headers, now),
        )
    if status in (404, 405) or 300 <= status < 400:
        return ConfigInvalidError(
            _told(body) or "there is no gateway at `url`: deploy it, or put `url` right",
            not_sent=True,
        )
    if status >= 500:
        return UnavailableError(
            f"the gateway cannot serve now (HTTP {status})",
            retryable=True,
            retry_after=retry_after_of(headers, now),
        )
    return InternalError(f"the gateway gave an answer that is not known here (HTTP {status})")


_TOO_MUCH: Final = "the gateway refuses the batch: it is malformed there, or too large"


def _why_unauthenticated(headers: httpx.Headers, now: float) -> str:
    # The gateway has one message for all causes. This one we can see for ourselves.
    there = date_of(headers.get("date", ""))
    if there is not None and abs(there - now) > MAX_SKEW:
        return (
            f"the clock of this machine is {abs(there - now):.0f} s "
            f"{'behind' if there > now else 'ahead of'} the gateway's, which accepts "
            f"{MAX_SKEW:.0f} s"
        )
    return (
        "the gateway does not accept our signature: key_id and secret must stand in the Worker's "
        "GATEWAY_KEYS"
    )


def _told(body: bytes) -> str | None:
    """The message of a JSON error, if it is one."""
    if len(body) > _MAX_JSON:
        return None
    try:
        found: Any = orjson.loads(body)
        message: object = found["error"]["message"]
    except (ValueError, TypeError, LookupError):
        return None
    return said(message) if isinstance(message, str) else None


__all__ = ["MAX_SKEW", "error_of_answer"]
