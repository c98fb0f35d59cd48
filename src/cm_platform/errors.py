"""One hierarchy of errors with stable codes.

What happened (the class and its `code`) and whether a retry may help (`retryable`,
`not_sent`) are two questions, answered separately. A backend classifies what its SDK raised;
the executor completes the error with service, backend and operation, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, TypeAlias

ErrorCode: TypeAlias = Literal[
    "invalid_argument",
    "not_found",
    "already_exists",
    "precondition_failed",
    "permission_denied",
    "unauthenticated",
    "rate_limited",
    "quota_exceeded",
    "unavailable",
    "deadline_exceeded",
    "unsupported",
    "config_invalid",
    "integrity",
    "ambiguous",
    "internal",
]


class PlatformError(Exception):
    """Anything that goes wrong in cm_platform.

    message: for people; names the rule or the remedy, never a secret, a signature or a value.
    service, backend, operation: where it happened, such as "storage", "s3" and "put".
    retryable: the same call, made again later by the caller, may succeed.
    retry_after: seconds that the other side asked us to wait, if it did.
    not_sent: the request certainly had no effect (it was refused, or never left).
    """

    code: ClassVar[ErrorCode] = "internal"

    def __init__(
        self,
        message: str,
        *,
        service: str | None = None,
        backend: str | None = None,
        operation: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        not_sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.service = service
        self.backend = backend
        self.operation = operation
        self.retryable = retryable
        self.retry_after = retry_after
        self.not_sent = not_sent

    def __str__(self) -> str:
        where = ".".join(part for part in (self.service, self.operation) if part)
        if self.backend:
            where = f"{where} on {self.backend}" if where else self.backend
        return f"{where}: {self.message}" if where else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-ready data, for `--json` and structured logs."""
        return {
            "code": self.code,
            "message": self.message,
            "service": self.service,
            "backend": self.backend,
            "operation": self.operation,
            "retryable": self.retryable,
            "retry_after": self.retry_after,
        }


class InvalidArgumentError(PlatformError, ValueError):
    """The caller's argument breaks a rule; nothing was sent."""

    code = "invalid_argument"


class NotFoundError(PlatformError, LookupError):
    """The named thing does not exist."""

    code = "not_found"


class AlreadyExistsError(PlatformError, FileExistsError):
    """A create-only write met something that exists."""

    code = "already_exists"


class PreconditionFailedError(PlatformError):
    """The thing exists, in another version than the caller demanded."""

    code = "precondition_failed"


class PermissionDeniedError(PlatformError, PermissionError):
    """The credentials are known and do not allow this."""

    code = "permission_denied"


class UnauthenticatedError(PlatformError, PermissionError):
    """The credentials are missing, unknown, expired or wrong."""

    code = "unauthenticated"


class RateLimitedError(PlatformError):
    """The other side asked us to slow down; `retry_after` says for how long, if it did."""

    code = "rate_limited"


class QuotaExceededError(PlatformError):
    """A budget or a store is used up; waiting a moment does not help."""

    code = "quota_exceeded"


class UnavailableError(PlatformError, ConnectionError):
    """The other side could not be reached, or answered that it cannot serve now."""

    code = "unavailable"


class DeadlineExceededError(PlatformError, TimeoutError):
    """No answer in time. A write that ends so becomes `ambiguous`."""

    code = "deadline_exceeded"


class UnsupportedError(PlatformError, NotImplementedError):
    """The backend, as configured, lacks the capability; raised before the network is touched."""

    code = "unsupported"


class ConfigInvalidError(PlatformError, ValueError):
    """The configuration cannot be honoured; the message says which line and what is allowed.

    problems: each thing that is wrong, by itself; the message has them all.
    """

    code = "config_invalid"

    def __init__(self, message: str, *, problems: Iterable[str] = (), **where: Any) -> None:
        super().__init__(message, **where)
        self.problems = tuple(problems) or (message,)

    def to_dict(self) -> dict[str, Any]:
        """See `PlatformError`; with the problems."""
        return {**super().to_dict(), "problems": list(self.problems)}


class IntegrityError(PlatformError):
    """Data or a reply is not what it must be: a digest differs, a scope is missing."""

    code = "integrity"


class AmbiguousError(PlatformError):
    """A write may or may not have happened, and it could not be found out which."""

    code = "ambiguous"


class InternalError(PlatformError, RuntimeError):
    """A defect of ours, or a reply that the backend could not classify."""

    code = "internal"


__all__ = [
    "AlreadyExistsError",
    "AmbiguousError",
    "ConfigInvalidError",
    "DeadlineExceededError",
    "ErrorCode",
    "IntegrityError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "PermissionDeniedError",
    "PlatformError",
    "PreconditionFailedError",
    "QuotaExceededError",
    "RateLimitedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
]
