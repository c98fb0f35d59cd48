"""An application's clients: a few operations each, on a few keys, in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from cm_platform.errors import NotFoundError, PlatformError
from cm_platform.runtime import Runtime
from cm_platform.storage.backend import (
    REVISION,
    SHA256,
    Attributes,
    ObjectInfo,
    StorageBackend,
    StorageCapability,
)
from cm_platform.testing.simulation.points import CrashPoints
from cm_platform.testing.simulation.presigning import follow
from cm_platform.testing.simulation.scheduler import Simulation
from cm_platform.testing.simulation.store import SimulatedStore

from .recording import Record, outcome_of
from .scenario import Scenario, Value

PART: Final = 8

OLD: Final = "old"
"""The key of an object that nobody touches."""
LEFTOVER: Final = "leftover"
"""The key of an object that only the target has, and nobody shall see."""


class Client:
    """One client.

    stores: where URLs lead to. left: operations that it still has to do. only_reads: it changes
    nothing.
    """

    def __init__(
        self,
        name: str,
        storage: StorageBackend,
        runtime: Runtime,
        simulation: Simulation,
        record: Record,
        scenario: Scenario,
        stores: tuple[SimulatedStore, ...],
        points: CrashPoints,
        *,
        left: int,
        only_reads: bool = False,
    ) -> None:
        self.name = name
        self.left = left
        self._points = points
        self._storage = storage
        self._runtime = runtime
        self._simulation = simulation
        self._dice = simulation.random
        self._record = record
        self._scenario = scenario
        self._stores = stores
        # By key: an etag that was seen, and of what.
        self._seen: dict[str, tuple[str, Value]] = {}
        self._written = 0
        acts = [(self._get, 3), (self._head, 1)] if only_reads else self._possible()
        self._acts = [*acts, (self._list, scenario.listings)]

    def _possible(self) -> list[tuple[Callable[[str], Awaitable[None]], int]]:
        can, scenario = self._storage.capabilities, self._scenario
        acts: dict[str, Callable[[str], Awaitable[None]]] = {
            "put": self._put,
            "get": self._get,
            "head": self._head,
            "delete": self._delete,
            "delete_many": self._delete_many,
            "multipart": self._multipart,
        }
        if StorageCapability.CONDITIONAL_CREATE in can:
            acts["create"] = self._create
        if StorageCapability.CONDITIONAL_REPLACE in can:
            acts["replace"] = self._replace
        if StorageCapability.CONDITIONAL_DELETE in can:
            acts["delete_version"] = self._delete_version
        if len(scenario.keys) > 1:
            acts["copy"] = self._copy
        if scenario.uploads and StorageCapability.PRESIGN in can:
            acts["upload"] = self._upload
        # Without one who writes and one who reads there is nothing to see.
        return [(acts["put"], 1), (acts["get"], 1)] + [
            (act, scenario.acts[name]) for name, act in acts.items()
        ]

    async def run(self) -> None:
        """Do what it does."""
        acts = [act for act, _ in self._acts]
        weights = [weight for _, weight in self._acts]
        dice, at_once = self._dice, 0
        while self.left:
            # Begun is done: whether it happened is what the judge asks.
            self.left -= 1
            if at_once > 0:
                at_once -= 1
                await self._runtime.sleep(dice.random() * 0.1)
            else:
                at_once = await self._waited()
            [act] = dice.choices(acts, weights)
            await act(dice.choice(self._scenario.keys))

    async def _waited(self) -> int:
        """Choose a moment: one with others, one far from them, or one in the way of whoever
        moves. How many more operations follow at once."""
        dice, scenario = self._dice, self._scenario
        kind = dice.random()
        if kind < 0.4:
            await self._runtime.sleep(dice.random() * 0.02)
        elif kind < 0.6:
            await self._runtime.sleep(dice.random() * scenario.pause)
        else:
            patience = dice.random() * scenario.patience
            await self._points.until(dice.choice(scenario.moments), patience)
            return scenario.burst - 1
        return 0

    # Reading ------------------------------------------------------------------------------

    async def _get(self, key: str) -> None:
        await self._read(key)

    async def _read(self, key: str) -> Value | None:
        value: Value | None = None
        with self._record.call(self.name, "read", key) as [call]:
            async with self._runtime.timeout(self._scenario.times.wait):
                try:
                    reply = await self._storage.get(key)
                    try:
                        body = await reply.read()
                    finally:
                        await reply.close()
                    value = (body, _number(reply.info))
                    self._seen[key] = (reply.info.etag, value)
                except NotFoundError:
                    pass
            call.value = value
        return value

    async def _head(self, key: str) -> None:
        with self._record.call(self.name, "read", key) as [call]:
            async with self._runtime.timeout(self._scenario.times.wait):
                try:
                    info = await self._storage.head(key)
                except NotFoundError:
                    return
            number = _number(info)
            written = None if number is None else self._record.written.get(number)
            if written is None:
                # Nobody can say of what bytes it is.
                call.outcome = "refused"
            else:
                call.value = (written, number)

    async def _list(self, key: str) -> None:
        """All keys, page by page; time passes between two, in which the sides may change."""
        seen: list[str] = []
        cursor: str | None = None
        with self._record.call(self.name, "unlisted", *self._scenario.keys) as calls:
            while True:
                async with self._runtime.timeout(self._scenario.times.wait):
                    page = await self._storage.list("", delimiter=None, cursor=cursor, limit=1)
                seen += [found.key for found in page.objects]
                cursor = page.cursor
                if cursor is None:
                    break
                await self._runtime.sleep(self._dice.random() * self._dice.choice((0.01, 2.0)))
            for call in calls:
                if call.key in seen:
                    call.kind = "listed"
            told = f"a listing has {', '.join(seen)}"
            if OLD not in seen:
                self._record.wrong.append(f"lost: {told}, and not what nobody touched")
            if LEFTOVER in seen:
                self._record.wrong.append(f"resurrected: {told}, which only the target had")
            if seen != sorted(set(seen)):
                self._record.wrong.append(f"divergent: {told}, in that order")

    # Writing ------------------------------------------------------------------------------

    async def _put(self, key: str) -> None:
        body, attributes, value = self._made(key)
        with self._record.call(self.name, "put", key, value=value):
            async with self._runtime.timeout(self._scenario.times.wait):
                written = await self._storage.put(key, body, attributes)
            self._seen[key] = (written.etag, value)

    async def _create(self, key: str) -> None:
        body, attributes, value = self._made(key)
        with self._record.call(self.name, "put_if_absent", key, value=value):
            async with self._runtime.timeout(self._scenario.times.wait):
                written = await self._storage.put(key, body, attributes, if_none_match=True)
            self._seen[key] = (written.etag, value)

    async def _replace(self, key: str) -> None:
        if key not in self._seen:
            await self._read(key)
        if key not in self._seen:
            return
        etag, seen = self._seen[key]
        body, attributes, value = self._made(key)
        with self._record.call(self.name, "put_if_match", key, value=value, expected=seen):
            async with self._runtime.timeout(self._scenario.times.wait):
                written = await self._storage.put(key, body, attributes, if_match=etag)
            self._seen[key] = (written.etag, value)

    async def _multipart(self, key: str) -> None:
        # Bytes of its own: an object in parts has another etag than the same bytes in one.
        body, attributes, value = self._made(key, parts=True)
        storage, dice = self._storage, self._dice
        try:
            upload = await storage.create_multipart(key, attributes)
            parts = [
                await storage.put_part(key, upload, number, body[start : start + PART])
                for number, start in enumerate(range(0, len(body), PART), 1)
            ]
        except PlatformError as error:
            outcome_of(error, "put", doubled=False)
            return
        # Long enough for a flip to come between.
        await self._runtime.sleep(dice.random() * dice.choice((0.01, self._scenario.pause)))
        with self._record.call(self.name, "put", key, value=value):
            async with self._runtime.timeout(self._scenario.times.wait):
                written = await storage.complete_multipart(key, upload, parts)
            self._seen[key] = (written.etag, value)

    async def _copy(self, key: str) -> None:
        source, target = self._scenario.keys[0], self._scenario.keys[-1]
        found = await self._read(source)
        if found is None or source not in self._seen:
            return
        etag, _ = self._seen[source]
        _, attributes, value = self._made(target, found[0])
        with self._record.call(self.name, "put", target, value=value):
            async with self._runtime.timeout(self._scenario.times.wait):
                written = await self._storage.copy(source, target, attributes, etag=etag)
            self._seen[target] = (written.etag, value)

    async def _upload(self, key: str) -> None:
        """Somebody else's write, by a URL that was signed for it."""
        times, dice = self._scenario.times, self._dice
        try:
            url = await self._storage.presign(
                key, "PUT", expires_in=times.upload, attributes=Attributes()
            )
        except PlatformError as error:
            outcome_of(error, "put", doubled=False)
            return
        await self._simulation.sleep(dice.random() * times.upload * 1.2)
        value: Value = (b"by url " + self._number().encode(), None)
        # It happens at once, or is refused because the URL has expired.
        for store in self._stores:
            if url.url.startswith(f"simulated://{store.name}/"):
                with self._record.call(self.name, "put", key, value=value) as [call]:
                    try:
                        follow(store, url, value[0])
                    except PlatformError:
                        call.outcome = "refused"

    # Removing -----------------------------------------------------------------------------

    async def _delete(self, key: str) -> None:
        with self._record.call(self.name, "delete", key):
            async with self._runtime.timeout(self._scenario.times.wait):
                await self._storage.delete(key)

    async def _delete_version(self, key: str) -> None:
        if key not in self._seen:
            await self._read(key)
        if key not in self._seen:
            return
        etag, seen = self._seen[key]
        with self._record.call(self.name, "delete_if_match", key, expected=seen):
            async with self._runtime.timeout(self._scenario.times.wait):
                await self._storage.delete(key, if_match=etag)

    async def _delete_many(self, key: str) -> None:
        keys = self._scenario.keys
        with self._record.call(self.name, "delete", *keys) as calls:
            async with self._runtime.timeout(self._scenario.times.wait):
                failures = await self._storage.delete_many(keys)
            for call in calls:
                if (error := failures.get(call.key)) is not None:
                    call.outcome = outcome_of(error, "delete", doubled=False)
                else:
                    call.outcome = "done"

    # ----------------------------------------------------------------------------------------

    def _number(self) -> str:
        self._written += 1
        return f"{self.name}.{self._written}"

    def _made(
        self, key: str, given: bytes | None = None, *, parts: bool = False
    ) -> tuple[bytes, Attributes, Value]:
        """Something to write that nobody else writes. given: the bytes, where they are not new."""
        dice, number = self._dice, self._number()
        if given is not None:
            body = given
        elif parts:
            body = (number.encode() * PART)[: 2 * PART + 3]
        elif dice.random() < 0.15 and key in self._seen and not self._is_in_parts(key):
            # The same bytes once more: another object of the same etag.
            body = self._seen[key][1][0]
        else:
            body = number.encode()
        metadata = {"n": number, REVISION: f"rev-{number}"}
        if dice.random() < 0.7:
            metadata[SHA256] = hashlib.sha256(body).hexdigest()
        self._record.written[number] = body
        content_type = dice.choice((None, "text/plain"))
        return body, Attributes(content_type=content_type, metadata=metadata), (body, number)

    def _is_in_parts(self, key: str) -> bool:
        return len(self._seen[key][1][0]) > 2 * PART


def _number(info: ObjectInfo) -> str | None:
    return info.metadata.get("n")


__all__ = ["LEFTOVER", "OLD", "Client"]
