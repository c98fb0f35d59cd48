"""What is uploaded and downloaded holds no file open after its caller is gone, on both faces."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cm_platform import AsyncPlatform, Platform, Tenant
from cm_platform.errors import IntegrityError, InvalidArgumentError, PlatformError
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.storage import AsyncStorage, Storage, lending
from cm_platform.storage.body import FileSource, Source, open_source

MIB = 1024 * 1024
ACME = Tenant("acme")


def configuration(path: Path) -> dict[str, Any]:
    return {
        "storage": {
            "default": "tested",
            "backends": {"tested": {"driver": "local", "path": str(path / "store")}},
        }
    }


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with Platform.from_config(configuration(tmp_path)) as platform:
        yield platform.get_service("storage", ACME)


def run(tmp_path: Path, scenario: Callable[[AsyncStorage], Any]) -> None:
    async def main() -> None:
        async with AsyncPlatform.from_config(configuration(tmp_path)) as platform:
            await scenario(platform.get_service("storage", ACME))

    asyncio.run(main())


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Gate:
    """Holds up whoever comes by, in a worker thread, until it is opened."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()

    def passed(self) -> None:
        self.reached.set()
        assert self._open.wait(10)

    def open(self) -> None:
        self._open.set()


def is_open(path: Path) -> bool:
    """Whether this process has the file open."""
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
        except OSError:
            continue
        if target.removesuffix(" (deleted)") == str(path):
            return True
    return False


on_linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


# Files that are uploaded -------------------------------------------------------------------


@on_linux
def test_a_put_that_is_cancelled_while_its_file_is_opened_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * MIB)
    gate, read_once = Gate(), FileSource._read_once

    def slowly(self: FileSource, file: BinaryIO) -> None:
        gate.passed()
        read_once(self, file)

    monkeypatch.setattr(FileSource, "_read_once", slowly)

    async def scenario(storage: AsyncStorage) -> None:
        put = asyncio.create_task(storage.put("key", source))
        await until(gate.reached.is_set)
        assert is_open(source)
        await cancelled(put)
        gate.open()
        await until(lambda: not is_open(source))
        gc.collect()  # A file that the collector had to close would be an error here.

    run(tmp_path, scenario)


@on_linux
def test_a_put_that_fails_closes_the_file_and_leaves_the_callers_open(
    storage: Storage, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * MIB)
    with pytest.raises(InvalidArgumentError):
        storage.put("key", source, part_size=-1)
    assert not is_open(source)
    with source.open("rb") as file:
        file.seek(5)
        assert storage.put("key", file).size == MIB - 5
        assert not file.closed


def test_a_path_that_is_no_regular_file_is_refused(storage: Storage, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(InvalidArgumentError, match="file"):
            storage.put("key", path)
    assert not storage.exists("key")


def test_a_pipe_that_the_caller_opened_is_uploaded(storage: Storage) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(b"through a pipe")
    with os.fdopen(reading, "rb") as pipe:
        storage.put("key", pipe)
    assert storage.get("key").read() == b"through a pipe"


class Stingy(io.RawIOBase):
    """A raw file that gives a few bytes at a time, and has no `readinto` worth the name."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._data.seek(offset, whence)

    def tell(self) -> int:
        return self._data.tell()

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(memoryview(buffer)[:1000])


class OnlyRead:
    """A seekable file object without `readinto`."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self.read, self.seek, self.tell = self._data.read, self._data.seek, self._data.tell

    def seekable(self) -> bool:
        return True


def one_chunk(data: bytes) -> Iterator[bytes]:
    yield data


def pieces_of(source: Source, size: int) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [bytes(piece) async for piece in source.pieces(size)]

    return drive(collect())


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 3 * 4096, 10_000])
@pytest.mark.parametrize("shape", [io.BytesIO, Stingy, OnlyRead, one_chunk])
def test_a_body_comes_in_pieces_of_one_size(shape: Callable[[bytes], Any], length: int) -> None:
    data = bytes(n % 251 for n in range(length))
    source = drive(open_source(shape(data), BlockingRuntime()))
    pieces = pieces_of(source, 4096)
    assert b"".join(pieces) == data
    assert [len(piece) for piece in pieces[:-1]] == [4096] * (len(pieces) - 1)
    assert len(pieces) == max(1, -(-length // 4096))
    source.finish()


@pytest.mark.parametrize("size", [0, 5000, 9004])
def test_a_file_that_changes_while_it_is_uploaded_is_not_stored(tmp_path: Path, size: int) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"x" * 9000)
    source = drive(open_source(path, BlockingRuntime()))
    try:
        os.truncate(path, size)
        pieces_of(source, 4096)
        with pytest.raises(IntegrityError):
            source.finish()
    finally:
        drive(source.close())


# Iterables ---------------------------------------------------------------------------------


def test_a_generator_is_closed_when_its_put_fails(storage: Storage) -> None:
    ended: list[str] = []

    def body() -> Iterator[bytes]:
        try:
            for _ in range(100):
                yield bytes(MIB)
        finally:
            ended.append("ended")

    def fail(done: int, total: int | None) -> None:
        raise ZeroDivisionError

    given = body()
    with pytest.raises(ZeroDivisionError):
        storage.put("key", given, part_size=MIB, progress=fail)
    assert ended == ["ended"]


def test_a_generator_that_was_not_begun_stays_usable(storage: Storage) -> None:
    given = (chunk for chunk in [b"all", b" of it"])
    with pytest.raises(InvalidArgumentError):
        storage.put("key", given, part_size=-1)
    storage.put("key", given)
    assert storage.get("key").read() == b"all of it"


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_async_generator_is_closed_when_its_put_is_cancelled(
    tmp_path: Path, wrapped: bool
) -> None:
    async def scenario(storage: AsyncStorage) -> None:
        ended: list[str] = []
        stuck = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            try:
                for _ in range(100):
                    yield bytes(MIB)
            finally:
                ended.append("ended")

        class Body:
            def __aiter__(self) -> AsyncIterator[bytes]:
                return body()

        parts = 0

        def note(done: int, total: int | None) -> None:
            nonlocal parts
            parts += 1
            if parts == 2:
                stuck.set()

        given: Any = Body() if wrapped else body()
        put = asyncio.create_task(storage.put("key", given, part_size=MIB, progress=note))
        await stuck.wait()
        await cancelled(put)
        assert ended == ["ended"]

    run(tmp_path, scenario)


# Files that are downloaded to --------------------------------------------------------------


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch, step: str, when: str) -> Generator[Gate]:
    """Hold up a step of a download in its thread, before or after its work."""
    gate, function = Gate(), getattr(lending.PartialFile, step)

    def slowly(self: lending.PartialFile, *given: bytes) -> None:
        if when == "before":
            gate.passed()
        function(self, *given)
        if when == "after":
            gate.passed()

    monkeypatch.setattr(lending.PartialFile, step, slowly)
    try:
        yield gate
    finally:
        gate.open()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["open", "write", "commit"])
def test_a_download_that_is_cancelled_leaves_nothing_but_a_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    target = tmp_path / "folder" / "target"
    target.parent.mkdir()

    async def scenario(storage: AsyncStorage) -> None:
        await storage.put("key", bytes(3 * MIB))
        with held_up(monkeypatch, step, when) as gate:
            download = asyncio.create_task((await storage.get("key")).write_to(target))
            await until(gate.reached.is_set)
            await cancelled(download)
        expected = [target] if (step, when) == ("commit", "after") else []
        await until(lambda: list(target.parent.iterdir()) == expected)
        await until(lambda: not any(is_open(path) for path in target.parent.iterdir()))
        gc.collect()

    run(tmp_path, scenario)
    if target.exists():
        assert target.read_bytes() == bytes(3 * MIB)
    else:
        assert list(target.parent.iterdir()) == []


def test_a_download_that_fails_leaves_the_file_that_was_there(
    storage: Storage, tmp_path: Path
) -> None:
    target = tmp_path / "folder" / "target"
    target.parent.mkdir()
    target.write_bytes(b"before")
    storage.put("key", bytes(3 * MIB))
    (data,) = (tmp_path / "store" / "objects" / "acme").glob("key~*.data")

    def damage(done: int, total: int | None) -> None:
        os.truncate(data, MIB)

    with pytest.raises(PlatformError):
        storage.get("key", progress=damage).write_to(target)
    assert list(target.parent.iterdir()) == [target]
    assert target.read_bytes() == b"before"
