"""What our own layers cost: service calls over a backend that answers at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import Contender, interleave
from benchmarks.report import Finding
from cm_platform import AsyncPlatform, AsyncStorage, Platform, Storage, Tenant
from cm_platform.runtime import drive
from cm_platform.storage.backend import ObjectInfo, Written

BODY = bytes(1024)
INFO = ObjectInfo("acme/key", 1024, "etag", metadata={"cm-rev": "0" * 32, "cm-sha256": "0" * 64})
WRITTEN = Written("etag")


class Reply:
    """An object that is there already."""

    info = INFO

    async def read(self) -> bytes:
        """The body."""
        return BODY

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, once."""
        yield BODY

    async def close(self) -> None:
        """Nothing."""


async def _head(key: str) -> ObjectInfo:
    return INFO


async def _get(key: str, **how: Any) -> Reply:
    return Reply()


async def _put(key: str, data: bytes, attributes: object, **how: Any) -> Written:
    return WRITTEN


def _empty(backend: Any) -> None:
    backend.head, backend.get, backend.put = _head, _get, _put


SYNC: dict[str, Callable[[Storage], object]] = {
    "head": lambda storage: storage.head("key"),
    "get 1 KB": lambda storage: storage.get("key").read(),
    "put 1 KB": lambda storage: storage.put("key", BODY),
}


async def _read(storage: AsyncStorage) -> bytes:
    return await (await storage.get("key")).read()


ASYNC: dict[str, Callable[[AsyncStorage], Awaitable[object]]] = {
    "head": lambda storage: storage.head("key"),
    "get 1 KB": _read,
    "put 1 KB": lambda storage: storage.put("key", BODY),
}


def calls(rounds: int) -> Finding:
    """Calls on both faces, with the backend's methods replaced by ones that return at once."""
    tenant = Tenant("acme")
    with tempfile.TemporaryDirectory() as directory:
        local = {"driver": "local", "path": str(Path(directory) / "store")}
        configuration = {"storage": {"default": "local", "backends": {"local": local}}}
        with Platform.from_config(configuration) as platform, asyncio.Runner() as runner:
            storage = platform.get_service("storage", tenant)
            _empty(drive(storage._async._executor.endpoint()).backend)
            other = AsyncPlatform.from_config(configuration)
            asynchronous = other.get_service("storage", tenant)

            async def prepare() -> None:
                _empty((await asynchronous._executor.endpoint()).backend)

            runner.run(prepare())

            def sync_face(call: Callable[[Storage], object]) -> Callable[[int], None]:
                def run(count: int) -> None:
                    for _ in range(count):
                        call(storage)

                return run

            def async_face(
                call: Callable[[AsyncStorage], Awaitable[object]],
            ) -> Callable[[int], None]:
                async def run(count: int) -> None:
                    for _ in range(count):
                        await call(asynchronous)

                return lambda count: runner.run(run(count))

            contenders = [
                *(Contender(f"{name}, sync face", sync_face(SYNC[name])) for name in SYNC),
                *(Contender(f"{name}, async face", async_face(ASYNC[name])) for name in ASYNC),
            ]
            samples = interleave(contenders, operations=3_000, rounds=rounds)
            runner.run(other.close())
    finding = Finding.of("Our layers, over a backend that answers at once (no span)", samples)
    for name, sample in samples.items():
        finding.at_most(f"our layers: {name}", sample.wall_us, 15, "us")
    return finding
