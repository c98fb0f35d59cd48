"""Several processes on one file of `ledger.sqlite`: the fence between them, and sudden death."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from cm_platform.migration.ledger import Busy, Move
from cm_platform.routing import Stage
from cm_platform.runtime import SYSTEM_CLOCK

from .sqlite_ledgers import ACME, OFF, TERMS, Opened, opened

PREAMBLE = """
import os, signal, sys, uuid
from pathlib import Path
from cm_platform.migration.ledger import *
from cm_platform.migration.ledgers.sqlite import BACKEND, SqliteConfig, fence
from cm_platform.routing import Stage
from cm_platform.runtime import BlockingRuntime, drive

ACME = Subject("storage", "acme")
me = sys.argv[2]

def opened(path=sys.argv[1]):
    config = SqliteConfig(path=Path(path), busy_timeout=60)
    return drive(BACKEND.open(config, BlockingRuntime()))

def begin():
    print("ready", flush=True)
    sys.stdin.readline()
"""

# Says, for each intent, the epoch that it was begun in, while it stands.
WRITE_ON = """
ledger = opened()
begin()
while True:
    epoch = drive(ledger.state(ACME)).epoch
    id_ = uuid.uuid4().hex
    try:
        drive(ledger.begin(ACME, epoch, me, [Intent(id_, f"epoch-{epoch}")], 600))
    except Fenced:
        continue
    print(epoch, flush=True)
    drive(ledger.end(me, [id_]))
"""

CLAIM = """
ledger = opened()
begin()
while True:
    claimed = drive(ledger.claim(ACME, me, 600, 3))
    if not claimed:
        break
    for intent in claimed:
        print(intent.id)
drive(ledger.close())
"""

MOVE = """
ledger = opened()
begin()
for number in range(40):
    state = drive(ledger.state(ACME))
    to = Stage.SHADOW if state.stage is Stage.DUALWRITE else Stage.DUALWRITE
    try:
        drive(ledger.move(ACME, state.epoch, Move(f"{me}-{number}", to, me)))
    except Fenced:
        continue
    print(number)
drive(ledger.close())
"""

OPEN = """
begin()
for number in range(10):
    ledger = opened(f"{sys.argv[1]}{number}/ledger")
    drive(ledger.note(ACME, me, {}))
    drive(ledger.close())
"""

# Everything is written by then, and nothing committed.
DIE_BEFORE_THE_COMMIT = """
ledger = opened()
real = fence.begin
def die(*args):
    real(*args)
    os.kill(os.getpid(), signal.SIGKILL)
fence.begin = die
begin()
drive(ledger.begin(ACME, 2, me, [Intent("id", "key")], 600))
"""

DIE_HOLDING = """
ledger = opened()
begin()
drive(ledger.begin(ACME, 2, me, [Intent(f"{n}", f"key-{n}") for n in range(3)], 1.0))
print("begun", flush=True)
sys.stdin.readline()
"""

CHILDREN = 4


@contextmanager
def process(path: Path, script: str, name: str = "writer") -> Iterator[subprocess.Popen[str]]:
    """A process that has come to where it begins when a line is sent to it."""
    command = [sys.executable, "-c", PREAMBLE + script, str(path), name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:  # noqa: S603
        try:
            assert line(child) == "ready"
            yield child
        finally:
            child.kill()


def begin(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def outputs(path: Path, script: str) -> list[list[str]]:
    """The lines of four processes that did the same at the same time."""
    with ExitStack() as stack:
        children = [stack.enter_context(process(path, script, f"{n}")) for n in range(CHILDREN)]
        for child in children:
            begin(child)
        found = [child.communicate(timeout=60)[0].splitlines() for child in children]
        assert [child.returncode for child in children] == [0] * CHILDREN
    return found


def check_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(path: Path) -> Iterator[Opened]:
    """In the stage dualwrite; by the machine's clock, as the other processes."""
    with opened(path, clock=SYSTEM_CLOCK, busy_timeout=60) as found:
        found.to_dualwrite()
        yield found


def test_of_due_intents_none_is_claimed_by_two_processes(path: Path, ledger: Opened) -> None:
    for number in range(100):
        ledger.begins(f"{number}", lease=0)
    found = outputs(path, CLAIM)
    assert sorted(int(id_) for lines in found for id_ in lines) == list(range(100))
    for name, lines in enumerate(found):
        assert ledger.extend(f"{name}", lines, 600)


def test_moves_of_four_processes_leave_one_way(path: Path, ledger: Opened) -> None:
    found = outputs(path, MOVE)
    log = ledger.log(ACME)
    made = [f"{name}-{number}" for name, lines in enumerate(found) for number in lines]
    assert sorted(line.id for line in log[2:]) == sorted(made)
    assert [line.epoch for line in log] == list(range(1, len(log) + 1))
    assert [line.before for line in log[1:]] == [line.to for line in log[:-1]]


def test_four_processes_that_make_a_file_at_once_share_it(tmp_path: Path) -> None:
    outputs(tmp_path / "new", OPEN)
    for number in range(10):
        with opened(tmp_path / f"new{number}" / "ledger") as ledger:
            assert set(ledger.notes(ACME)) == {f"{number}" for number in range(CHILDREN)}


def test_between_processes_no_intent_outlives_its_epochs_flip(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with opened(path, clock=SYSTEM_CLOCK, busy_timeout=60) as ledger, ExitStack() as stack:
        quick = type(TERMS)("to-new", "old", "new", lease=0.05)
        ledger.run(ledger.ledger.start(ACME, quick, OFF))
        epoch = ledger.move(ACME, 1, Move("1", Stage.DUALWRITE, "operator")).epoch
        children = [stack.enter_context(process(path, WRITE_ON, f"writer-{n}")) for n in range(3)]
        for child in children:
            begin(child)
            assert line(child) == str(epoch)
        for number in range(6):
            to = Stage.DUALWRITE if number % 2 else Stage.LIVE
            ledger.announce(ACME, epoch, 60)
            time.sleep(0.06)
            ledger.pause(ACME, epoch, 60)
            before, epoch = epoch, flipped(ledger, epoch, Move(f"flip-{number}", to, "operator"))
            for _ in range(20):
                assert not ledger.is_pending(ACME, f"epoch-{before}")
            # Each writes on, in the new epoch; what it said before is still in the pipe.
            for child in children:
                while (said := int(line(child))) < epoch:
                    assert said >= before
                assert said == epoch
        for child in children:
            child.kill()
            child.wait(30)
        assert ledger.pending(ACME).count <= len(children)
    check_file(path)


def flipped(ledger: Opened, epoch: int, move: Move) -> int:
    """The epoch after a flip; tried until the writers have let go."""
    deadline = time.monotonic() + 30
    while True:
        try:
            found = ledger.move(ACME, epoch, move).epoch
        except Busy:
            assert time.monotonic() < deadline
        else:
            assert isinstance(found, int)
            return found


def test_a_process_killed_before_its_commit_leaves_no_intent(path: Path, ledger: Opened) -> None:
    with process(path, DIE_BEFORE_THE_COMMIT) as child:
        begin(child)
        assert child.wait(30) == -signal.SIGKILL
    assert ledger.pending(ACME).count == 0
    # Nor does it keep others from writing.
    ledger.begins("id")
    assert ledger.is_pending(ACME, "key")
    check_file(path)


def test_what_a_killed_process_held_is_repaired_when_its_time_is_over(
    path: Path, ledger: Opened
) -> None:
    with process(path, DIE_HOLDING) as child:
        begin(child)
        assert line(child) == "begun"
        child.kill()
        child.wait(30)
    assert ledger.pending(ACME).count == 3
    assert ledger.pending(ACME).oldest >= 0
    deadline = time.monotonic() + 30
    claimed: list[str] = []
    while len(claimed) < 3:
        assert time.monotonic() < deadline
        claimed += [intent.id for intent in ledger.claim(ACME, "repairer", 600, 10)]
        time.sleep(0.01)
    ledger.end("writer", claimed)
    assert ledger.pending(ACME).count == 3
    ledger.end("repairer", claimed)
    assert ledger.pending(ACME).count == 0


@pytest.mark.parametrize("after", [1, 20])
def test_a_process_killed_while_it_writes_leaves_a_good_file(
    path: Path, ledger: Opened, after: int
) -> None:
    with process(path, WRITE_ON) as child:
        begin(child)
        for _ in range(after):
            assert line(child) == "2"
        child.kill()
        child.wait(30)
    assert ledger.pending(ACME).count <= 1
    ledger.begins("id")
    assert ledger.is_pending(ACME, "key")
    check_file(path)
