"""Comparing two stores: every key of both, by revision, size and attributes, and by their bytes.

Nothing is repaired here, and a listing or an etag proves nothing: each object is described by
both sides, and its bytes are read back. A key that somebody writes to at this moment is looked
at again; what then differs, with nobody about to change it, differs.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from cm_platform.errors import (
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.migration.ledger import Ledger, Side, Subject
from cm_platform.migration.persistence import persist
from cm_platform.migration.progress import Progress, Report
from cm_platform.storage.backend import SHA256, ObjectInfo, StorageBackend

from .listing import merged
from .pair import Pair
from .sameness import difference

_LOOKS: Final = 20
_BATCH: Final = 64
LISTED: Final = 100
"""Differences that are named one by one."""


@dataclass(slots=True)
class Verified:
    """What a verification found. sample: of all objects, those whose bytes were read, 0 to 1.

    objects: keys of either side. size: bytes that were read back. divergent: keys that differ.
    unread: keys that could not be compared. busy: keys that never stood still.
    pending: keys that an intent stands for, which therefore may differ.
    differences: (key, how), the first hundred. epoch: when it began.
    """

    epoch: int
    sample: float
    objects: int = 0
    size: int = 0
    divergent: int = 0
    unread: int = 0
    busy: int = 0
    pending: int = 0
    differences: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def clean(self) -> bool:
        """Whether both sides are the same, as far as was looked."""
        return not (self.divergent or self.unread or self.busy)

    @property
    def full(self) -> bool:
        """Whether every object's bytes were read."""
        return self.sample >= 1

    def to_dict(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return {**asdict(self), "clean": self.clean, "full": self.full}


class Verification:
    """Compares one tenant's two sides. concurrency: keys at once."""

    def __init__(
        self,
        pair: Pair,
        ledger: Ledger,
        subject: Subject,
        prefix: str,
        *,
        concurrency: int = 8,
    ) -> None:
        self._pair = pair
        self._ledger = ledger
        self._subject = subject
        self._prefix = prefix
        self._concurrency = concurrency

    async def run(
        self, authority: Side, epoch: int, report: Report, total: int | None, sample: float
    ) -> Verified:
        """Look at everything. Raises what the stores' listings raise."""
        found = Verified(epoch, sample)
        batch: list[str] = []
        async for key, _, _ in merged(self._pair, self._prefix):
            batch.append(key)
            if len(batch) >= _BATCH:
                await self._compared(found, authority, batch)
                batch = []
                self._tell(found, report, total)
        await self._compared(found, authority, batch)
        self._tell(found, report, total)
        return found

    def _tell(self, found: Verified, report: Report, total: int | None) -> None:
        failed = found.divergent + found.unread + found.busy
        report(Progress("verify", found.objects, total, found.size, failed))

    async def _compared(self, found: Verified, authority: Side, keys: list[str]) -> None:
        async def one(key: str) -> tuple[str, str | None, int]:
            try:
                how, size = await self._one(key, authority, found.sample)
            except PlatformError as error:
                return key, f"unread: {error.code}: {error.message}", 0
            return key, how, size

        for key, how, size in await self._pair.runtime.gather(
            (one(key) for key in keys), limit=self._concurrency
        ):
            found.objects += 1
            found.size += size
            if how is None:
                continue
            if how == "pending":
                found.pending += 1
                continue
            if how.startswith("unread"):
                found.unread += 1
            elif how == "busy":
                found.busy += 1
            else:
                found.divergent += 1
            if len(found.differences) < LISTED:
                found.differences.append((key, how))

    async def _one(self, key: str, authority: Side, sample: float) -> tuple[str | None, int]:
        runtime = self._pair.runtime
        reads = sample >= 1 or random.random() < sample  # noqa: S311 - a sample
        for look in range(_LOOKS):
            source, target = await persist(runtime, self._pair.heads, key)
            how = difference(source, target)
            size = 0
            if how is None and source is not None and target is not None and reads:
                try:
                    how, size = await self._bytes(key, source, target, authority)
                except (PreconditionFailedError, NotFoundError):
                    continue
            if how is None:
                return None, size
            if await persist(runtime, self._ledger.is_pending, self._subject, key):
                if look == _LOOKS - 1:
                    # Somebody looks after it: a writer, whoever repairs, or a URL's expiry.
                    return "pending", size
            else:
                # An intent may have ended between the look at the sides and at the ledger.
                again = await persist(runtime, self._pair.heads, key)
                if again == (source, target):
                    return how, size
            await runtime.sleep(0.02 * (look + 1))
        return "busy", 0

    async def _bytes(
        self, key: str, source: ObjectInfo, target: ObjectInfo, authority: Side
    ) -> tuple[str | None, int]:
        infos = {"source": source, "target": target}
        recorded = source.metadata.get(SHA256)
        # The target's in any case: once it is right, it is what is left in the end. The source's
        # where it follows, because it is the way back, and where nobody has recorded a digest.
        sides: list[Side] = ["target"]
        if authority == "target" or recorded is None:
            sides.append("source")
        found = {
            await persist(self._pair.runtime, self._digest, side, key, infos[side])
            for side in sides
        }
        wanted = found if recorded is None else {recorded}
        is_same = len(found) == 1 and found == wanted
        return (None if is_same else "bytes"), source.size * len(sides)

    async def _digest(self, side: Side, key: str, info: ObjectInfo) -> str:
        async def digest(backend: StorageBackend) -> str:
            reply = await backend.get(key, if_match=info.etag)
            found, size = hashlib.sha256(), 0
            try:
                async for chunk in reply.chunks():
                    found.update(chunk)
                    size += len(chunk)
            finally:
                await reply.close()
            if size != info.size:
                # Two that end early at the same byte would be taken for the same.
                raise UnavailableError("a body had another size than its object", retryable=True)
            return found.hexdigest()

        return await self._pair.on(side, digest)


__all__ = ["LISTED", "Verification", "Verified"]
