"""Removing many objects: in batches, each accounted for by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cm_platform.errors import IntegrityError, PlatformError
from cm_platform.executor import Endpoint, Executor

from . import operations
from .backend import StorageLimits
from .writing import CONCURRENCY


async def remove_many(
    executor: Executor, endpoint: Endpoint, keys: Sequence[str]
) -> dict[str, PlatformError]:
    """Remove objects; the failures by key.

    A batch that fails as a whole is the failure of each of its keys; the others go on.
    """
    limits: StorageLimits = endpoint.backend.limits
    failed: dict[str, PlatformError] = {}

    async def remove(batch: Sequence[str]) -> None:
        failures: Mapping[str, PlatformError]
        try:
            failures = await executor.run(
                operations.DELETE_MANY,
                lambda backend: backend.delete_many(batch),
                endpoint=endpoint,
            )
        except PlatformError as error:
            failures = dict.fromkeys(batch, error)
        if not failures.keys() <= set(batch):
            raise IntegrityError("the store answered with keys that it was not asked for")
        for key, failure in failures.items():
            failed[key] = executor.placed(failure, operations.DELETE_MANY, endpoint)

    step = limits.max_delete_batch
    batches = (remove(keys[start : start + step]) for start in range(0, len(keys), step))
    await endpoint.runtime.gather(batches, limit=CONCURRENCY)
    return failed


__all__ = ["remove_many"]
