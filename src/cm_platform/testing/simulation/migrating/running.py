"""One simulated migration, from its seed to the verdict."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cm_platform.migration.ledger import is_mirrored
from cm_platform.migration.stages import BACKFILL
from cm_platform.migration.storage import reconcile
from cm_platform.routing import Stage
from cm_platform.runtime import drive
from cm_platform.storage.backend import Attributes
from cm_platform.testing.simulation.linearizability import Operation, check
from cm_platform.testing.simulation.points import CrashPoints
from cm_platform.testing.simulation.scheduler import Simulation
from cm_platform.testing.simulation.store import SimulatedStore, differences
from cm_platform.testing.simulation.stuck import SimulationError

from .balance import Balance
from .clients import LEFTOVER, OLD, Client
from .crashing import JANITOR, Crash, StagedPoints
from .operating import Operator, settle
from .recording import Record
from .scenario import Scenario, Value
from .world import SUBJECT, LedgerServer, Member, World

_MOST_STEPS = 200_000
_LIVES = 3
_PART_SIZE = "PART_SIZE"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a simulated migration ended.

    wrong: what was found, in words; nothing, if all is well. steps, seconds: how long it took,
    in the scheduler's steps and in virtual seconds. faults: that came, of stores and ledger.
    operations: of clients, by outcome. reached: the points of the protocol. retried: what the
    operator had to do again. stage: the last one. trace: if it was asked for. places: the
    points with their stages, in order, died: the crashes there, both if it was asked for.
    looks: how often both stores were compared on the way, see `Balance`.
    """

    seed: int
    wrong: Sequence[str]
    steps: int
    seconds: float
    stage: Stage | None
    faults: Counter[str] = field(default_factory=Counter[str])
    operations: Counter[str] = field(default_factory=Counter[str])
    reached: Counter[str] = field(default_factory=Counter[str])
    retried: Sequence[str] = ()
    killed: int = 0
    histories: dict[str, Sequence[Operation]] = field(
        default_factory=dict[str, Sequence[Operation]]
    )
    trace: Sequence[str] = ()
    places: Sequence[Crash] = ()
    died: Sequence[Crash] = ()
    looks: int = 0


def simulate(
    seed: int,
    *,
    scenario: Scenario | None = None,
    server: LedgerServer | None = None,
    crashes: Sequence[tuple[str, int] | Crash] = (),
    staged: bool = False,
    traced: bool = False,
) -> Outcome:
    """Run one migration and judge it.

    scenario: drawn from the seed, by default. server: a ledger that many simulations use, one
    after the other. crashes: points of the protocol at which a process dies, with the time at
    which it does, or with a stage as well. staged: note in which stages points are reached; it
    is noted, too, where a crash has a stage.
    """
    if server is None:
        with LedgerServer() as own:
            return simulate(
                seed, scenario=scenario, server=own, crashes=crashes, staged=staged, traced=traced
            )
    scenario = scenario or Scenario.drawn(random.Random(seed))  # noqa: S311 - dice
    with Simulation(
        seed,
        stall=scenario.stall,
        longest_stall=scenario.times.stalled,
        traced=traced,
    ) as simulation:
        placed = [crash for crash in crashes if isinstance(crash, Crash)]
        plain = [crash for crash in crashes if not isinstance(crash, Crash)]
        points = (
            StagedPoints(simulation, server, placed, *plain)
            if placed or staged
            else CrashPoints(
                simulation, *plain, allowed=lambda: simulation.task.process.name != JANITOR
            )
        )
        with points.installed(), _copied_in_parts(scenario.part_size):
            return _Run(simulation, scenario, server, points).outcome()


@contextmanager
def _copied_in_parts(size: int | None) -> Generator[None, None, None]:
    """Objects of more than so many bytes are copied in parts: simulated ones are small."""
    before: int = getattr(reconcile, _PART_SIZE)
    if size is not None:
        setattr(reconcile, _PART_SIZE, size)
    try:
        yield
    finally:
        setattr(reconcile, _PART_SIZE, before)


class _Run:
    def __init__(
        self,
        simulation: Simulation,
        scenario: Scenario,
        server: LedgerServer,
        points: CrashPoints,
    ) -> None:
        self.simulation = simulation
        self.scenario = scenario
        self.points = points
        self.world = World(simulation, scenario, server)
        self.record = Record(self.world.store_faults)
        self.operator = Operator(self.world)
        self.balance = Balance(self.world)
        self.initial: dict[str, Value] = {}
        self.wrong: list[str] = []

    def outcome(self) -> Outcome:
        simulation, points = self.simulation, self.points
        self._furnish()
        try:
            with self.balance.watched():
                self._run()
        except SimulationError as error:
            self.wrong.append(f"{type(error).__name__}: {error}")
        else:
            self.wrong += self.operator.found
            self.wrong += self.balance.found
            self.wrong += self.record.wrong
            self._judge()
        stage = self._stage()
        return Outcome(
            simulation.seed,
            self.wrong,
            simulation.steps,
            simulation.now,
            stage,
            Counter({str(fault): n for fault, n in self.world.store_faults.seen.items()})
            + Counter({f"ledger {fault}": n for fault, n in self.world.ledger_faults.seen.items()}),
            Counter(f"{call.kind} {call.outcome}" for call in self.record.calls),
            self.points.reached,
            self.operator.attempts,
            simulation.killed,
            {key: self.record.history(key) for key in self.scenario.keys},
            simulation.trace or (),
            points.places if isinstance(points, StagedPoints) else (),
            points.died if isinstance(points, StagedPoints) else (),
            self.balance.looks,
        )

    def _furnish(self) -> None:
        """What was there before: objects of ours, of others, and leftovers on the target."""
        dice = self.simulation.random
        for number, key in enumerate((*self.scenario.keys, OLD, LEFTOVER)):
            body = f"before{number}".encode()
            if key == LEFTOVER or dice.random() < 0.1:
                self.world.target.put(key, b"left over", Attributes())
            if key == OLD or (key != LEFTOVER and dice.random() < 0.5):
                is_ours = dice.random() < 0.5
                metadata = {"cm-rev": f"before-{number}"} if is_ours else {}
                self.world.source.put(key, body, Attributes("text/plain", metadata=metadata))
                self.initial[key] = (body, None)

    def _run(self) -> None:
        simulation, world, scenario = self.simulation, self.world, self.scenario
        keepers = [
            simulation.process(f"keeper{number}").spawn(self._kept(number))
            for number in range(scenario.processes)
        ]
        watching = simulation.process("watch").spawn(self.operator.watch())
        simulation.run(until=[*keepers, watching], max_steps=_MOST_STEPS)
        world.stop_faults()
        janitor = world.join(JANITOR, calm=True)
        settling = janitor.process.spawn(settle(world, janitor))
        simulation.run(until=settling, max_steps=_MOST_STEPS)

    async def _kept(self, number: int) -> None:
        """An application. When it dies, another one goes on with what its clients had to do."""
        left = [self.scenario.operations] * self.scenario.clients
        for life in range(_LIVES):
            member = self.world.join(f"app{number}.{life}")
            clients = [self._client(member, number, life, i, n) for i, n in enumerate(left)]
            tasks = [member.process.spawn(client.run(), client.name) for client in clients]
            while not all(task.is_over for task in tasks):
                await self.simulation.sleep(2.0)
            left = [client.left for client in clients]
            if not any(left):
                return

    def _client(self, member: Member, number: int, life: int, client: int, left: int) -> Client:
        return Client(
            f"{number}{'xyz'[client]}{life or ''}",
            member.storage,
            member.runtime,
            self.simulation,
            self.record,
            self.scenario,
            (self.world.source, self.world.target),
            self.points,
            left=left,
            only_reads=number >= self.scenario.processes - self.scenario.readers,
        )

    def _judge(self) -> None:
        world = self.world
        state = drive(world.ledger.state(SUBJECT))
        authority = world.source
        if state is not None:
            authority = world.source if state.authority == "source" else world.target
            notes = drive(world.ledger.notes(SUBJECT))
            backfilled = BACKFILL in notes and notes[BACKFILL].body.get("complete")
            if is_mirrored(state.stage) and backfilled:
                for key, how in differences(world.source, world.target).items():
                    self.wrong.append(f"divergent: {key!r} ({how}) in {state.stage}")
        for key in self.scenario.keys:
            self._judge_key(key, authority)
        old = authority.objects.get(OLD)
        if old is None or old.body != self.initial[OLD][0]:
            self.wrong.append("lost: an object that nobody touched")
        if LEFTOVER in authority.objects:
            self.wrong.append("resurrected: an object that was only on the target")

    def _judge_key(self, key: str, authority: SimulatedStore) -> None:
        stored = authority.objects.get(key)
        value = None if stored is None else (stored.body, stored.info.metadata.get("n"))
        now = self.record.now()
        history = [
            *self.record.history(key),
            Operation("read", now, now, value, client="the end"),
        ]
        verdict = check(history, self.initial.get(key), version=self.scenario.version)
        if not verdict.is_linearizable:
            told = [operation for operation in history if operation not in verdict.order]
            self.wrong.append(f"not linearizable: {key!r}, at {told[0] if told else '?'}")

    def _stage(self) -> Stage | None:
        state = drive(self.world.ledger.state(SUBJECT))
        return None if state is None else state.stage


__all__ = ["Outcome", "simulate"]
