"""What an HTTP answer of Cloudflare's, or its silence, means in our terms.

Messages are ours: an answer's text may quote what was sent.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

import httpx

from cm_platform.errors import (
    ConfigInvalidError,
    DeadlineExceededError,
    InternalError,
    PlatformError,
    UnavailableError,
)


class Trouble(Enum):
    """Why there was no answer."""

    UNREACHABLE = "unreachable"
    """No connection was made, so nothing was sent."""
    BAD_CERTIFICATE = "bad certificate"
    """The server's certificate was not accepted, so nothing was sent."""
    BUSY = "busy"
    """All connections of this process were in use, so nothing was sent."""
    SILENT = "silent"
    """Nothing came in time."""
    CUT = "cut"
    """The connection ended before the answer did."""
    UNCLEAR = "unclear"
    """An answer that is no HTTP, or a request that httpx cannot send."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who did not answer, and where its address stands in the settings.

    name: for messages, such as "the gateway". setting: such as "url". address: host and port.
    """

    name: str
    setting: str
    address: str = ""

    @property
    def place(self) -> str:
        """Who, and where."""
        return f"{self.name} at {self.address}" if self.address else self.name


GATEWAY: Final = Peer("the gateway", "url")
REST: Final = Peer("Cloudflare's API", "base_url")


def trouble_of(error: BaseException) -> Trouble | None:
    """Why httpx got no answer; None when it is not httpx that failed."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        bad = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))
        return Trouble.BAD_CERTIFICATE if bad else Trouble.UNREACHABLE
    if isinstance(error, httpx.PoolTimeout):
        return Trouble.BUSY
    if isinstance(error, httpx.TimeoutException):
        return Trouble.SILENT
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return Trouble.CUT
    if isinstance(error, httpx.HTTPError | httpx.StreamError):
        return Trouble.UNCLEAR
    return None


def error_of_trouble(trouble: Trouble, peer: Peer) -> PlatformError:
    """The error for a request without an answer."""
    if trouble is Trouble.UNREACHABLE:
        return UnavailableError(
            f"no connection to {peer.place} could be made", retryable=True, not_sent=True
        )
    if trouble is Trouble.BAD_CERTIFICATE:
        return ConfigInvalidError(
            f"the certificate of {peer.name} is not trusted: check `{peer.setting}`, set "
            "`ca_file` to the PEM file of the authority that signed it, and look at this "
            "machine's clock",
            not_sent=True,
        )
    if trouble is Trouble.BUSY:
        return UnavailableError(
            f"all connections to {peer.name} are in use: raise `pool_size`",
            retryable=True,
            not_sent=True,
        )
    if trouble is Trouble.SILENT:
        return DeadlineExceededError(f"{peer.name} did not answer in time", retryable=True)
    if trouble is Trouble.CUT:
        return UnavailableError(
            f"the connection to {peer.name} was lost before the answer was complete",
            retryable=True,
        )
    return InternalError(f"the answer of {peer.name} could not be understood")


def retry_after_of(headers: httpx.Headers, now: float) -> float | None:
    """Seconds that the answer asks us to wait, if it does.

    now: Unix seconds, for a header that is a date.
    """
    text = headers.get("retry-after", "").strip()
    if not text.isascii() or len(text) > 64:
        return None
    if text.isdecimal():
        return min(float(text), _MAX_WAIT)
    when = date_of(text)
    return None if when is None else min(max(when - now, 0.0), _MAX_WAIT)


def date_of(text: str) -> float | None:
    """An HTTP date in Unix seconds."""
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return _aware(found).timestamp()


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _causes(error: BaseException) -> Iterator[BaseException]:
    # httpx raises its errors from httpcore's, and those from the socket's or ssl's.
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


# A day: nobody means more, and a date in the far future must not stop a process for good.
_MAX_WAIT: Final = 86_400.0

__all__ = [
    "GATEWAY",
    "REST",
    "Peer",
    "Trouble",
    "date_of",
    "error_of_trouble",
    "retry_after_of",
    "trouble_of",
]
