"""Copies within a store: described by a HEAD, pinned to its version, in parts where too large."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

from cm_platform.errors import IntegrityError
from cm_platform.executor import Endpoint, Executor

from . import operations
from .attributes import attributes_of
from .backend import (
    Attributes,
    ObjectInfo,
    Part,
    StorageBackend,
    StorageCapability,
    StorageLimits,
    Written,
)
from .multipart import in_parts, plan_part_size
from .revision import Condition, landed, new_revision, revised
from .writing import CONCURRENCY

_PART_SIZE: Final = 1024**3


async def copy_object(
    executor: Executor, endpoint: Endpoint, source: str, target: str, condition: Condition
) -> ObjectInfo:
    """Copy with all attributes and a revision of its own; the copy's description.

    The source is pinned by its etag: replaced meanwhile, it is `precondition_failed`.
    """
    if condition.if_none_match:
        executor.check(operations.COPY, StorageCapability.CONDITIONAL_COPY, endpoint)
    info: ObjectInfo = await executor.run(
        operations.HEAD, lambda backend: backend.head(source), endpoint=endpoint
    )
    if info.key != source:
        raise IntegrityError("the store described another object than the one to copy")
    limits: StorageLimits = endpoint.backend.limits
    revision = new_revision()
    carried = attributes_of(info)
    attributes = replace(carried, metadata=revised(carried.metadata, revision, None, limits))

    async def call(backend: StorageBackend) -> Written:
        return await backend.copy(
            source,
            target,
            attributes,
            etag=info.etag,
            if_none_match=condition.if_none_match,
        )

    if info.size > limits.max_copy:
        written = await copy_parts(
            executor, endpoint, info, target, attributes, condition, revision
        )
    else:
        written = await executor.run(
            operations.COPY, call, resolve=landed(target, revision), endpoint=endpoint
        )
    return replace(
        info,
        key=target,
        etag=written.etag,
        last_modified=written.last_modified,
        metadata=attributes.metadata,
    )


async def copy_parts(
    executor: Executor,
    endpoint: Endpoint,
    source: ObjectInfo,
    key: str,
    attributes: Attributes,
    condition: Condition,
    revision: str,
) -> Written:
    """Copy an object that is too large for one request; no bytes come through us."""
    limits: StorageLimits = endpoint.backend.limits
    size = plan_part_size(source.size, min(limits.max_part, limits.max_copy, _PART_SIZE), limits)

    def copy_part(upload_id: str, number: int, start: int) -> Coroutine[Any, Any, Part]:
        end = min(start + size, source.size)
        return executor.run(
            operations.COPY_PART,
            lambda backend: backend.copy_part(
                key, upload_id, number, source.key, start, end, source.etag
            ),
            endpoint=endpoint,
        )

    async def fill(upload_id: str) -> list[Part]:
        return await endpoint.runtime.gather(
            (
                copy_part(upload_id, number, start)
                for number, start in enumerate(range(0, source.size, size), 1)
            ),
            limit=CONCURRENCY,
        )

    return await in_parts(executor, endpoint, key, attributes, condition, revision, fill)


__all__ = ["copy_object"]
