"""Processes of an application, as far as storage goes: clients that write, read and delete."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any, Final

from cm_platform.config import Config
from cm_platform.errors import NotFoundError
from cm_platform.platform import AsyncPlatform
from cm_platform.registry import Registry
from cm_platform.storage.backend import StorageCapability
from cm_platform.storage.service import AsyncStorage
from cm_platform.tenant import Tenant

from .histories import Histories

_PAUSE: Final = 0.02


class ApplicationProcess:
    """A platform of its own, with a few clients that work until they are stopped or killed."""

    def __init__(
        self,
        name: str,
        config: Config,
        registry: Registry,
        tenant: Tenant,
        histories: Histories,
        dice: random.Random,
        clients: int,
    ) -> None:
        self._platform = AsyncPlatform(config, registry=registry)
        self._histories = histories
        self._dice = dice
        self._written = 0
        self._name = name
        storage = self._platform.get_service("storage", tenant)
        self._tasks = [
            asyncio.create_task(self._work(f"{name}.{number}", storage))
            for number in range(clients)
        ]
        self._stopping = False

    async def stop(self) -> None:
        """Let each client end what it is doing. Raises what a client failed with."""
        self._stopping = True
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self._platform.close()

    async def kill(self) -> None:
        """Cut every client off, wherever it is; what its requests do is their affair."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._platform.close()

    async def _work(self, client: str, storage: AsyncStorage) -> None:
        capabilities = await _capabilities(storage)
        while not self._stopping:
            await self._act(client, storage, capabilities)
            await asyncio.sleep(self._dice.random() * _PAUSE)

    async def _act(
        self, client: str, storage: AsyncStorage, capabilities: frozenset[StorageCapability]
    ) -> None:
        key = self._histories.key()
        record = self._histories.record
        rolled = self._dice.random()
        if rolled < 0.35:
            value = self._value()
            await record(client, key, "put", lambda: _put(storage, key, value), value=value)
        elif rolled < 0.45 and StorageCapability.CONDITIONAL_CREATE in capabilities:
            value = self._value()
            await record(
                client,
                key,
                "put_if_absent",
                lambda: _put(storage, key, value, if_none_match="*"),
                value=value,
            )
        elif rolled < 0.55 and StorageCapability.CONDITIONAL_REPLACE in capabilities:
            await self._replace(client, storage, key)
        elif rolled < 0.7:
            await record(client, key, "delete", lambda: storage.delete(key))
        else:
            await record(client, key, "read", lambda: _read(storage, key))

    async def _replace(self, client: str, storage: AsyncStorage, key: str) -> None:
        """Read, then write only over what was read: across a flip, too."""
        etag = ""

        async def read() -> bytes:
            nonlocal etag
            stored = await storage.get(key)
            etag = stored.info.etag
            return await stored.read()

        record = self._histories.record
        before = await record(client, key, "read", read)
        if before is None:
            return
        value = self._value()
        await record(
            client,
            key,
            "put_if_match",
            lambda: _put(storage, key, value, if_match=etag),
            value=value,
            expected=before,
        )

    def _value(self) -> bytes:
        self._written += 1
        return f"{self._name}:{self._written}:{self._dice.random()}".encode()


async def _capabilities(storage: AsyncStorage) -> frozenset[StorageCapability]:
    while True:
        with suppress(ConnectionError, TimeoutError):
            return await storage.capabilities()
        await asyncio.sleep(_PAUSE)


async def _put(storage: AsyncStorage, key: str, value: bytes, **conditions: Any) -> None:
    await storage.put(key, value, **conditions)


async def _read(storage: AsyncStorage, key: str) -> bytes | None:
    try:
        return await (await storage.get(key)).read()
    except NotFoundError:
        return None


__all__ = ["ApplicationProcess"]
