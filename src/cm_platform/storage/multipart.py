"""Objects made of parts: planned by the store's limits, filled a few at a time, or aborted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from cm_platform import arguments
from cm_platform.errors import (
    AmbiguousError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    UnavailableError,
)
from cm_platform.executor import Endpoint, Executor

from . import operations
from .backend import Attributes, Part, StorageBackend, StorageLimits, Written
from .revision import Condition, landed

logger = logging.getLogger("cm_platform.storage")


def plan_part_size(size: int | None, wanted: int, limits: StorageLimits) -> int:
    """Bytes per part: as wanted, or as much more as a body of `size` bytes needs.

    `invalid_argument` for what the store's limits do not allow.
    """
    what = "part_size (bytes, on this backend)"
    wanted = arguments.whole(wanted, what, limits.min_part, limits.max_part)
    if size is None:
        return wanted
    needed = -(-size // limits.max_parts)
    if needed > limits.max_part:
        raise InvalidArgumentError(
            f"an object may have {limits.max_parts * limits.max_part} bytes on this backend"
        )
    return max(wanted, needed)


async def in_parts(
    executor: Executor,
    endpoint: Endpoint,
    key: str,
    attributes: Attributes,
    condition: Condition,
    revision: str,
    fill: Callable[[str], Coroutine[Any, Any, list[Part]]],
) -> Written:
    """Begin an upload, let `fill` store its parts, complete it; abort it when that fails."""
    upload_id: str = await executor.run(
        operations.CREATE_MULTIPART,
        lambda backend: backend.create_multipart(key, attributes),
        requires=condition.requires,
        endpoint=endpoint,
    )
    try:
        stored = await fill(upload_id)

        async def complete(backend: StorageBackend) -> Written:
            try:
                return await backend.complete_multipart(
                    key,
                    upload_id,
                    stored,
                    if_none_match=condition.if_none_match,
                    if_match=condition.if_match,
                )
            except Exception as error:
                failure = error if isinstance(error, PlatformError) else backend.translate(error)
                if isinstance(failure, NotFoundError):
                    # Not the object, which is about to be: the upload. An attempt that was
                    # refused, or not answered, may have completed it; the revision tells.
                    raise UnavailableError(
                        "the upload is not there any more: it was completed, or somebody aborted it"
                    ) from error
                if failure is None or failure is error:
                    raise
                raise failure from error

        return await executor.run(
            operations.COMPLETE_MULTIPART,
            complete,
            resolve=landed(key, revision),
            endpoint=endpoint,
        )
    except AmbiguousError:
        # It may still become the object: taking its parts away would decide that for the worse.
        raise
    except BaseException:
        await _abort(executor, endpoint, key, upload_id)
        raise


async def _abort(executor: Executor, endpoint: Endpoint, key: str, upload_id: str) -> None:
    try:
        await executor.run(
            operations.ABORT_MULTIPART,
            lambda backend: backend.abort_multipart(key, upload_id),
            endpoint=endpoint,
        )
    except PlatformError as error:
        # The first failure is the one to raise; the store's lifecycle rules remove the parts.
        logger.warning(
            "an upload that failed could not be aborted (%s); its parts stay until a lifecycle "
            "rule removes them",
            error.code,
        )


__all__ = ["in_parts", "plan_part_size"]
