"""What a refusal by Redis, or its silence, means in our terms.

Messages are ours. Redis' own may repeat a command's arguments, and with them a key or a value:
its error code is all that is taken from it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any, Final

from cm_platform.errors import (
    ConfigInvalidError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    PreconditionFailedError,
    QuotaExceededError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)

NOT_NOW: Final = frozenset(
    {"READONLY", "CLUSTERDOWN", "LOADING", "TRYAGAIN", "MASTERDOWN", "BUSY", "NOREPLICAS"}
)
"""Refusals that end by themselves. READONLY: a replica, which a master became by a failover."""

_CONFIGURATION: Final = {
    "MOVED": "this server is a node of a cluster: set cluster = true",
    "ASK": "this server is a node of a cluster: set cluster = true",
    "CROSSSLOT": "this server is a node of a cluster: set cluster = true",
}
_QUOTAS: Final = (
    # Upstash refuses by plan, in an ordinary error's words (its documentation, 2026-11).
    "max requests limit exceeded",
    "max daily request limit exceeded",
    "db capacity quota exceeded",
)
_TOO_LARGE: Final = (
    "max request size exceeded",
    "max single record size exceeded",
    "max key size exceeded",
    "invalid bulk length",
    "invalid multibulk length",
    "exceeds maximum allowed size",
)
_TOO_MANY_CLIENTS: Final = (
    "max number of clients reached",
    "max number of clients + cluster connections reached",
    "max concurrent connections exceeded",
)


def not_connected(error: Exception) -> PlatformError:
    """The error of a connection that could not be made; nothing was sent."""
    import redis.exceptions as sdk

    if isinstance(error, PlatformError):
        return error
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
        return ConfigInvalidError(
            "the certificate of the server is not trusted: check its host name, set `ca_file` to "
            "the PEM file of the authority that signed it, and look at this machine's clock",
            not_sent=True,
        )
    if isinstance(error, sdk.AuthenticationError | sdk.ResponseError | sdk.BusyLoadingError):
        refusal = refused(error)
        refusal.not_sent = True
        return refusal
    if (full := _too_many_clients(str(error))) is not None:
        return full
    return UnavailableError("no connection to Redis could be made", retryable=True, not_sent=True)


def sayable(error: Exception) -> Exception | None:
    """The exception as the cause of ours, unless its message may repeat an argument."""
    import redis.exceptions as sdk

    return None if isinstance(error, sdk.ResponseError) else error


def lost(error: BaseException) -> PlatformError:
    """The error of a request that was sent, in whole or in part, and not answered."""
    import redis.exceptions as sdk

    if isinstance(error, sdk.TimeoutError | TimeoutError):
        return DeadlineExceededError("Redis did not answer in time", retryable=True)
    if isinstance(error, sdk.ConnectionError) and (full := _too_many_clients(str(error))):
        return full
    return UnavailableError(
        "the connection to Redis was lost before the answer was complete", retryable=True
    )


def refused(reply: Exception) -> PlatformError:
    """The error that an error reply stands for. A new one each time."""
    import redis.exceptions as sdk

    text = str(reply)
    code = _code(reply, text)
    if code in NOT_NOW:
        return UnavailableError(f"Redis cannot serve now ({code})", retryable=True, not_sent=True)
    if isinstance(reply, sdk.AuthenticationError) or code in ("NOAUTH", "WRONGPASS"):
        return UnauthenticatedError(
            "Redis does not accept these credentials: check username and password", not_sent=True
        )
    if code == "NOPERM":
        return PermissionDeniedError("the user's rules (ACL) do not allow this", not_sent=True)
    if code == "OOM":
        return QuotaExceededError(
            "Redis is at its limit of memory, and its policy lets it evict nothing", not_sent=True
        )
    if code == "MISCONF":
        return UnavailableError("Redis cannot write to its disk (MISCONF)", not_sent=True)
    if "WRONGTYPE" in text:
        return PreconditionFailedError("what is kept under this key is no string", not_sent=True)
    if code in _CONFIGURATION:
        return ConfigInvalidError(_CONFIGURATION[code], not_sent=True)
    return _by_words(text.lower(), code)


def after_effect(error: PlatformError) -> PlatformError:
    """The same error, when what was asked for before it did take effect."""
    error.not_sent = False
    return error


def _code(reply: Exception, text: str) -> str:
    known: Any = getattr(reply, "status_code", None)
    if isinstance(known, str):
        return known
    first = text.partition(" ")[0]
    return first if first.isascii() and first.isalpha() and first.isupper() else "ERR"


def _by_words(text: str, code: str) -> PlatformError:
    if "would overflow" in text:
        return InvalidArgumentError(
            "the counter would leave the range of 64 bit integers", not_sent=True
        )
    if "not an integer" in text:
        return PreconditionFailedError("what is kept under this key is no counter", not_sent=True)
    if any(words in text for words in _QUOTAS):
        return QuotaExceededError(
            "the plan's requests, or its room for data, are used up", not_sent=True
        )
    if any(words in text for words in _TOO_LARGE):
        return InvalidArgumentError("the request is larger than the server takes", not_sent=True)
    if "max requests per second" in text:
        return RateLimitedError(
            "the plan's requests per second are used up", retryable=True, not_sent=True
        )
    if (full := _too_many_clients(text)) is not None:
        return full
    if "invalid expire time" in text:
        return InvalidArgumentError("the ttl is longer than Redis counts", not_sent=True)
    if "db index is out of range" in text or "select is not allowed" in text:
        return ConfigInvalidError("the server has no database of this number", not_sent=True)
    if "unknown command" in text:
        return UnsupportedError("the server does not know a command that this needs", not_sent=True)
    return InternalError(f"Redis gave an error that is not known here ({code})")


def _too_many_clients(text: str) -> PlatformError | None:
    if not any(words in text for words in _TOO_MANY_CLIENTS):
        return None
    return UnavailableError(
        "the server has no room for another connection: lower `pool_size`, or raise the "
        "server's limit of clients",
        retryable=True,
        not_sent=True,
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(10):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


__all__ = ["NOT_NOW", "after_effect", "lost", "not_connected", "refused", "sayable"]
