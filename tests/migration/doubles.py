"""A world in which data moves: one thread, a clock that is driven, stores and a ledger that fail
when they are told to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from cm_platform.config import MigrationConfig
from cm_platform.errors import DeadlineExceededError, UnavailableError
from cm_platform.migration import points
from cm_platform.migration.control import AsyncMigration
from cm_platform.migration.intents import Intents
from cm_platform.migration.lease import StageLease
from cm_platform.migration.ledger import Pending, State, Subject, Terms
from cm_platform.migration.ledgers.sqlite import SqliteConfig, SqliteLedger
from cm_platform.migration.ledgers.sqlite.ledger import MEMORY
from cm_platform.migration.mover import Sides
from cm_platform.migration.points import Point
from cm_platform.migration.stepping import Stepped
from cm_platform.migration.storage.assembling import assemble
from cm_platform.migration.storage.pair import Pair
from cm_platform.migration.storage.reconcile import Reconciler
from cm_platform.routing import Stage
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.storage.backend import (
    REVISION,
    Attributes,
    ObjectInfo,
    Presigned,
    StorageCapability,
)
from cm_platform.storage.local.store import BACKEND, LocalConfig
from cm_platform.storage.revision import new_revision

T = TypeVar("T")

Step = Callable[[], object]

SUBJECT = Subject("storage", "acme")
LEASE = 5.0
ACT = 10.0
QUARANTINE = 5.0
UPLOAD_TTL = 60
LONGEST = UPLOAD_TTL + QUARANTINE
SETTLING = LEASE + LONGEST


class DrivenClock:
    """Stands until it is moved or slept on. asleep: called in turn, once each, by who sleeps."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.slept: list[float] = []
        self.asleep: list[Step] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def sleep(self, seconds: float, /) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if self.asleep:
            self.asleep.pop(0)()

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class CalmRuntime(BlockingRuntime):
    """A blocking runtime in one thread: what it is asked to do in the background waits."""

    def __init__(self, clock: DrivenClock) -> None:
        super().__init__(clock=clock)
        self.waiting: list[Coroutine[Any, Any, Any]] = []

    async def gather(
        self,
        coroutines: Iterable[Coroutine[Any, Any, T]] | AsyncIterable[Coroutine[Any, Any, T]],
        *,
        limit: int,
    ) -> list[T]:
        """See `Runtime.gather`; one after the other."""
        return await super().gather(coroutines, limit=1)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Keep it for `background`."""
        self.waiting.append(coroutine)
        return True

    def background(self) -> int:
        """Do what waits; how much it was."""
        waiting, self.waiting = self.waiting, []
        for coroutine in waiting:
            drive(coroutine)
        return len(waiting)

    def drop(self) -> None:
        """Let go of what was never done."""
        for coroutine in self.waiting:
            coroutine.close()


class Watched:
    """Something whose methods are coroutines, and between which and its caller a test may step.

    calls: names of methods in order. A step that raises takes the place of the call, or of its
    answer.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self._steps: dict[tuple[str, str], list[tuple[Step, bool]]] = defaultdict(list)

    def before(self, method: str, step: Step, *, always: bool = False) -> None:
        """Once, or always, before the call."""
        self._steps["before", method].append((step, always))

    def after(self, method: str, step: Step, *, always: bool = False) -> None:
        """Once, or always, after it has had its effect."""
        self._steps["after", method].append((step, always))

    def calm(self) -> None:
        """Forget all steps."""
        self._steps.clear()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found) or name in ("translate", "native", "reset"):
            return found

        async def called(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            self._do("before", name)
            answer = await found(*args, **kwargs)
            self._do("after", name)
            return answer

        return called

    def _do(self, when: str, name: str) -> None:
        steps = self._steps[when, name]
        if steps:
            step, always = steps[0]
            if not always:
                steps.pop(0)
            step()


async def _opened(config: LocalConfig, clock: DrivenClock) -> Any:
    return await BACKEND.open(config, CalmRuntime(clock))


class Store(Watched):
    """A local store that can say of anything to be its own URL to upload, and that others may
    write to."""

    def __init__(self, path: Path, clock: DrivenClock, *, lacks: Iterable[str] = ()) -> None:
        config = LocalConfig(path=path, lacks=frozenset(StorageCapability(name) for name in lacks))
        super().__init__(drive(_opened(config, clock)))
        self.capabilities = self.inner.capabilities | {StorageCapability.PRESIGN}
        self.limits = self.inner.limits
        self.max_request_lifetime = QUARANTINE

    async def presign(
        self, key: str, method: Literal["GET", "PUT"], *, expires_in: int, attributes: Attributes
    ) -> Presigned:
        self.calls.append("presign")
        return Presigned(method, f"https://store/{key}")

    def write(self, key: str, body: bytes, **metadata: str) -> None:
        """As other programs do: without a revision."""
        drive(self.inner.put(key, body, Attributes(metadata=metadata)))

    def remove(self, key: str) -> None:
        """As other programs do."""
        drive(self.inner.delete(key))

    def find(self, key: str) -> bytes | None:
        """What is there."""
        info = self.head_of(key)
        if info is None:
            return None

        async def read() -> bytes:
            reply = await self.inner.get(key)
            try:
                found: bytes = await reply.read()
                return found
            finally:
                await reply.close()

        return drive(read())

    def head_of(self, key: str) -> ObjectInfo | None:
        """What it says of it."""
        try:
            found: ObjectInfo = drive(self.inner.head(key))
        except LookupError:
            return None
        return found

    def all(self) -> dict[str, bytes]:
        """Everything that is there."""
        page = drive(self.inner.list("", delimiter=None, cursor=None, limit=1000))
        assert page.cursor is None
        return {found.key: self.find(found.key) or b"" for found in page.objects}

    def revisions(self) -> dict[str, str | None]:
        """The revision of everything that is there."""
        infos = {key: self.head_of(key) for key in self.all()}
        return {key: info.metadata.get(REVISION) for key, info in infos.items() if info}


class Process:
    """One of those who use the tenant's storage: its own lease, its own intents."""

    def __init__(self, world: World, **config: Any) -> None:
        self.world = world
        self.runtime = CalmRuntime(world.clock)
        settings = MigrationConfig(source="source", target="target", **world.config | config)
        self.terms = Terms("move", "source", "target", lease=settings.lease, soak=settings.soak)
        sides = Sides(world.source, world.target)
        moving = assemble(
            sides, world.ledger, SUBJECT, self.terms, settings, self.runtime, act=ACT, prefix=""
        )
        self.terms = moving.terms
        self.storage = moving.backend
        self.mover = moving.mover
        self.migration = AsyncMigration(
            world.ledger,
            SUBJECT,
            moving.terms,
            moving.mover,
            self.runtime,
            max_divergence=settings.max_divergence,
            who="tester",
        )
        self.pair = Pair(world.source, world.target, self.runtime)
        self.stage = StageLease(world.ledger, SUBJECT, self.terms, self.runtime)
        self.intents = Intents(
            world.ledger, SUBJECT, self.stage, self.runtime, act=ACT, quarantine=QUARANTINE
        )
        self.reconciler = Reconciler(self.pair, self.intents)

    # As an application -------------------------------------------------------------------

    def put(self, key: str, body: bytes, **conditions: Any) -> str:
        """Store it; its etag."""
        attributes = Attributes(metadata={REVISION: new_revision()})
        etag: str = drive(self.storage.put(key, body, attributes, **conditions)).etag
        return etag

    def get(self, key: str, **options: Any) -> bytes:
        """Read it."""

        async def read() -> bytes:
            reply = await self.storage.get(key, **options)
            try:
                found: bytes = await reply.read()
                return found
            finally:
                await reply.close()

        return drive(read())

    def head(self, key: str) -> ObjectInfo:
        """Describe it."""
        found: ObjectInfo = drive(self.storage.head(key))
        return found

    def delete(self, key: str, **conditions: Any) -> None:
        """Remove it."""
        drive(self.storage.delete(key, **conditions))

    def listed(
        self, *, limit: int = 1000, between: Callable[[int], object] | None = None
    ) -> list[str]:
        """All keys, page by page. between: called after each page with its number."""
        found: list[str] = []
        cursor = None
        number = 0
        while True:
            page = drive(self.storage.list("", delimiter=None, cursor=cursor, limit=limit))
            found += [one.key for one in page.objects]
            cursor = page.cursor
            if cursor is None:
                return found
            number += 1
            if between is not None:
                between(number)

    # As an operator ----------------------------------------------------------------------

    def start(self, **options: Any) -> State:
        """Begin, in off."""
        return drive(self.migration.start(**{"no_other_writers": True} | options))

    def advance(self, to: Stage | None = None, **options: Any) -> Stepped:
        """A stage on."""
        return drive(self.migration.advance(to, **options))

    def rollback(self, to: Stage | None = None, **options: Any) -> Stepped:
        """A stage back, or several."""
        return drive(self.migration.rollback(to, **options))

    def backfill(self, **options: Any) -> Mapping[str, Any]:
        """Bring over what was there."""
        return drive(self.migration.backfill(**options))

    def verify(self, **options: Any) -> Mapping[str, Any]:
        """Compare."""
        return drive(self.migration.verify(**options))

    def repair(self) -> Mapping[str, str]:
        """Finish what is due."""
        return drive(self.migration.repair())

    def to(self, stage: Stage) -> Process:
        """Start if need be, and go there as it should be gone, whatever lies on the way."""
        state = drive(self.world.ledger.inner.state(SUBJECT))
        if state is None:
            self.start(accept_losses=True)
        while (now := self.world.state().stage) is not stage:
            if list(Stage).index(now) > list(Stage).index(stage):
                self.rollback(stage)
                continue
            if now is Stage.DUALWRITE:
                self.backfill()
            if now in (Stage.SHADOW, Stage.RAMPDOWN):
                self.verify()
            self.advance()
        return self


class World:
    """Two stores, a ledger and a clock, and any number of processes."""

    def __init__(
        self, path: Path, *, lacks: Mapping[str, Iterable[str]] | None = None, **config: Any
    ) -> None:
        self.clock = DrivenClock()
        lacking = lacks or {}
        self.source = Store(path / "source", self.clock, lacks=lacking.get("source", ()))
        self.target = Store(path / "target", self.clock, lacks=lacking.get("target", ()))
        self.ledger = Watched(SqliteLedger(SqliteConfig(path=MEMORY), CalmRuntime(self.clock)))
        drive(self.ledger.inner.prepare())
        defaults = {"lease": LEASE, "upload_ttl": UPLOAD_TTL, "soak": 0.0, "concurrency": 1}
        self.config = {**defaults, "shadow_sample": 0.0, **config}
        self._processes: list[Process] = []

    def process(self, **config: Any) -> Process:
        """One more."""
        self._processes.append(Process(self, **config))
        return self._processes[-1]

    def state(self) -> State:
        """What the ledger knows."""
        found = drive(self.ledger.inner.state(SUBJECT))
        assert found is not None
        state: State = found
        return state

    def pending(self) -> Pending:
        """Intents."""
        found: Pending = drive(self.ledger.inner.pending(SUBJECT))
        return found

    def keys_pending(self) -> list[str]:
        """Those for which an intent stands, due or not."""
        found: list[tuple[str]] = self.ledger.inner._database.read(
            lambda db, now: db.execute("SELECT key FROM intents ORDER BY key").fetchall()
        )
        return [key for (key,) in found]

    def same(self) -> bool:
        """Whether both sides have the same, revisions and all."""
        infos: list[dict[str, tuple[Any, ...]]] = []
        for store in (self.source, self.target):
            told = {key: store.head_of(key) for key in store.all()}
            infos.append(
                {
                    key: (store.find(key), info.size)
                    for key, info in told.items()
                    if info is not None
                }
            )
        return infos[0] == infos[1]

    def close(self) -> None:
        """Let go of everything."""
        points.hook = None
        for process in self._processes:
            process.runtime.drop()
            drive(process.runtime.close())
        for store in (self.source, self.target):
            drive(store.inner.close())
        drive(self.ledger.inner.close())


class CrashError(BaseException):
    """The process is no more."""


def crash_at(point: Point, *, times: int = 1) -> None:
    """Die there, so many times."""
    left = [times]

    async def hook(reached: Point) -> None:
        if reached is point and left[0]:
            left[0] -= 1
            raise CrashError

    points.hook = hook


def do_at(point: Point, act: Step) -> None:
    """Do something there, once."""
    done: list[bool] = []

    async def hook(reached: Point) -> None:
        if reached is point and not done:
            done.append(True)
            act()

    points.hook = hook


def lost() -> NoReturn:
    """An answer, or a request, that was lost: who knows which."""
    raise UnavailableError("the connection was lost", retryable=True)


def late() -> NoReturn:
    """No answer in time."""
    raise DeadlineExceededError("no answer in time", retryable=True)


def refused() -> NoReturn:
    """The connection was not made."""
    raise UnavailableError("the connection was refused", retryable=True, not_sent=True)
