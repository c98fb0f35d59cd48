"""What a migration costs while it lasts: each stage's put and get, and the pause of a flip.

Two S3 servers that verify signatures, in processes of their own, and a real Postgres for the
ledger; all on this machine, where a round trip is nothing: what counts is their number. The plain
backend, without any migration, is what each stage is compared with.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.harness import Contender, interleave
from benchmarks.report import Finding, Goal
from benchmarks.storage import SMALL
from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.routing import Stage
from cm_platform.storage.sync import Storage
from cm_platform.testing.servers import Endpoint, PostgresServer, S3Server

KEY: Final = "invoices/2026/11/0001.pdf"
FLIPS: Final = 20
WRITES_PER_SECOND: Final = 100
_REASON: Final = "a benchmark moves nothing that matters"


def _configuration(source: Endpoint, target: Endpoint, ledger: str) -> dict[str, Any]:
    def backend(endpoint: Endpoint) -> dict[str, Any]:
        return {
            "driver": "s3",
            "bucket": endpoint.bucket,
            "endpoint": endpoint.url,
            "region": "us-east-1",
            "access_key_id": endpoint.access_key_id,
            "secret_access_key": endpoint.secret_access_key,
        }

    return {
        "storage": {
            "default": "old",
            "backends": {"old": backend(source), "new": backend(target)},
            "migrations": {
                "to-new": {
                    "source": "old",
                    "target": "new",
                    "lease": 1.0,
                    "upload_ttl": 1,
                    "soak": 0,
                    "shadow_sample": 0.01,
                }
            },
        },
        "ledger": {"driver": "postgres", "url": ledger},
    }


class Stores:
    """Two stores and a ledger, and platforms with and without the migration."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self.configuration = configuration
        plain = {"storage": {**configuration["storage"], "migrations": {}}}
        self.plain = Platform.from_config(plain)
        self.platform = Platform.from_config(configuration)

    def at(self, stage: Stage) -> Storage:
        """The storage of a tenant that is at a stage."""
        tenant = Tenant(f"at-{stage}")
        control = self.platform.migration("storage", tenant)
        control.prepare()
        control.start(no_other_writers=True)
        while control.state().stage is not stage:
            control.advance(override=_REASON)
        return self.platform.get_service("storage", tenant)

    def close(self) -> None:
        """Both platforms."""
        self.platform.close()
        self.plain.close()


@contextmanager
def stores() -> Iterator[Stores]:
    """Fresh ones."""
    with S3Server() as source, S3Server() as target, PostgresServer() as postgres:
        made = Stores(_configuration(source.endpoint, target.endpoint, postgres.url))
        try:
            yield made
        finally:
            made.close()


def stages(made: Stores, rounds: int) -> list[Finding]:
    """Put and get of a kilobyte, one at a time, in every stage."""
    contenders = {"no migration": made.plain.get_service("storage", Tenant("plain"))}
    contenders |= {str(stage): made.at(stage) for stage in Stage}
    for storage in contenders.values():
        storage.put(KEY, SMALL)
    # The first calls open connections.
    puts = {name: _put(storage) for name, storage in contenders.items()}
    gets = {name: _get(storage) for name, storage in contenders.items()}
    findings: list[Finding] = []
    for what, calls in (("put", puts), ("get", gets)):
        samples = interleave(
            [Contender(name, call) for name, call in calls.items()], operations=100, rounds=rounds
        )
        finding = Finding.of(f"Migration: {what} of 1 KB, blocking, by stage", samples)
        plain = samples["no migration"].wall_us
        for name in calls:
            if name == "no migration":
                continue
            ratio = samples[name].wall_us / plain
            label = f"{what} in {name}, of no migration"
            if name in (Stage.OFF, Stage.COMPLETE):
                # "Nothing measurable": within what two equal contenders differ by here.
                finding.at_most(label, ratio, 1.1)
            else:
                finding.goals.append(Goal(label, ratio, "x", "stated", None))
        findings.append(finding)
    return findings


def _put(storage: Storage) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            storage.put(KEY, SMALL)

    return run


def _get(storage: Storage) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            storage.get(KEY).read()

    return run


def pauses(made: Stores) -> Finding:
    """Flips and rollbacks under a hundred writes and a hundred reads a second."""
    return asyncio.run(_pauses(made.configuration))


async def _pauses(configuration: dict[str, Any]) -> Finding:
    tenant = Tenant("flipping")
    paused: list[float] = []
    writes: list[float] = []
    reads: list[float] = []
    async with AsyncPlatform.from_config(configuration) as platform:
        storage = platform.get_service("storage", tenant)
        control = await platform.migration("storage", tenant)
        await control.start(no_other_writers=True)
        for _ in range(2):
            await control.advance(override=_REASON)
        await storage.put(KEY, SMALL)

        async def write(number: int) -> None:
            await storage.put(f"invoices/{number % 500}", SMALL)

        async def read(_: int) -> None:
            await (await storage.get(KEY)).read()

        traffic = [
            asyncio.create_task(_steadily(write, writes)),
            asyncio.create_task(_steadily(read, reads)),
        ]
        for number in range(FLIPS):
            if number % 2:
                stepped = await control.rollback()
            else:
                stepped = await control.advance(override=_REASON)
            paused.append(stepped.paused)
        for task in traffic:
            task.cancel()
        await asyncio.gather(*traffic, return_exceptions=True)
    finding = Finding(f"Migration: {FLIPS} flips at {WRITES_PER_SECOND} writes/s")
    for what, found in (("write pause", paused), ("longest put", writes), ("longest get", reads)):
        cuts = statistics.quantiles(found, n=100, method="inclusive")
        for name, value in (("p50", cuts[49]), ("p99", cuts[98])):
            finding.goals.append(Goal(f"{what}, {name}", value * 1000, "ms", "stated", None))
    return finding


async def _steadily(act: Callable[[int], Any], took: list[float]) -> None:
    """So many a second, however long each takes."""
    running: set[asyncio.Task[None]] = set()

    async def timed(number: int) -> None:
        began = time.perf_counter()
        await act(number)
        took.append(time.perf_counter() - began)

    number = 0
    try:
        while True:
            task = asyncio.create_task(timed(number))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
            await asyncio.sleep(1 / WRITES_PER_SECOND)
    finally:
        await asyncio.gather(*running)


__all__ = ["pauses", "stages", "stores"]
