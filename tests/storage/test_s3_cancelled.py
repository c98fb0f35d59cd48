"""What a caller who leaves in the middle of a request to an S3 service leaves behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cm_platform.storage.s3 import S3Config, S3Storage
from cm_platform.storage.s3.reply import CompleteReply
from cm_platform.testing.servers import FaultProxy, S3Server

from .s3_faces import FACES, PLAIN, Config, Face, body, on, s3_config

# "k" goes through obstore and "k/" through boto3.
pytestmark = [pytest.mark.parametrize("face", FACES), pytest.mark.parametrize("key", ["k", "k/"])]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture(scope="module")
def running_proxy(server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy.before(server.endpoint) as running:
        yield running


@pytest.fixture
def proxy(running_proxy: FaultProxy) -> Iterator[FaultProxy]:
    yield running_proxy
    running_proxy.clear()


@pytest.fixture
def config(server: S3Server, proxy: FaultProxy) -> Config:
    return s3_config(proxy.endpoint(server.endpoint))


@contextmanager
def _half_a_body() -> Iterator[tuple[int, threading.Event]]:
    """A port where an object's first bytes come, and the connection ends with the event."""
    released = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(
                    b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 2097152\r\n'
                    b"Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\nabc"
                )
                released.wait(10.0)

        answering = threading.Thread(target=answer)
        answering.start()
        try:
            yield listener.getsockname()[1], released
        finally:
            released.set()
            answering.join()


@pytest.mark.parametrize("whole", [True, False])
def test_a_read_that_is_left_does_not_hold_up_the_event_loop(
    face: Face, key: str, server: S3Server, *, whole: bool
) -> None:
    if face == "blocking":
        return  # it has none

    async def scenario(storage: S3Storage) -> None:
        reply = await storage.get(key)
        stream = reply._body._raw_stream if isinstance(reply, CompleteReply) else None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                if whole:
                    await reply.read()
                else:
                    async for _ in reply.chunks():
                        pass
        began = time.monotonic()
        await reply.close()
        await reply.close()
        assert time.monotonic() - began < 1.0
        released.set()
        await _until(lambda: stream is None or stream.closed)

    with _half_a_body() as (port, released):
        config = s3_config(server.endpoint, read_timeout=3.0)
        on(face, config.model_copy(update={"endpoint": f"http://127.0.0.1:{port}"}), scenario)
    gc.collect()  # a body that nobody closed would warn now


async def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


def test_an_upload_whose_caller_is_cancelled_meanwhile_is_aborted(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    if face == "blocking":
        return  # nothing can cancel it

    async def scenario(storage: S3Storage) -> None:
        stalled = proxy.stall(method="POST", reached=True)
        task = asyncio.create_task(storage.create_multipart(key, PLAIN))
        assert await asyncio.to_thread(stalled.hit)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stalled.release()
        await _until(lambda: proxy.forwarded(method="DELETE") == 1)
        await _until(lambda: not _uploads(storage))

    on(face, config, scenario)


def test_an_upload_that_was_begun_just_before_its_caller_left_is_aborted(
    face: Face, key: str, config: S3Config, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: type[BaseException] = KeyboardInterrupt if face == "blocking" else asyncio.CancelledError

    async def scenario(storage: S3Storage) -> None:
        runtime = storage._complete._runtime
        call = runtime.call

        async def interrupted(fn: Callable[[], str]) -> str:
            monkeypatch.undo()
            await call(fn)
            raise left

        monkeypatch.setattr(runtime, "call", interrupted)
        with pytest.raises(left):
            await storage.create_multipart(key, PLAIN)
        await runtime.close()  # waits for what is under way in the background
        assert proxy.forwarded(method="DELETE") == 1
        assert not _uploads(storage)

    on(face, config, scenario)


def _uploads(storage: S3Storage) -> list[Any]:
    found: list[Any] = (
        storage.native().list_multipart_uploads(Bucket=storage._bucket).get("Uploads", [])
    )
    return found


def test_a_cancelled_call_leaves_nothing_behind(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    if face == "blocking":
        return  # nothing can cancel it

    async def scenario(storage: S3Storage) -> None:
        await storage.put(key, b"x" * 100_000, PLAIN)
        for method, begin in (
            ("GET", lambda: storage.get(key)),
            ("PUT", lambda: storage.put(key, b"y", PLAIN)),
        ):
            stalled = proxy.stall(method=method)
            task: asyncio.Task[object] = asyncio.create_task(begin())
            assert await asyncio.to_thread(stalled.hit)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            stalled.release()
        gc.collect()  # an answer that nobody closed would warn now
        assert await body(storage, key) in (b"x" * 100_000, b"y")
        reply = await storage.get(key)
        await reply.close()

    on(face, config, scenario)
    gc.collect()
