"""What the operating system's errors mean to a caller."""

from __future__ import annotations

import errno
import os
from typing import Final

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

    Without the path, which holds a key. Never `not_sent`: it cannot be told here whether a
    write failed before or after its commit.
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


__all__ = ["classify"]
