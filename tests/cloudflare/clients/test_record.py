"""The file in which the processes of a machine count together, and what may happen to it."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from cm_platform.cloudflare.limiter import Limiter
from cm_platform.cloudflare.record import FileRecord, LocalRecord, record_of
from cm_platform.errors import RateLimitedError
from cm_platform.runtime import BlockingRuntime, drive

from .doubles import FakeClock

NAME = "token.rate"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "private"


def limiter(place: Path, clock: FakeClock, cap: int = 3) -> Limiter:
    """One that shares nothing with others in this process but the file."""
    record = FileRecord(place, NAME)
    return Limiter(record, BlockingRuntime(clock=clock), max_requests=cap, period=10.0)


def use(limited: Limiter, count: int = 1) -> None:
    for _ in range(count):
        drive(limited.ended(drive(limited.admit(0))))


def wait_of(limited: Limiter) -> float:
    with pytest.raises(RateLimitedError) as caught:
        drive(limited.admit(0))
    assert caught.value.retry_after is not None
    return caught.value.retry_after


def test_limiters_count_together_through_the_file(place: Path) -> None:
    clock = FakeClock()
    one, other = limiter(place, clock), limiter(place, clock)
    use(one, 2)
    use(other)
    assert wait_of(one) == wait_of(other) == pytest.approx(10.01)


def test_a_stand_still_holds_for_all(place: Path) -> None:
    clock = FakeClock()
    one, other = limiter(place, clock), limiter(place, clock)
    ticket = drive(one.admit(0))
    drive(one.ended(ticket, 429, httpx.Headers({"retry-after": "300"})))
    assert wait_of(other) == pytest.approx(300)


def test_limiters_with_other_figures_share_the_file(place: Path) -> None:
    clock = FakeClock()
    use(limiter(place, clock, cap=3), 3)
    wide = limiter(place, clock, cap=5)
    use(wide, 2)
    wait_of(wide)


def test_the_file_and_its_directory_are_private(place: Path) -> None:
    limiter(place, FakeClock())
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / NAME).stat().st_mode & 0o777 == 0o600


def test_the_files_size_never_changes(place: Path) -> None:
    clock = FakeClock()
    limited = limiter(place, clock, cap=1)
    use(limited)
    size = (place / NAME).stat().st_size
    for _ in range(50):
        clock.move(11)
        use(limited)
    assert (place / NAME).stat().st_size == size < 64 * 1024


def test_a_token_is_not_written_down(place: Path) -> None:
    token = "the-token-of-the-tests"
    record = record_of(token, place)
    assert record.shared
    use(Limiter(record, BlockingRuntime(), max_requests=3, period=10.0))
    (file,) = place.iterdir()
    assert token not in file.name
    assert token.encode() not in file.read_bytes()


def test_a_process_has_one_record_of_a_token(place: Path) -> None:
    assert record_of("token", place) is record_of("token", place)
    assert record_of("token", place) is not record_of("another", place)


# A place that cannot be trusted, or written


def refuse_directory_of_others(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def refuse_readable_directory(place: Path) -> None:
    place.mkdir()
    place.chmod(0o750)


def refuse_link_to_directory(place: Path) -> None:
    real = place.with_name("real")
    real.mkdir(mode=0o700)
    place.symlink_to(real)


def refuse_link_in_place_of_the_file(place: Path) -> None:
    place.mkdir(mode=0o700)
    for name in names(place):
        (place / name).symlink_to(place.with_name("elsewhere"))


def refuse_pipe_in_place_of_the_file(place: Path) -> None:
    place.mkdir(mode=0o700)
    for name in names(place):
        os.mkfifo(place / name, 0o600)


def refuse_file_of_others(place: Path) -> None:
    place.mkdir(mode=0o700)
    for name in names(place):
        (place / name).touch()
        (place / name).chmod(0o666)


def refuse_file_in_place_of_directory(place: Path) -> None:
    place.write_text("")


def names(place: Path) -> list[str]:
    import hashlib

    digest = hashlib.sha256(b"cm_platform rest limiter\0token").hexdigest()[:40]
    return [f"{digest}.rate"]


@pytest.mark.parametrize(
    "prepare",
    [
        refuse_directory_of_others,
        refuse_readable_directory,
        refuse_link_to_directory,
        refuse_link_in_place_of_the_file,
        refuse_pipe_in_place_of_the_file,
        refuse_file_of_others,
        refuse_file_in_place_of_directory,
    ],
)
def test_a_place_that_others_could_change_is_not_used(
    place: Path, prepare: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    prepare(place)
    with caplog.at_level(logging.WARNING):
        record = record_of("token", place)
    assert not record.shared
    assert "this process alone counts" in caplog.text
    assert not place.with_name("elsewhere").exists()
    clock = FakeClock()
    limited = Limiter(record, BlockingRuntime(clock=clock), max_requests=3, period=10.0)
    use(limited, 3)
    wait_of(limited)


def test_a_read_only_disk_is_said_and_the_cap_still_holds_for_the_process(
    place: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **how: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with caplog.at_level(logging.WARNING):
        record = record_of("token", place)
    assert not record.shared
    assert "Read-only file system" in caplog.text
    assert record_of("token", place) is record


def test_without_a_directory_for_temporary_files_the_process_counts_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    assert not record_of("another token of this test").shared


def test_a_disk_that_fails_later_counts_as_if_all_had_been_used(
    place: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    record = FileRecord(place, NAME)
    runtime = BlockingRuntime(clock=clock)
    one = Limiter(record, runtime, max_requests=3, period=10.0)
    other = Limiter(record, runtime, max_requests=3, period=10.0)
    use(one)

    def refuse(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with caplog.at_level(logging.WARNING):
        wait_of(one)
        wait_of(other)
    assert caplog.text.count("No space left on device") == 1
    clock.move(10.1)
    use(one, 2)
    use(other)
    wait_of(one)
    assert not one.shared


def test_files_lie_with_the_temporary_ones_unless_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert record_of("token of this test").shared
    assert [path.name for path in tmp_path.iterdir()] == [f"cm_platform-{os.geteuid()}"]


# A file that is not what it was


def header(taken: int, blocked: float, changed: float) -> Callable[[bytes], bytes]:
    """A header that is whole, and cannot be."""
    fields = struct.pack("<8sQddd", b"cm-rate1", taken, blocked, changed, 1.0)
    return lambda data: fields + struct.pack("<I", zlib.crc32(fields)) + data[len(fields) + 4 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[:100],
    "cut off in its header": lambda data: data[:10],
    "noise": lambda data: os.urandom(len(data)),
    "zeros": lambda data: bytes(len(data)),
    "another header": lambda data: data[:12] + b"\xff" + data[13:],
    "changed at the end of time": header(5, 0.0, float("inf")),
    "blocked to the end of time": header(5, float("inf"), 0.0),
    "more requests than can be": header(2**64 - 1, 0.0, 0.0),
    "another program's": lambda data: b"#!/bin/sh\n" * 100,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_counts_as_if_all_had_been_used(
    place: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    limited = limiter(place, clock)
    use(limited)
    (place / NAME).write_bytes(damage((place / NAME).read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert wait_of(limited) == pytest.approx(10.01)
    assert "damaged" in caplog.text
    clock.move(10.1)
    use(limited, 3)
    wait_of(limited)


@pytest.mark.parametrize("stamp", [float("nan"), float("inf"), 1e300])
def test_a_time_that_cannot_be_counts_as_now(place: Path, stamp: float) -> None:
    clock = FakeClock()
    limited = limiter(place, clock)
    use(limited, 3)
    clock.move(10.1)
    data = bytearray((place / NAME).read_bytes())
    data[64 : 64 + 8] = struct.pack("<d", stamp)
    (place / NAME).write_bytes(data)
    assert wait_of(limited) == pytest.approx(10.01)
    clock.move(10.02)
    use(limited, 3)


def test_an_empty_file_is_a_new_one(place: Path) -> None:
    limited = limiter(place, FakeClock())
    assert (place / NAME).stat().st_size == 0
    use(limited, 3)


def test_a_deleted_file_is_made_anew_with_what_was_in_it(place: Path) -> None:
    clock = FakeClock()
    one = limiter(place, clock)
    use(one, 3)
    (place / NAME).unlink()
    wait_of(one)
    wait_of(limiter(place, clock))


def test_a_deleted_directory_is_made_anew(place: Path) -> None:
    clock = FakeClock()
    one = limiter(place, clock)
    use(one, 3)
    (place / NAME).unlink()
    place.rmdir()
    wait_of(one)
    assert one.shared


# Clocks


@pytest.mark.parametrize("jump", [-86_400.0, -1.0, 1.0, 86_400.0])
def test_a_wall_clock_that_is_set_changes_nothing(place: Path, jump: float) -> None:
    clock = FakeClock()
    limited = limiter(place, clock)
    use(limited, 3)
    clock.move(4)
    clock.wall_now += jump
    assert wait_of(limited) == pytest.approx(6.01)


@pytest.mark.parametrize(
    ("away", "waits"), [(4.0, 6.01), (0.0, 10.01), (-50.0, 10.01)], ids=["later", "now", "earlier"]
)
def test_after_a_restart_of_the_machine_the_wall_clock_tells_how_old_the_record_is(
    place: Path, away: float, waits: float
) -> None:
    clock = FakeClock(now=5000.0)
    use(limiter(place, clock), 3)
    clock.now = 7.0
    clock.wall_now += away
    limited = limiter(place, clock)
    assert wait_of(limited) == pytest.approx(waits)
    clock.move(waits + 0.01)
    use(limited, 3)
    wait_of(limited)


def test_a_stand_still_outlasts_a_restart_of_the_machine(place: Path) -> None:
    clock = FakeClock(now=900_000.0)
    limited = limiter(place, clock)
    drive(limited.ended(drive(limited.admit(0)), 429, httpx.Headers({"retry-after": "300"})))
    clock.now = 7.0
    clock.wall_now += 100.0
    assert wait_of(limiter(place, clock)) == pytest.approx(200.0)


def test_a_record_from_long_before_a_restart_stops_nobody(place: Path) -> None:
    clock = FakeClock(now=5000.0)
    use(limiter(place, clock), 3)
    clock.now = 7.0
    clock.wall_now += 3600
    use(limiter(place, clock), 3)


# Processes


def in_child(act: Callable[[], bool]) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if act() else 1
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_forked_child_counts_with_its_parent(place: Path) -> None:
    clock = FakeClock()
    limited = limiter(place, clock)
    use(limited)

    def act() -> bool:
        use(limited)
        return limited.shared

    in_child(act)
    use(limited)
    wait_of(limited)


def test_a_forked_child_does_not_share_its_parents_lock(place: Path) -> None:
    record = FileRecord(place, NAME)
    with record.locked() as free:
        assert free

        def act() -> bool:
            with record.locked() as free_in_child:
                return not free_in_child

        in_child(act)
    with record.locked() as free:
        assert free


def test_a_lock_held_in_the_parent_does_not_stop_a_child_that_counts_alone() -> None:
    record = LocalRecord()
    with record.locked():

        def act() -> bool:
            return record.lock.acquire(timeout=1)

        in_child(act)


def test_a_lock_that_is_never_released_is_not_waited_for_without_end(place: Path) -> None:
    clock = FakeClock()
    limited = limiter(place, clock)
    with FileRecord(place, NAME).locked() as free:
        assert free
        with pytest.raises(RateLimitedError, match="does not let go") as caught:
            drive(limited.admit(60.0))
    assert caught.value.not_sent
    assert sum(clock.slept) == pytest.approx(5.0, abs=0.1)
    use(limited)


def test_an_answer_is_not_lost_because_the_record_is_held(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    limited = limiter(place, clock, cap=1)
    ticket = drive(limited.admit(0))
    with FileRecord(place, NAME).locked() as free:
        assert free
        with caplog.at_level(logging.WARNING):
            drive(limited.ended(ticket, 200, httpx.Headers()))
    assert "could not be noted" in caplog.text
    clock.move(59)
    assert wait_of(limited) == pytest.approx(10.01)
