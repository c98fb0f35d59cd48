"""Writers of `storage.local` among each other: threads, processes, crashes, cancellation."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cm_platform import Platform, Tenant
from cm_platform.errors import InternalError, NotFoundError, PlatformError, UnavailableError
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Runtime, drive
from cm_platform.storage.backend import Attributes
from cm_platform.storage.local import BACKEND, LocalConfig, LocalStorage, files, objects
from cm_platform.storage.local.locks import KeyLocks

PLAIN = Attributes()

PREAMBLE = """
import os, sys
from pathlib import Path
from cm_platform.errors import PlatformError
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.storage.local import objects
from cm_platform.storage.backend import Attributes
from cm_platform.storage.local import LocalConfig, LocalStorage

store = LocalStorage(LocalConfig(path=Path(sys.argv[1])), BlockingRuntime())
print("ready", flush=True)
sys.stdin.readline()
"""

CREATE_ONE = """
for round in range(20):
    try:
        drive(store.put(f"k/{round}", sys.argv[2].encode(), Attributes(), if_none_match=True))
    except PlatformError as error:
        print(error.code)
    else:
        print("won")
"""

WRITE_ON = """
import itertools, random
for number in itertools.count():
    key = random.choice(["a", "a/b", "c/d/e"])
    if random.random() < 0.2:
        drive(store.delete(key))
    else:
        size = random.randrange(200_000)
        data = bytes([number % 256]) * size
        drive(store.put(key, data, Attributes(metadata={"size": str(size)})))
    print(number, flush=True)
"""

DIE_AT = """
def die(*_, **__):
    os._exit(9)

function = getattr(objects, sys.argv[2])
if sys.argv[3] == "before":
    setattr(objects, sys.argv[2], die)
else:
    setattr(objects, sys.argv[2], lambda *a, **k: (function(*a, **k), die()))
drive(store.put("a/b", b"new", Attributes(metadata={"a": "new"})))
"""


async def open_store(path: Path, runtime: Runtime) -> LocalStorage:
    store = await BACKEND.open(LocalConfig(path=path), runtime)
    assert isinstance(store, LocalStorage)
    return store


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return drive(open_store(tmp_path, BlockingRuntime()))


@contextmanager
def process(store: LocalStorage, script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that uses the store; it begins when a line is sent to it."""
    command = [sys.executable, "-c", PREAMBLE + script, str(store.native()), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:  # noqa: S603
        try:
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


def read(store: LocalStorage, key: str) -> bytes:
    reply = drive(store.get(key))
    try:
        return drive(reply.read())
    finally:
        drive(reply.close())


def test_of_eight_processes_that_create_a_key_one_wins(store: LocalStorage) -> None:
    with (
        process(store, CREATE_ONE, "0") as a,
        process(store, CREATE_ONE, "1") as b,
        process(store, CREATE_ONE, "2") as c,
        process(store, CREATE_ONE, "3") as d,
        process(store, CREATE_ONE, "4") as e,
        process(store, CREATE_ONE, "5") as f,
        process(store, CREATE_ONE, "6") as g,
        process(store, CREATE_ONE, "7") as h,
    ):
        children = [a, b, c, d, e, f, g, h]
        assert [line(child) for child in children] == ["ready"] * 8
        for child in children:
            begin(child)
        for number in range(20):
            outcomes = [line(child) for child in children]
            assert sorted(outcomes) == ["already_exists"] * 7 + ["won"]
            assert read(store, f"k/{number}") == str(outcomes.index("won")).encode()


def test_a_killed_writer_leaves_every_object_whole(store: LocalStorage) -> None:
    for _ in range(3):
        with process(store, WRITE_ON) as child:
            assert line(child) == "ready"
            begin(child)
            for _ in range(random.randrange(1, 60)):  # noqa: S311
                line(child)
            child.kill()
            child.wait()
        for item in drive(store.list("", delimiter=None, cursor=None, limit=100)).objects:
            data = read(store, item.key)
            info = drive(store.head(item.key))
            assert len(set(data)) <= 1
            assert info.metadata == {"size": str(len(data))}
    drive(store.sweep(older_than=0))
    objects = store.native() / "objects"
    listed = drive(store.list("", delimiter=None, cursor=None, limit=100)).objects
    assert len(list(objects.rglob("*.data"))) == len(listed)
    assert list(objects.rglob("*.draft")) == []


@pytest.mark.parametrize(
    ("step", "when", "expected"),
    [
        ("write_file", "before", b"old"),
        ("write_file", "after", b"old"),
        ("write_all", "before", b"old"),
        ("write_all", "after", b"old"),
        ("_replace", "before", b"old"),
        ("_replace", "after", b"new"),
        ("discard", "before", b"new"),
    ],
)
def test_a_crash_leaves_the_old_object_or_the_new_one(
    store: LocalStorage, step: str, when: str, expected: bytes
) -> None:
    drive(store.put("a/b", b"old", Attributes(metadata={"a": "old"})))
    with process(store, DIE_AT, step, when) as child:
        begin(child)
        child.wait(timeout=30)
        assert child.returncode == 9
    assert read(store, "a/b") == expected
    assert drive(store.head("a/b")).metadata == {"a": expected.decode()}
    assert len(drive(store.list("", delimiter=None, cursor=None, limit=9)).objects) == 1
    drive(store.put("a/b", b"next", PLAIN))
    drive(store.sweep(older_than=0))
    assert read(store, "a/b") == b"next"
    assert len(list((store.native() / "objects" / "a").iterdir())) == 2


def test_compare_and_swap_loses_no_update_among_threads(store: LocalStorage) -> None:
    drive(store.put("n", b"0", PLAIN))

    def count() -> None:
        done = 0
        while done < 20:
            reply = drive(store.get("n"))
            number = int(drive(reply.read()))
            try:
                drive(store.put("n", str(number + 1).encode(), PLAIN, if_match=reply.info.etag))
            except PlatformError as error:
                assert error.code == "precondition_failed"
            else:
                done += 1

    run_together(*[count] * 4)
    assert read(store, "n") == b"80"


def test_readers_see_whole_versions_while_writers_replace(store: LocalStorage) -> None:
    stop = threading.Event()
    drive(store.put("k", b"", Attributes(metadata={"size": "0"})))

    def write() -> None:
        try:
            for number in range(40):
                size = (number % 4) * 400_000
                drive(
                    store.put("k", bytes([number]) * size, Attributes(metadata={"size": str(size)}))
                )
        finally:
            stop.set()

    def look() -> None:
        while not stop.is_set():
            reply = drive(store.get("k"))
            data = drive(reply.read())
            drive(reply.close())
            assert len(set(data)) <= 1
            assert reply.info.metadata == {"size": str(len(data))}
            (item,) = drive(store.list("", delimiter=None, cursor=None, limit=9)).objects
            assert item.key == "k"

    run_together(write, look, look)


def test_creators_and_pruners_of_a_directory_do_not_disturb_each_other(
    store: LocalStorage,
) -> None:
    def churn(name: str) -> None:
        for _ in range(150):
            drive(store.put(f"x/y/z/{name}", name.encode(), PLAIN))
            assert read(store, f"x/y/z/{name}") == name.encode()
            drive(store.delete(f"x/y/z/{name}"))

    run_together(*(lambda name=name: churn(name) for name in "abcd"))
    assert list((store.native() / "objects").iterdir()) == []


def test_a_writer_waits_for_the_lock_a_bounded_time(tmp_path: Path) -> None:
    locks = KeyLocks(str(tmp_path), wait=0.05)
    with locks.hold("key"):
        with pytest.raises(UnavailableError) as failure, locks.hold("key"):
            pass
        assert failure.value.retryable
        assert failure.value.not_sent
    with locks.hold("key"):
        pass


def test_an_interrupt_after_the_commit_does_not_take_the_bytes(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = objects._replace

    def interrupted(draft: str, sidecar: str) -> None:
        replace(draft, sidecar)
        raise KeyboardInterrupt

    monkeypatch.setattr(objects, "_replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drive(store.put("a", b"data", PLAIN))
    assert read(store, "a") == b"data"


def test_a_write_that_a_sweep_overtook_fails_and_can_be_repeated(
    store: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_file

    def slowly(path: str, data: bytes | memoryview, *, fsync: bool) -> int:
        size = write(path, data, fsync=fsync)
        monkeypatch.setattr(objects, "write_file", write)
        drive(store.sweep(older_than=0))
        return size

    drive(store.put("a", b"old", PLAIN))
    monkeypatch.setattr(objects, "write_file", slowly)
    with files_look_old(), pytest.raises(UnavailableError) as failure:
        drive(store.put("a", b"new", PLAIN))
    assert failure.value.retryable
    assert failure.value.not_sent
    assert read(store, "a") == b"old"


def test_a_cancelled_write_is_not_committed_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        runtime = AsyncRuntime()
        store = await open_store(tmp_path, runtime)
        with KeyLocks(str(tmp_path / "locks")).hold("a"):
            put = asyncio.create_task(store.put("a", b"late", PLAIN))
            await until(lambda: len(list(tmp_path.glob("objects/*.data"))) == 1)
            put.cancel()
            with pytest.raises(asyncio.CancelledError):
                await put
        await until(lambda: list(tmp_path.glob("objects/*")) == [])
        with pytest.raises(NotFoundError):
            await store.head("a")
        await runtime.close()

    asyncio.run(scenario())


def test_a_cancelled_get_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        runtime = AsyncRuntime()
        store = await open_store(tmp_path, runtime)
        await store.put("a", b"x" * (2 * 1024**2), PLAIN)
        entered, go_on = threading.Event(), threading.Event()
        opened: list[int] = []
        open_object = objects.Objects.open

        def slowly(
            self: objects.Objects, key: str, *, etag: str | None = None
        ) -> tuple[object, int]:
            found = open_object(self, key, etag=etag)
            opened.append(found[1])
            entered.set()
            go_on.wait(10)
            return found

        monkeypatch.setattr(objects.Objects, "open", slowly)
        get = asyncio.create_task(store.get("a"))
        await until(entered.is_set)
        get.cancel()
        with pytest.raises(asyncio.CancelledError):
            await get
        go_on.set()
        await until(lambda: not is_open(opened[0]))
        await runtime.close()

    asyncio.run(scenario())


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


@contextmanager
def files_look_old() -> Iterator[None]:
    """Let `sweep` see files of this moment as old: file times come in steps of some ms."""
    now = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + 1)
        yield


def run_together(*work: Callable[[], None]) -> None:
    """Run functions in threads; raise what the first failing one raised."""
    failures: list[BaseException] = []

    def attempt(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's thread
            failures.append(error)

    threads = [threading.Thread(target=attempt, args=(function,)) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Failing:
    """A function of the operating system that fails at its n-th call, and the calls after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, number: int, code: int) -> None:
        self._function = getattr(os, name)
        self._left = number
        self._code = code
        monkeypatch.setattr(os, name, self)

    def __call__(self, *args: object, **kwargs: object) -> object:
        self._left -= 1
        if self._left < 0:
            raise OSError(self._code, os.strerror(self._code))
        return self._function(*args, **kwargs)


CODES = [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EXDEV]


def attempt(
    path: Path, name: str, number: int, code: int, write: Callable[[LocalStorage], object]
) -> PlatformError | None:
    """What a write raises, if its system call of that name and number fails."""
    durable = LocalStorage(LocalConfig(path=path, fsync=True), BlockingRuntime())
    with pytest.MonkeyPatch.context() as patch:
        Failing(patch, name, number, code)
        try:
            write(durable)
        except PlatformError as error:
            return error
    return None


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
def test_a_put_that_fails_says_whether_it_may_have_happened(
    store: LocalStorage, tmp_path: Path, name: str, code: int
) -> None:
    outcomes: set[bool] = set()
    for number in range(30):
        drive(store.put("a/b", b"old", PLAIN))
        error = attempt(
            tmp_path, name, number, code, lambda store: drive(store.put("a/b", b"new", PLAIN))
        )
        if error is None:
            break
        assert read(store, "a/b") == (b"old" if error.not_sent else b"new")
        assert error.not_sent or isinstance(error, UnavailableError | InternalError)
        outcomes.add(error.not_sent)
    else:
        raise AssertionError("it never succeeded")
    assert outcomes == ({True} if name in ("write", "replace") else {True, False})
    drive(store.sweep(older_than=0))
    assert len(drive(store.list("", delimiter=None, cursor=None, limit=9)).objects) == 1


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", ["open", "fsync", "unlink"])
def test_a_delete_that_fails_says_whether_it_may_have_happened(
    store: LocalStorage, tmp_path: Path, name: str, code: int
) -> None:
    for number in range(30):
        drive(store.put("a/b", b"old", PLAIN))
        error = attempt(tmp_path, name, number, code, lambda store: drive(store.delete("a/b")))
        if error is None:
            break
        there = bool(drive(store.list("", delimiter=None, cursor=None, limit=9)).objects)
        assert there == error.not_sent
        assert error.not_sent or isinstance(error, UnavailableError | InternalError)
    else:
        raise AssertionError("it never succeeded")


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace", "mkdir"])
def test_an_upload_that_fails_says_whether_it_may_have_happened(
    store: LocalStorage, tmp_path: Path, name: str, code: int
) -> None:
    def upload(store: LocalStorage) -> None:
        upload_id = drive(store.create_multipart("a/b", PLAIN))
        part = drive(store.put_part("a/b", upload_id, 1, b"new"))
        drive(store.complete_multipart("a/b", upload_id, [part]))

    for number in range(40):
        drive(store.put("a/b", b"old", PLAIN))
        error = attempt(tmp_path, name, number, code, upload)
        if error is None:
            break
        if read(store, "a/b") == b"new":
            assert not error.not_sent
        assert error.not_sent or isinstance(error, UnavailableError | InternalError)
    else:
        raise AssertionError("it never succeeded")
    assert read(store, "a/b") == b"new"


def test_a_put_in_doubt_is_found_to_have_happened(tmp_path: Path) -> None:
    configuration = {
        "storage": {
            "default": "l",
            "backends": {"l": {"driver": "local", "path": str(tmp_path), "fsync": True}},
        }
    }
    with Platform.from_config(configuration) as platform:
        storage = platform.get_service("storage", Tenant("acme"))
        first = storage.put("key", b"old")
        sync = files.sync_file

        def fails_once(path: str) -> None:
            patch.setattr(files, "sync_file", sync)
            raise OSError(errno.ENOSPC, "full")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "sync_file", fails_once)
            written = storage.put("key", b"new", if_match=first.etag)
        assert storage.head("key").etag == written.etag
