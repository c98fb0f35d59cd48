"""What the operating system's errors mean to a caller."""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Final, Self

from cm_platform.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    QuotaExceededError,
    UnavailableError,
)

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_BUSY: Final = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.ENOLCK,
    errno.ESTALE,
    errno.ENOENT,  # What may be missing is handled where it is; this is the store itself.
}


def classify(error: Exception) -> PlatformError | None:
    """An OSError as a PlatformError; None for what is not one.

    Without the path, which holds a key. Never `not_sent`: whether a write failed before or after
    its commit cannot be told here, but where it is made (`Effect`).
    """
    if not isinstance(error, OSError):
        return None
    reason = os.strerror(error.errno) if error.errno is not None else type(error).__name__
    if error.errno in _FULL:
        return QuotaExceededError(f"the store's volume takes no more: {reason}")
    if error.errno in _DENIED:
        return PermissionDeniedError(f"the store's files cannot be used: {reason}")
    if error.errno in _BUSY:
        return UnavailableError(f"the store cannot serve now: {reason}", retryable=True)
    if error.errno == errno.ETIMEDOUT:
        return DeadlineExceededError(f"the store did not answer: {reason}", retryable=True)
    if error.errno == errno.ENAMETOOLONG:
        return InvalidArgumentError(
            "this key is too long for the store's file system; shorten it, or move the store "
            "to a shorter path"
        )
    return InternalError(f"the operating system refused: {reason}")


class Effect:
    """A block that makes a write: what fails in it tells whether the write may have happened.

    possible: set from the moment on at which it may have. Before that, what is raised is
    `not_sent`. After it, the system's errors become `unavailable`, whatever their reason: so the
    caller finds out what became of the write, instead of taking it for refused.
    """

    __slots__ = ("possible",)

    def __init__(self) -> None:
        self.possible = False

    def __enter__(self) -> Self:
        """The block begins; nothing has happened."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Complete what was raised."""
        if isinstance(exc, PlatformError):
            exc.not_sent = exc.not_sent or not self.possible
        elif isinstance(exc, OSError) and (told := classify(exc)) is not None:
            if self.possible:
                told = UnavailableError(
                    f"the write was made, but perhaps not for good: {told.message}",
                    retryable=True,
                )
            else:
                told.not_sent = True
            raise told from exc


__all__ = ["Effect", "classify"]
