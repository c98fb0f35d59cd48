"""What our own layers cost: a service call over a backend that answers at once."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Contender, interleave
from benchmarks.report import Finding
from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.runtime import drive
from cm_platform.storage.backend import ObjectInfo

INFO = ObjectInfo("acme/key", 1024, "etag", metadata={"cm-rev": "0" * 32, "cm-sha256": "0" * 64})


def _configuration(directory: str) -> dict[str, Any]:
    local = {"driver": "local", "path": str(Path(directory) / "store")}
    return {"storage": {"default": "local", "backends": {"local": local}}}


async def _head(key: str) -> ObjectInfo:
    return INFO


def head(rounds: int) -> Finding:
    """`head` on both faces, with the backend's method replaced by one that returns at once."""
    tenant = Tenant("acme")
    with tempfile.TemporaryDirectory() as directory:
        configuration = _configuration(directory)
        with Platform.from_config(configuration) as platform, asyncio.Runner() as runner:
            storage = platform.get_service("storage", tenant)
            endpoint = drive(storage._async._executor.endpoint())
            endpoint.backend.head = _head
            other = AsyncPlatform.from_config(configuration)
            asynchronous = other.get_service("storage", tenant)

            async def prepare() -> None:
                (await asynchronous._executor.endpoint()).backend.head = _head

            runner.run(prepare())

            def direct(count: int) -> None:
                for _ in range(count):
                    drive(_head("acme/key"))

            def sync_face(count: int) -> None:
                for _ in range(count):
                    storage.head("key")

            def async_face(count: int) -> None:
                async def calls() -> None:
                    for _ in range(count):
                        await asynchronous.head("key")

                runner.run(calls())

            samples = interleave(
                [
                    Contender("the backend alone", direct),
                    Contender("through the sync face", sync_face),
                    Contender("through the async face", async_face),
                ],
                operations=5_000,
                rounds=rounds,
            )
            runner.run(other.close())
    finding = Finding.of("Our layers (head, no span)", samples)
    bare = samples["the backend alone"].wall_us
    for face in ("sync", "async"):
        cost = samples[f"through the {face} face"].wall_us - bare
        finding.at_most(f"our layers, {face} face", cost, 15, "us")
    return finding
