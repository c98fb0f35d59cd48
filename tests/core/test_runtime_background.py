"""Background work, on both faces: bounded, beside all others, joined, stopped, never in the way."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time

import pytest

from cm_platform.runtime import BlockingRuntime, Runtime, WorkStopped, drive
from cm_platform.runtime.protocol import BACKGROUND_LIMIT

from .doubles import Face, FakeClock

PATIENCE = 10.0


def test_background_work_is_joined_at_close(face: Face) -> None:
    done: list[int] = []

    async def work(runtime: Runtime, number: int) -> None:
        await runtime.sleep(0.01)
        done.append(number)

    async def run() -> list[bool]:
        runtime = face.runtime()
        taken = [runtime.spawn(work(runtime, number)) for number in range(10)]
        await runtime.close()
        assert runtime.dropped == 0
        return taken

    assert face.run(run()) == [True] * 10
    assert sorted(done) == list(range(10))


def test_background_work_beyond_the_bound_is_dropped_and_counted(face: Face) -> None:
    done: list[int] = []

    async def run() -> tuple[int, int]:
        runtime = face.runtime()
        go = runtime.event()

        async def work() -> None:
            await go.wait()
            done.append(1)

        taken = sum(runtime.spawn(work()) for _ in range(BACKGROUND_LIMIT + 7))
        go.set()
        await runtime.close()
        return taken, runtime.dropped

    assert face.run(run()) == (BACKGROUND_LIMIT, 7)
    assert len(done) == BACKGROUND_LIMIT


def test_room_is_there_again_when_work_is_done(face: Face) -> None:
    async def nothing() -> None:
        pass

    async def run() -> int:
        runtime = face.runtime()
        for _ in range(BACKGROUND_LIMIT * 2):
            give_up = time.monotonic() + PATIENCE
            while not runtime.spawn(nothing()):
                assert time.monotonic() < give_up
                await runtime.sleep(0.001)
        await runtime.close()
        return 1

    assert face.run(run()) == 1


def test_a_failure_in_the_background_is_logged_without_its_text(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise LookupError("CANARY")

    async def run() -> None:
        runtime = face.runtime()
        runtime.spawn(fails())
        await runtime.close()

    with caplog.at_level(logging.WARNING, "cm_platform.runtime"):
        face.run(run())
    assert [record.getMessage() for record in caplog.records] == [
        "background work failed: LookupError"
    ]
    assert "CANARY" not in caplog.text


def test_close_does_not_wait_for_ever(face: Face) -> None:
    async def run() -> float:
        runtime = face.runtime()
        release = runtime.event()

        async def stuck() -> None:
            await release.wait(PATIENCE)

        runtime.spawn(stuck())
        began = time.monotonic()
        await runtime.close(timeout=0.05)
        took = time.monotonic() - began
        release.set()
        return took

    assert face.run(run()) < PATIENCE / 2


def test_background_work_gathers_without_a_pool_of_its_own() -> None:
    runtime = BlockingRuntime()
    found: list[list[int]] = []

    async def value(number: int) -> int:
        return number

    async def work() -> None:
        found.append(await runtime.gather((value(n) for n in range(4)), limit=4))

    for _ in range(8):
        runtime.spawn(work())
    drive(runtime.close())
    assert found == [[0, 1, 2, 3]] * 8


# Without an end ---------------------------------------------------------------------------


def test_endless_work_starves_nobody(face: Face) -> None:
    async def run() -> int:
        runtime = face.runtime()
        done = runtime.event()
        beats = 0

        async def heartbeat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await runtime.sleep(0.005)

        async def work() -> None:
            done.set()

        for _ in range(BACKGROUND_LIMIT - 1):
            assert runtime.spawn(heartbeat())
        assert runtime.spawn(work())
        assert await done.wait(PATIENCE)
        await runtime.close(timeout=0.01)
        return beats

    assert face.run(run()) >= BACKGROUND_LIMIT - 1


@pytest.mark.parametrize("way", ["sleeps", "waits", "waits-with-timeout"])
def test_close_stops_what_waits_and_lets_it_clean_up(face: Face, way: str) -> None:
    log: list[str] = []

    async def run() -> float:
        runtime = face.runtime()
        never = runtime.event()

        async def endless() -> None:
            try:
                while True:
                    try:
                        if way == "sleeps":
                            await runtime.sleep(3600)
                        else:
                            await never.wait(None if way == "waits" else 3600)
                    except Exception:  # noqa: BLE001 - as a loop that survives failures
                        log.append("survived")
            except BaseException as stopped:
                log.append(type(stopped).__name__)
                raise
            finally:
                log.append("cleaned up")

        for _ in range(3):
            runtime.spawn(endless())
        began = time.monotonic()
        await runtime.close(timeout=0.01)
        return time.monotonic() - began

    assert face.run(run()) < PATIENCE / 2
    name = asyncio.CancelledError.__name__ if face.is_async else WorkStopped.__name__
    assert sorted(log) == sorted([name, "cleaned up"] * 3)


def test_what_is_stopped_is_no_failure(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        runtime = face.runtime()
        runtime.spawn(runtime.sleep(3600))
        await runtime.close(timeout=0.01)
        assert runtime.dropped == 0

    with caplog.at_level(logging.DEBUG, "cm_platform.runtime"):
        face.run(run())
    assert caplog.records == []


def test_stopped_work_that_waits_again_is_stopped_again() -> None:
    stops: list[str] = []
    runtime = BlockingRuntime()
    event = runtime.event()

    async def stubborn() -> None:
        try:
            await runtime.sleep(3600)
        except WorkStopped:
            stops.append("sleep")
        try:
            await event.wait()
        except WorkStopped:
            stops.append("wait")
            raise

    runtime.spawn(stubborn())
    drive(runtime.close(timeout=0.01))
    assert stops == ["sleep", "wait"]


def test_a_stop_does_not_reach_the_callers_thread_or_later_work(face: Face) -> None:
    async def run() -> list[bool]:
        runtime = face.runtime()
        event = runtime.event()
        runtime.spawn(runtime.sleep(3600))
        await runtime.close(timeout=0.01)

        async def later() -> None:
            await runtime.sleep(0.001)
            event.set()

        taken = runtime.spawn(later())
        woken = await event.wait(PATIENCE)
        await runtime.sleep(0.001)
        await runtime.close()
        return [taken, woken]

    assert face.run(run()) == [True, True]


def test_background_work_sleeps_on_the_clock_that_was_given(face: Face, clock: FakeClock) -> None:
    async def run() -> None:
        runtime = face.runtime(clock)
        runtime.spawn(runtime.sleep(3600))
        await runtime.close()

    face.run(run())
    assert clock.slept == [3600]


def test_work_on_a_clock_that_was_given_is_stopped_between_its_sleeps(clock: FakeClock) -> None:
    ended: list[int] = []
    runtime = BlockingRuntime(clock=clock)

    async def endless() -> None:
        try:
            while True:
                await runtime.sleep(1)
        finally:
            ended.append(1)

    runtime.spawn(endless())
    drive(runtime.close(timeout=0.01))
    assert ended == [1]


def test_work_that_work_starts_is_joined_too() -> None:
    done: list[int] = []
    runtime = BlockingRuntime()

    async def inner() -> None:
        await runtime.sleep(0.01)
        done.append(1)

    async def outer() -> None:
        await runtime.sleep(0.01)
        runtime.spawn(inner())

    runtime.spawn(outer())
    drive(runtime.close())
    assert done == [1]


def test_an_event_in_the_background_is_waited_for_as_elsewhere() -> None:
    found: list[bool] = []
    runtime = BlockingRuntime()
    event = runtime.event()

    async def waits(timeout: float) -> None:
        found.append(await event.wait(timeout))

    runtime.spawn(waits(0.001))
    drive(runtime.close())
    runtime.spawn(waits(PATIENCE))
    event.set()
    drive(runtime.close())
    assert found == [False, True]


def test_close_leaves_behind_what_no_stop_can_reach(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release, ended = threading.Event(), threading.Event()
    runtime = BlockingRuntime()

    async def busy() -> None:
        release.wait(PATIENCE)
        ended.set()

    runtime.spawn(busy())
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "cm_platform.runtime"):
        drive(runtime.close(timeout=0.01))
    assert time.monotonic() - began < PATIENCE / 2
    assert [record.getMessage() for record in caplog.records] == [
        "1 background threads are still busy and are left behind"
    ]
    release.set()
    assert ended.wait(PATIENCE)
    drive(runtime.close())


# The process ------------------------------------------------------------------------------

HEARTBEAT = """
import sys
from cm_platform.runtime import BlockingRuntime, drive

runtime = BlockingRuntime()
beating = runtime.event()

async def heartbeat():
    while True:
        beating.set()
        await runtime.sleep(3600 if sys.argv[1] == "rarely" else 0.001)

for _ in range(8):
    assert runtime.spawn(heartbeat())
assert drive(beating.wait(10))
if sys.argv[2] == "closed":
    drive(runtime.close(timeout=0.1))
print("the end", flush=True)
"""


@pytest.mark.parametrize("end", ["closed", "not-closed"])
@pytest.mark.parametrize("beats", ["rarely", "often"])
def test_a_process_with_an_endless_heartbeat_ends(beats: str, end: str) -> None:
    with subprocess.Popen(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-X", "dev", "-c", HEARTBEAT, beats, end],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "the end\n"
            assert process.wait(timeout=2) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


EXIT = """
import atexit
from cm_platform.runtime import BlockingRuntime

runtime = BlockingRuntime()

async def work():
    pass

assert runtime.spawn(work())
atexit.register(lambda: print(runtime.spawn(work()), runtime.dropped))
"""


def test_work_at_the_interpreters_exit_is_dropped_quietly() -> None:
    ended = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-X", "dev", "-c", EXIT],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("False 1\n", "")
