"""What the demo does, act by act. Each act compares what it finds, and reports only that."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cm_platform.config import Config, load
from cm_platform.errors import IntegrityError, InvalidArgumentError, NotFoundError, PlatformError
from cm_platform.migration.progress import Report
from cm_platform.platform import AsyncPlatform, Platform
from cm_platform.storage.local.paths import SIDECAR
from cm_platform.storage.sync import Storage
from cm_platform.tenant import Tenant

from .storage import guessed_type

if TYPE_CHECKING:
    from .demo_migration import StageRow

MAGAZINE: Final = Tenant("magazine")
SHOP: Final = Tenant("shop")

# By what the example files are called; other files are dealt out in turn.
_OF_THE_SHOP: Final = ("catalogue", "produit")

_CONFIGURATION: Final = """\
[storage]
default = "store-a"
timeout = 2

[ledger]
driver = "sqlite"
path = "ledger.sqlite"

[storage.backends.store-a]
driver = "local"
path = "store-a"
max_request_lifetime = 0.2

[storage.backends.store-b]
driver = "local"
path = "store-b"
max_request_lifetime = 0.2

# A minute and a day where these are clouds: see the runbook.
[storage.migrations.to-store-b]
source = "store-a"
target = "store-b"
lease = 0.2
upload_ttl = 1
soak = 0

[[storage.rules]]
tenants = [{tenants}]
route = "store-b"

[signing.keys]
demo = "{key}"
"""

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Original:
    """A file as it is on disk: what everything is compared with."""

    key: str
    path: Path
    size: int
    sha256: str


@dataclass(slots=True)
class Step:
    """One act and what came of it. verified: objects that were read back and compared."""

    title: str
    detail: str = ""
    where: str = ""
    objects: int = 0
    size: int = 0
    verified: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**asdict(self), "seconds": round(self.seconds, 6)}


def perform(
    folder: Path,
    files: Sequence[Path],
    workspace: Path,
    uploading: AbstractContextManager[Progress],
    moving: AbstractContextManager[Report],
) -> tuple[list[Step], list[StageRow]]:
    """All acts, in order, and the stages of the migration among them.

    uploading, moving: shown how far the upload and the migration have come.
    Raises `integrity` where something is not as it must be.
    """
    every = originals(folder, files)
    shop = [found for found in every if found.path.name.startswith(_OF_THE_SHOP)]
    shop = shop if 0 < len(shop) < len(every) else list(every[1::2])
    magazine = [found for found in every if found not in shop]
    acts = _Acts(workspace, magazine, shop)
    with uploading as progress:
        acts.upload(progress)
    acts.list_and_verify()
    acts.isolate("two tenants in two stores")
    acts.read_async()
    with moving as report:
        stages = acts.migrate(report)
    acts.serve_from_the_other()
    acts.isolate("two tenants in one store", both_in="store-b")
    return acts.steps, stages


class _Acts:
    def __init__(
        self, workspace: Path, magazine: Sequence[Original], shop: Sequence[Original]
    ) -> None:
        self.steps: list[Step] = []
        self._workspace = workspace
        self._file = workspace / "cm_platform.toml"
        self._key = secrets.token_urlsafe(32)
        self._magazine, self._shop = magazine, shop
        self._now = self._configuration(SHOP)

    def upload(self, progress: Progress) -> None:
        total = sum(found.size for found in (*self._magazine, *self._shop))
        done = 0
        with Platform.from_config(self._now) as platform:
            for tenant, store, originals in self._homes():
                with self._step(f"{tenant.id}: upload") as step:
                    storage = platform.get_service("storage", tenant)
                    for found in originals:
                        kind = guessed_type(found.key)
                        stored = storage.put(found.key, found.path, content_type=kind)
                        _same(stored.sha256, found)
                        done += found.size
                        progress(done, total)
                    held = _held(self._workspace / store, len(originals))
                    _count(step, originals, 0)
                    step.where = store
                    step.detail = f"{held} objects are on this disk now"

    def list_and_verify(self) -> None:
        with Platform.from_config(self._now) as platform:
            for tenant, store, originals in self._homes():
                with self._step(f"{tenant.id}: list, read back") as step:
                    read_back(platform.get_service("storage", tenant), originals)
                    _count(step, originals, len(originals))
                    step.where = store
                    step.detail = "complete, and every SHA-256 is right"

    def isolate(self, title: str, both_in: str | None = None) -> None:
        with self._step(title) as step, Platform.from_config(self._now) as platform:
            magazine = platform.get_service("storage", MAGAZINE)
            shop = platform.get_service("storage", SHOP)
            theirs = self._magazine[0].key
            _refused(lambda: shop.head(theirs), NotFoundError)
            _refused(lambda: shop.get(f"../{MAGAZINE.id}/{theirs}"), InvalidArgumentError)
            told = "the shop cannot see the magazine's objects, nor climb to them"
            if (cursor := magazine.list_page(limit=1).cursor) is not None:
                _refused(lambda: shop.list_page(limit=1, cursor=cursor), InvalidArgumentError)
                told += ", nor use its cursor"
            both = {found.key for found in shop.list()} & {found.key for found in magazine.list()}
            if both:
                raise IntegrityError("one tenant's listing has another's objects")
            step.objects = len(list(shop.list())) + len(list(magazine.list()))
            step.where = both_in or "store-a, store-b"
            step.detail = told

    def read_async(self) -> None:
        with self._step("shop: async, all at once") as step:
            asyncio.run(_read_async(self._now, SHOP, self._shop))
            _count(step, self._shop, len(self._shop))
            step.where = "store-b"
            step.detail = "the same calls on an event loop; every SHA-256 is right"

    def migrate(self, report: Report) -> list[StageRow]:
        """From one store to the other, while clients work."""
        from .demo_migration import migrate

        migrated = migrate(self._now, self._magazine, report)
        self.steps += migrated.steps
        # The ledger knows where the files are; now the rules say so, too.
        self._now = self._configuration(SHOP, MAGAZINE)
        return migrated.stages

    def serve_from_the_other(self) -> None:
        """With the old store gone, nothing but the new one can answer."""
        with (
            self._step("magazine: served from there") as step,
            _unplugged(self._workspace / "store-a"),
            Platform.from_config(self._now) as platform,
        ):
            read_back(platform.get_service("storage", MAGAZINE), self._magazine)
            _count(step, self._magazine, len(self._magazine))
            step.where = "store-b"
            step.detail = "store-a is moved away meanwhile; every SHA-256 is right"

    def _homes(self) -> list[tuple[Tenant, str, Sequence[Original]]]:
        return [(MAGAZINE, "store-a", self._magazine), (SHOP, "store-b", self._shop)]

    def _configuration(self, *tenants: Tenant) -> Config:
        listed = ", ".join(f'"{tenant.id}"' for tenant in tenants)
        self._file.write_text(
            _CONFIGURATION.format(tenants=listed, key=self._key), encoding="utf-8"
        )
        return load(self._file)

    @contextmanager
    def _step(self, title: str) -> Generator[Step]:
        step = Step(title)
        started = time.monotonic()
        yield step
        step.seconds = time.monotonic() - started
        self.steps.append(step)


def read_back(storage: Storage, originals: Sequence[Original]) -> None:
    """Compare a tenant's listing and every byte with the files that were uploaded."""
    _complete([found.key for found in storage.list()], originals)
    for found in originals:
        _same(storage.verify(found.key).sha256, found)


async def _read_async(config: Config, tenant: Tenant, originals: Sequence[Original]) -> None:
    async with AsyncPlatform.from_config(config) as platform:
        storage = platform.get_service("storage", tenant)
        _complete([found.key async for found in storage.list()], originals)
        infos = await asyncio.gather(*(storage.verify(found.key) for found in originals))
    for info, found in zip(infos, originals, strict=True):
        _same(info.sha256, found)


def originals(folder: Path, files: Sequence[Path]) -> list[Original]:
    """The files as they are on disk."""
    return [_original(folder, path) for path in files]


def _original(folder: Path, path: Path) -> Original:
    data = path.read_bytes()
    key = path.relative_to(folder).as_posix()
    return Original(key, path, len(data), hashlib.sha256(data).hexdigest())


def _complete(keys: list[str], originals: Sequence[Original]) -> None:
    if sorted(keys) != sorted(found.key for found in originals):
        raise IntegrityError("a listing does not have the objects that were uploaded")


def _same(digest: str | None, original: Original) -> None:
    if digest != original.sha256:
        raise IntegrityError(f"{original.key} is not the file that was uploaded")


def _refused(call: Callable[[], object], how: type[PlatformError]) -> None:
    try:
        call()
    except how:
        return
    raise IntegrityError("one tenant got at another's objects")


def _held(store: Path, count: int) -> int:
    """The objects in a directory, counted past the library."""
    found = sum(1 for _ in store.rglob(f"*{SIDECAR}"))
    if found != count:
        raise IntegrityError(f"{store.name} has {found} objects on disk, not {count}")
    return found


@contextmanager
def _unplugged(store: Path) -> Generator[None]:
    away = store.rename(store.with_name(f"{store.name}.unplugged"))
    try:
        yield
    finally:
        away.rename(store)


def _count(step: Step, originals: Sequence[Original], verified: int) -> None:
    step.objects = len(originals)
    step.size = sum(found.size for found in originals)
    step.verified = verified


__all__ = ["MAGAZINE", "SHOP", "Original", "Step", "originals", "perform", "read_back"]
