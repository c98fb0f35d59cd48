"""The two backends of a migration, asked one by one or both at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import fields
from typing import Any, Final, TypeVar

from cm_platform.errors import (
    AmbiguousError,
    DeadlineExceededError,
    IntegrityError,
    InternalError,
    NotFoundError,
    PlatformError,
    UnavailableError,
)
from cm_platform.migration.ledger import Side
from cm_platform.runtime import Runtime
from cm_platform.storage.backend import ObjectInfo, StorageBackend, StorageLimits

T = TypeVar("T")

# Of two lower bounds the higher one holds, of two upper bounds the lower one.
_LOWER: Final = frozenset({"min_part"})


class Pair:
    """Source and target. What they raise leaves here classified."""

    __slots__ = ("capabilities", "limits", "max_request_lifetime", "runtime", "source", "target")

    def __init__(self, source: StorageBackend, target: StorageBackend, runtime: Runtime) -> None:
        self.source = source
        self.target = target
        self.runtime = runtime
        # Only what both can: else a capability would be lost at a flip.
        self.capabilities = source.capabilities & target.capabilities
        self.limits = _both(source.limits, target.limits)
        self.max_request_lifetime = max(source.max_request_lifetime, target.max_request_lifetime)

    def backend(self, side: Side) -> StorageBackend:
        """The backend of a side."""
        return self.source if side == "source" else self.target

    async def on(self, side: Side, call: Callable[[StorageBackend], Awaitable[T]]) -> T:
        """Ask one side. Raises `PlatformError`s; `internal` is what cannot be classified."""
        backend = self.backend(side)
        try:
            return await call(backend)
        except PlatformError:
            raise
        except Exception as error:
            failure = backend.translate(error)
            if failure is None:
                # Its own words may hold a URL, and those who move data tell what they hear.
                failure = InternalError(f"a backend raised {type(error).__name__}")
            raise failure from error

    async def head(self, side: Side, key: str) -> ObjectInfo | None:
        """Describe a side's object; None when there is none."""
        try:
            return await self.on(side, lambda backend: backend.head(key))
        except NotFoundError:
            return None

    async def heads(self, key: str) -> tuple[ObjectInfo | None, ObjectInfo | None]:
        """Describe the source's object and the target's, at once."""
        asked: list[Coroutine[Any, Any, ObjectInfo | None]] = [
            self.head("source", key),
            self.head("target", key),
        ]
        source, target = await self.runtime.gather(asked, limit=2)
        return source, target


def unanswered(error: BaseException) -> bool:
    """Whether what was sent may have had, or may still have, an effect."""
    if isinstance(error, PlatformError):
        return not error.not_sent and isinstance(
            error,
            UnavailableError
            | DeadlineExceededError
            | InternalError
            | AmbiguousError
            | IntegrityError,
        )
    return True


def opposite(side: Side) -> Side:
    """The other one."""
    return "target" if side == "source" else "source"


def _both(one: StorageLimits, other: StorageLimits) -> StorageLimits:
    found: dict[str, Any] = {}
    for field in fields(StorageLimits):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name == "equal_parts":
            found[field.name] = mine or theirs
        else:
            found[field.name] = (max if field.name in _LOWER else min)(mine, theirs)
    return StorageLimits(**found)


__all__ = ["Pair", "opposite", "unanswered"]
