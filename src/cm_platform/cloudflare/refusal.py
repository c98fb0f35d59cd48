"""What the `cloudflare` SDK's exceptions mean in our terms.

They quote the API's answer, which may quote what was sent, so an exception that was read loses
its text: a traceback would print it even where ours is what was raised.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any, Final

from cm_platform.errors import (
    AlreadyExistsError,
    ConfigInvalidError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
)

from .errors import REST, error_of_trouble, retry_after_of, trouble_of


def error_of_sdk(error: Exception, now: float) -> PlatformError | None:
    """The error for what a call of the SDK raised; None when it is nothing of the SDK's.

    now: Unix seconds.
    """
    if isinstance(error, PlatformError):
        return error
    # Whoever raised it has imported it: this module must not.
    sdk: Any = sys.modules.get("cloudflare")
    if sdk is None or not isinstance(error, sdk.CloudflareError):
        trouble = trouble_of(error)
        if trouble is not None:
            return error_of_trouble(trouble, REST)
        return _senseless() if _is_about_an_answer(error) else None
    if isinstance(error, sdk.APIStatusError):
        return _of_answer(error, now)
    error.args = (type(error).__name__,)
    cause = error.__cause__
    if isinstance(cause, PlatformError):
        return cause
    trouble = trouble_of(cause) if cause is not None else None
    if trouble is not None:
        return error_of_trouble(trouble, REST)
    return _senseless()


def _senseless() -> InternalError:
    return InternalError("the SDK could not make sense of the API's answer")


def _is_about_an_answer(error: Exception) -> bool:
    # An answer of another shape than was promised ends in whatever Python raises over it, an
    # AttributeError as a rule. Where it was raised tells it from a mistake of the caller's.
    return any(
        frame.f_globals.get("__name__") in _READERS
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


_READERS: Final = frozenset({"cloudflare._response", "cloudflare._legacy_response"})
_NO_NAMESPACE: Final = 10013
_UNROUTABLE: Final = frozenset({7000, 7003})
_BAD_TOKEN: Final = frozenset({6003, 9106, 9109, 10000, 10001})


def _of_answer(error: Any, now: float) -> PlatformError:
    status: int = error.status_code
    codes = _codes(error.body)
    told = f"HTTP {status}" + "".join(f", code {code}" for code in codes)
    error.args = (told,)
    error.message = told
    if status == 429:
        return RateLimitedError(
            "Cloudflare's API asks us to slow down",
            retryable=True,
            not_sent=True,
            retry_after=retry_after_of(error.response.headers, now),
        )
    if status >= 500 or status == 408:
        return UnavailableError(
            f"Cloudflare's API cannot serve now ({told})",
            retryable=True,
            retry_after=retry_after_of(error.response.headers, now),
        )
    if status == 401 or not _BAD_TOKEN.isdisjoint(codes):
        return UnauthenticatedError(
            f"Cloudflare's API does not accept `api_token` for this account ({told})",
            not_sent=True,
        )
    if status == 403:
        return PermissionDeniedError(
            f"the permissions of `api_token` do not allow this ({told})", not_sent=True
        )
    if _NO_NAMESPACE in codes:
        return ConfigInvalidError("the KV namespace does not exist in this account")
    if not _UNROUTABLE.isdisjoint(codes) or 300 <= status < 400:
        return ConfigInvalidError(
            f"Cloudflare's API knows nothing at this address: check account_id, base_url and the "
            f"ids of what is used there ({told})"
        )
    if status == 404:
        return NotFoundError(f"Cloudflare's API finds nothing there ({told})")
    if status == 409:
        return AlreadyExistsError(f"it exists already ({told})")
    if 400 <= status < 500:
        return InvalidArgumentError(f"Cloudflare's API refuses the request ({told})", not_sent=True)
    return InternalError(f"Cloudflare's API gave an answer that is not known here ({told})")


def _codes(body: object) -> list[int]:
    try:
        found: Any = body
        return [int(problem["code"]) for problem in found["errors"][:5]]
    except (TypeError, ValueError, LookupError):
        return []


__all__ = ["error_of_sdk"]
