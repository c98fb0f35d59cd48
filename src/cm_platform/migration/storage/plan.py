"""What a move would mean for a tenant's objects: counted, and what could not come along, listed.

Nothing is changed. Every object is described by its store, because a listing does not say what
an object carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from cm_platform.errors import InvalidArgumentError, NotFoundError, PlatformError
from cm_platform.migration.persistence import persist
from cm_platform.migration.progress import Progress, Report
from cm_platform.storage.backend import REVISION, ObjectInfo

from .listing import merged
from .pair import Pair
from .sameness import carried, same

_EXAMPLES: Final = 5
_BATCH: Final = 64


@dataclass(slots=True)
class Finding:
    """Something about some of the objects. what: in words. examples: keys, the first few."""

    what: str
    count: int = 0
    examples: list[str] = field(default_factory=list[str])

    def add(self, key: str) -> None:
        """One more."""
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(key)


@dataclass(slots=True)
class Plan:
    """What a move would do.

    objects, size: of the source. foreign: objects that other programs wrote. present: objects
    that the target has already, the same.
    losses: what would not come along, or go away; each must be accepted.
    obstacles: what cannot be moved at all: remove it first.
    capabilities: what the tenant's storage could do and will not be able to.
    declared: what nobody can check and whoever starts has to declare.
    """

    objects: int = 0
    size: int = 0
    foreign: int = 0
    present: int = 0
    losses: list[Finding] = field(default_factory=list[Finding])
    obstacles: list[Finding] = field(default_factory=list[Finding])
    capabilities: list[str] = field(default_factory=list[str])
    declared: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)


DECLARED: Final = (
    "every program that writes this tenant's objects runs with this configuration",
    "all others (other languages, scripts, a console) are stopped until it is complete",
    "no URL to upload, signed before these programs ran with this configuration, is still valid",
    "the target's bucket has no lifecycle rule, event or replication that changes these objects",
)


class Planning:
    """Looks at one tenant's two sides. concurrency: keys at once."""

    def __init__(self, pair: Pair, prefix: str, *, concurrency: int = 8) -> None:
        self._pair = pair
        self._prefix = prefix
        self._concurrency = concurrency
        self._losses: dict[str, Finding] = {}
        self._obstacles: dict[str, Finding] = {}

    async def run(self, report: Report) -> Plan:
        """Look at everything. Raises what the stores' listings raise."""
        self._losses, self._obstacles = {}, {}
        source, target = self._pair.source, self._pair.target
        plan = Plan(
            capabilities=sorted(source.capabilities - target.capabilities), declared=DECLARED
        )
        batch: list[tuple[str, bool]] = []
        async for key, here, _ in merged(self._pair, self._prefix):
            batch.append((key, here is not None))
            if len(batch) >= _BATCH:
                await self._look(plan, batch)
                batch = []
                report(Progress("plan", plan.objects, None, plan.size))
        await self._look(plan, batch)
        report(Progress("plan", plan.objects, plan.objects, plan.size))
        plan.losses = list(self._losses.values())
        plan.obstacles = list(self._obstacles.values())
        return plan

    async def _look(self, plan: Plan, batch: Sequence[tuple[str, bool]]) -> None:
        async def one(key: str) -> None:
            await self._one(plan, key)

        await self._pair.runtime.gather((one(key) for key, _ in batch), limit=self._concurrency)

    async def _one(self, plan: Plan, key: str) -> None:
        if "\0" in key:
            # A store may have it, PostgreSQL has no text for it; and intents are by key.
            self._obstacle("has a key with U+0000, which no ledger keeps", key)
            return
        try:
            source, target = await persist(self._pair.runtime, self._described, key)
        except PlatformError as error:
            self._obstacle(f"cannot be described: {error.code}", key)
            return
        if source is None:
            if target is not None:
                self._loss("is on the target only, and would be removed there", key)
            return
        plan.objects += 1
        plan.size += source.size
        plan.foreign += REVISION not in source.metadata
        if same(source, target):
            plan.present += 1
        elif target is not None:
            self._loss("is on the target in another version, which would be replaced", key)
        self._carries(key, source)

    async def _described(self, key: str) -> tuple[ObjectInfo | None, ObjectInfo | None]:
        try:
            source = await self._pair.on("source", lambda b: b.head(key, uncarried=True))
        except NotFoundError:
            source = None
        return source, await self._pair.head("target", key)

    def _carries(self, key: str, info: ObjectInfo) -> None:
        limits = self._pair.target.limits
        for what in sorted(info.uncarried or ()):
            self._loss(f"has {what}, which is not carried", key)
        if len(key.encode()) > limits.max_key:
            self._obstacle(f"has a key of more than {limits.max_key} bytes", key)
        if info.size > limits.max_part * limits.max_parts:
            self._obstacle("is larger than an object may be on the target", key)
        try:
            attributes = carried("source", info)
        except InvalidArgumentError as error:
            self._obstacle(error.message, key)
            return
        size = sum(len(name) + len(value) for name, value in attributes.metadata.items())
        if size > limits.max_metadata:
            self._obstacle(
                f"has more than the {limits.max_metadata} bytes of metadata that fit there, ours "
                "included",
                key,
            )

    def _loss(self, what: str, key: str) -> None:
        self._losses.setdefault(what, Finding(what)).add(key)

    def _obstacle(self, what: str, key: str) -> None:
        self._obstacles.setdefault(what, Finding(what)).add(key)


__all__ = ["DECLARED", "Finding", "Plan", "Planning"]
