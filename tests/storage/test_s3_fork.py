"""A forked process: obstore's threads are the parent's, and boto3's connections too."""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Callable, Iterator

import pytest

from cm_platform.runtime import drive
from cm_platform.storage.s3 import S3Storage, fast
from cm_platform.testing.servers import Endpoint, S3Server

from .s3_faces import FACES, PLAIN, Face, body, keys, on, opened, s3_config

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> Endpoint:
    return server.new_bucket()


def _in_child(work: Callable[[], str], *, seconds: float = 10.0) -> str:
    """What `work` returns in a forked child; a child that hangs is killed and fails the test."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
        except BaseException as error:  # noqa: BLE001 - for the parent to see
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], seconds)[0]:
            return "the child hangs"
        return os.read(reading, 65_536).decode()
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


async def _move(storage: S3Storage) -> str:
    await storage.put("child", b"from the child", PLAIN)
    await storage.put("child/", b"", PLAIN)
    return f"{(await body(storage, 'parent')).decode()} {await keys(storage)}"


MOVED = "from the parent ['child', 'child/', 'parent']"


@pytest.mark.parametrize("face", FACES)
def test_a_backend_opened_after_the_fork_works(face: Face, bucket: Endpoint) -> None:
    async def before(storage: S3Storage) -> None:
        await storage.put("parent", b"from the parent", PLAIN)

    on(face, s3_config(bucket), before)
    lines: list[str] = []

    def work() -> str:
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("cm_platform.storage")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        return on(face, s3_config(bucket), _move) + "".join(lines)

    said = _in_child(work)
    assert said.startswith(MOVED)
    assert "boto3 alone" in said
    assert said.count("forked") == 1


def test_a_backend_opened_before_the_fork_works_on_both_sides(bucket: Endpoint) -> None:
    storage = opened(s3_config(bucket))
    drive(storage.put("parent", b"from the parent", PLAIN))
    assert drive(keys(storage)) == ["parent"]  # boto3's client has a connection now
    assert _in_child(lambda: drive(_move(storage))) == MOVED
    assert drive(_move(storage)) == MOVED
    drive(storage.close())


def test_a_child_of_a_process_that_did_not_use_obstore_uses_it(
    bucket: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "_used_in", None)
    assert fast.why_unusable() is None
    monkeypatch.setattr(fast, "_used_in", os.getpid() + 1)
    assert "forked" in str(fast.why_unusable())
