"""Several processes on one file of `cache.local`: exact counts, one winner, and sudden death."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from .opened import Opened, opened

PREAMBLE = """
import os, signal, sys
from pathlib import Path
from cm_platform.cache.local import BACKEND, LocalConfig
from cm_platform.cache.local.file import FileTable
from cm_platform.runtime import BlockingRuntime, drive

def opened():
    config = LocalConfig(path=Path(sys.argv[1]), busy_timeout=60)
    return drive(BACKEND.open(config, BlockingRuntime()))

def begin():
    print("ready", flush=True)
    sys.stdin.readline()
"""

COUNT = """
cache = opened()
begin()
for _ in range(250):
    print(drive(cache.increment("acme/", "n", 1, initial=None, ttl=None)).value)
drive(cache.close())
"""

SWAP = """
cache = opened()
begin()
for round in range(100):
    me = sys.argv[2].encode()
    key = f"k{round}"
    first = drive(cache.compare_and_set("acme/", key, None, me, ttl=None))
    second = drive(cache.set("acme/", "s" + key, me, ttl=None, only_if="absent")).stored
    print(int(first), int(second))
drive(cache.close())
"""

OPEN = """
begin()
for number in range(10):
    config = LocalConfig(path=Path(f"{sys.argv[1]}{number}") / "cache")
    cache = drive(BACKEND.open(config, BlockingRuntime()))
    drive(cache.set("acme/", sys.argv[2], b"here", ttl=None))
    drive(cache.close())
print("done", flush=True)
"""

WRITE_ON = """
import itertools
cache = opened()
begin()
for number in itertools.count():
    data = bytes([number % 256]) * (1 + number * 7919 % 400_000)
    drive(cache.set("acme/", f"k{number % 20}", data, ttl=None))
    drive(cache.increment("acme/", "n", 1, initial=None, ttl=None))
    print(number + 1, flush=True)
"""

DIE = """
cache = opened()
drive(cache.set("acme/", "a", b"old", ttl=None))
refresh = FileTable.refresh
def die(table, keys):
    refresh(table, keys)
    os.kill(os.getpid(), signal.SIGKILL)
FileTable.refresh = die  # everything is written by now, and nothing committed
begin()
drive(cache.set("acme/", "a", b"new" * 100_000, ttl=None))
"""

CHILDREN = 4


@contextmanager
def process(path: Path, script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has come to where it begins when a line is sent to it."""
    command = [sys.executable, "-c", PREAMBLE + script, str(path), *arguments]
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
        children = [
            stack.enter_context(process(path, script, str(number))) for number in range(CHILDREN)
        ]
        for child in children:
            begin(child)
        found = [child.communicate(timeout=60)[0].splitlines() for child in children]
        assert [child.returncode for child in children] == [0] * CHILDREN
    return found


def check_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = "SELECT bytes, (SELECT coalesce(sum(size), 0) FROM entries) FROM store"
        counted, summed = db.execute(query).fetchone()
        assert counted == summed


def test_increments_of_four_processes_are_exact_and_each_gets_its_own(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    found = outputs(path, COUNT)
    assert sorted(int(text) for lines in found for text in lines) == list(range(1, 1001))
    assert all([int(text) for text in lines] == sorted(map(int, lines)) for lines in found)
    with opened("sync", path) as cache:
        assert cache.get("n") == b"1000"
    check_file(path)


def test_of_four_processes_that_swap_one_wins_each_time(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    found = outputs(path, SWAP)
    with opened("sync", path) as cache:
        for turn in range(100):
            results = [lines[turn].split() for lines in found]
            for kind, key in enumerate((f"k{turn}", f"sk{turn}")):
                winners = [n for n, result in enumerate(results) if result[kind] == "1"]
                assert len(winners) == 1
                assert cache.get(key) == b"%d" % winners[0]


def test_four_processes_that_make_a_file_at_once_share_it(tmp_path: Path) -> None:
    assert outputs(tmp_path / "new", OPEN) == [["done"]] * CHILDREN
    for number in range(10):
        path = tmp_path / f"new{number}" / "cache"
        with opened("sync", path) as cache:
            keys = [str(number) for number in range(CHILDREN)]
            assert cache.get_many(keys) == [b"here"] * CHILDREN
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_process_killed_before_it_commits_leaves_the_old_value(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with process(path, DIE) as child:
        begin(child)
        assert child.wait(30) == -signal.SIGKILL
    with opened("sync", path) as cache:
        assert cache.get("a") == b"old"
        assert cache.set("a", b"newer")
        assert cache.get("a") == b"newer"
    check_file(path)


@pytest.mark.parametrize("after", [1, 7, 40])
def test_a_process_killed_while_it_writes_leaves_a_good_file(tmp_path: Path, after: int) -> None:
    path = tmp_path / "cache"
    with opened("sync", path) as watcher, process(path, WRITE_ON) as child:
        begin(child)
        done = 0
        while done < after:
            done = int(line(child))
        child.kill()
        assert child.stdout is not None
        rest = child.stdout.read().split()
        child.wait(30)
        # The last line may be cut.
        done = max([done, *(int(text) for text in rest[:-1])])
        check_written(watcher, done)
        assert watcher.count("n").value >= done + 1
    check_file(path)
    with opened("sync", path) as cache:
        check_written(cache, done)


def check_written(cache: Opened, done: int) -> None:
    """What was answered is there, and everything that is there is whole."""
    for number in range(max(0, done - 20), done):
        value = cache.get(f"k{number % 20}")
        assert value is not None
        kinds = {number, number + 20, number + 40}
        assert value in [bytes([n % 256]) * (1 + n * 7919 % 400_000) for n in kinds]
