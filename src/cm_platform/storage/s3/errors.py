"""What an S3 service's refusal, or its silence, means in our terms.

Messages are ours. S3's own carry key ids, signatures and what was signed; a code is all that is
taken from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from cm_platform.errors import (
    AlreadyExistsError,
    ConfigInvalidError,
    DeadlineExceededError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
    PreconditionFailedError,
    QuotaExceededError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)


class Trouble(Enum):
    """Why there was no answer."""

    UNREACHABLE = "unreachable"
    """No connection was made, so nothing was sent."""
    BAD_CERTIFICATE = "bad certificate"
    """The server's certificate was not accepted, so nothing was sent."""
    SILENT = "silent"
    """Nothing came in time."""
    CUT = "cut"
    """The connection ended before the answer did."""
    NO_CREDENTIALS = "no credentials"
    BAD_SETTING = "bad setting"
    BAD_PARAMETER = "bad parameter"
    UNCLEAR = "unclear"
    """An answer that is none, or something that the SDK could not do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A failed request. Either `trouble`, or a status (HTTP) with S3's code, if it gave one.

    condition: the header that did not hold, where S3 names it.
    """

    trouble: Trouble | None = None
    status: int = 0
    code: str = ""
    retry_after: float | None = None
    condition: str = ""

    def __str__(self) -> str:
        if self.trouble is not None:
            return self.trouble.value
        return f"HTTP {self.status}{' ' if self.code else ''}{self.code}"


def error_of(fault: Fault, bucket: str) -> PlatformError:
    """The error for a fault, whatever was asked."""
    if fault.trouble is not None:
        return _no_answer(fault.trouble)
    code, status = fault.code, fault.status
    if code in _UNKNOWN_BUCKET:
        return ConfigInvalidError(f"the bucket {bucket!r} does not exist at this endpoint")
    if code in _ELSEWHERE or status in (301, 307, 308):
        return ConfigInvalidError(
            f"the bucket {bucket!r} is in another region: set `region` to the bucket's"
        )
    if code == "NoSuchUpload":
        return NotFoundError("the upload is unknown, was completed or was aborted")
    if code in _UNAUTHENTICATED or status == 401:
        return UnauthenticatedError(_why_unauthenticated(code))
    if code in _TOO_FAST or status == 429:
        return RateLimitedError(
            "the store asks us to slow down",
            retryable=True,
            not_sent=True,
            retry_after=fault.retry_after,
        )
    if code in _DAMAGED:
        return IntegrityError("the body was damaged on its way", retryable=True, not_sent=True)
    if code in _FULL or status == 507:
        return QuotaExceededError("the store has no room left for this account or bucket")
    if code == "RequestTimeout" or status == 408:
        return UnavailableError(
            "the store stopped waiting for the request", retryable=True, not_sent=True
        )
    if code in _BAD_ARGUMENT:
        return InvalidArgumentError(_BAD_ARGUMENT[code])
    return _by_status(fault)


def unmet(fault: Fault, *, creating: bool) -> PlatformError | None:
    """The error of a condition that did not hold; None when that is not what went wrong.

    creating: the condition was that nothing is there; else that a certain version is.
    """
    if fault.status == 412 or (fault.status == 304 and creating):
        if creating:
            return AlreadyExistsError("the key is taken")
        return PreconditionFailedError("the object has another version than `if_match`")
    # S3 answers a conditional write to nothing with 404; the key is all that can be missing then.
    if fault.status == 404 and not creating and fault.code in ("", "NoSuchKey"):
        return PreconditionFailedError("there is no object with the version `if_match`")
    return None


_UNKNOWN_BUCKET: Final = frozenset({"NoSuchBucket", "InvalidBucketName"})
_ELSEWHERE: Final = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)
_UNAUTHENTICATED: Final = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "RequestTimeTooSkewed",
        "RequestExpired",
        "InvalidSecurity",
        "Unauthorized",
        "MissingSecurityHeader",
    }
)
_TOO_FAST: Final = frozenset(
    {"SlowDown", "TooManyRequests", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
)
_DAMAGED: Final = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"})
_FULL: Final = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"})
_BAD_ARGUMENT: Final = {
    "EntityTooLarge": "the body is larger than the store takes in one request",
    "EntityTooSmall": "a part is smaller than the store allows; only the last part may be",
    "InvalidPart": "a part is missing, or has another etag than was given",
    "InvalidPartOrder": "parts must be given in ascending order",
    "InvalidRange": "the range starts at or beyond the object's end",
    "KeyTooLongError": "the key is longer than the store takes",
    "MetadataTooLarge": "the metadata is larger than the store takes",
}


def _no_answer(trouble: Trouble) -> PlatformError:
    if trouble is Trouble.UNREACHABLE:
        return UnavailableError(
            "no connection to the store could be made", retryable=True, not_sent=True
        )
    if trouble is Trouble.BAD_CERTIFICATE:
        return ConfigInvalidError(
            "the certificate of the endpoint is not trusted: check `endpoint`, set `ca_file` to "
            "the PEM file of the authority that signed it, and look at this machine's clock",
            not_sent=True,
        )
    if trouble is Trouble.SILENT:
        return DeadlineExceededError("the store did not answer in time", retryable=True)
    if trouble is Trouble.CUT:
        return UnavailableError(
            "the connection to the store was lost before the answer was complete", retryable=True
        )
    if trouble is Trouble.NO_CREDENTIALS:
        return UnauthenticatedError(
            "no usable credentials: set access_key_id and secret_access_key, or a profile, or "
            "the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a role",
            not_sent=True,
        )
    if trouble is Trouble.BAD_SETTING:
        return ConfigInvalidError(
            "the SDK refuses the configuration: check endpoint, region, profile and ca_file"
        )
    if trouble is Trouble.BAD_PARAMETER:
        return InvalidArgumentError("the SDK refuses an argument of this call", not_sent=True)
    return InternalError("the store's answer could not be understood")


def _why_unauthenticated(code: str) -> str:
    if code == "RequestTimeTooSkewed":
        return "the clock of this machine differs too much from the store's"
    if code in ("ExpiredToken", "TokenRefreshRequired", "RequestExpired"):
        return "the credentials have expired"
    if code == "SignatureDoesNotMatch":
        return "the signature is wrong: check secret_access_key and region"
    return "the store does not accept these credentials"


def _by_status(fault: Fault) -> PlatformError:
    status = fault.status
    if status == 404:
        return NotFoundError("there is no object with this key")
    if status == 403:
        return PermissionDeniedError("the credentials do not allow this")
    if status == 409:
        return UnavailableError(
            "another write to this key was under way", retryable=True, not_sent=True
        )
    if status in (304, 412):
        return PreconditionFailedError("the object has another version than was demanded")
    if status == 416:
        return InvalidArgumentError(_BAD_ARGUMENT["InvalidRange"])
    if status in (405, 501) or fault.code == "NotImplemented":
        return UnsupportedError(
            "the store does not do this; name what it lacks in the backend's `lacks`"
        )
    if status >= 500:
        # S3's own 503 is a refusal. One without a code may come from a proxy in between, whose
        # other side may have done the work.
        return UnavailableError(
            f"the store cannot serve now ({fault})",
            retryable=True,
            not_sent=status == 503 and bool(fault.code),
            retry_after=fault.retry_after,
        )
    if status == 400 and fault.code:
        return InvalidArgumentError(f"the store refuses the request ({fault})")
    return InternalError(f"the store gave an answer that is not known here ({fault})")


__all__ = ["Fault", "Trouble", "error_of", "unmet"]
