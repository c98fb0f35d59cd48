"""Bytes that outlive the call: resumed where they were cut, whole, of one version, or an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from cm_platform.errors import (
    DeadlineExceededError,
    IntegrityError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
)
from cm_platform.resilience import CircuitBreaker
from cm_platform.runtime import SYSTEM_CLOCK, drive, drive_each
from cm_platform.storage.download import WHOLE_READ, Download

from .downloads import BODY, CHUNK, Face, ForbiddenError, LostError, Object, Reading, Reply


@pytest.fixture(params=[False, True], ids=["blocking", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


MIB = 1024 * 1024


def large(times: int = 1) -> bytes:
    """Somewhat more than so many times what is read with one request; no two MiB are alike."""
    mib = [number.to_bytes(2, "big") * (MIB // 2) for number in range(WHOLE_READ // MIB * times)]
    return b"".join([*mib, b"and more"])


# Whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"x", BODY], ids=["empty", "one-byte", "small"])
def test_a_body_is_read_whole_and_its_connection_let_go(face: Face, body: bytes) -> None:
    reading = Reading(face, Object(body=body))
    assert reading.whole() == body
    assert reading.stored.opened == [(0, None)]
    assert reading.all_closed()


@pytest.mark.parametrize("body", [b"", b"x", BODY], ids=["empty", "one-byte", "small"])
def test_a_body_comes_in_pieces_and_its_connection_is_let_go(face: Face, body: bytes) -> None:
    reading = Reading(face, Object(body=body))
    pieces = reading.pieces()
    assert b"".join(pieces) == body
    assert all(len(piece) <= CHUNK for piece in pieces)
    assert reading.all_closed()


def test_a_small_body_that_was_cut_is_read_again(face: Face) -> None:
    reading = Reading(face, Object(10, 10, None))
    assert reading.whole() == BODY
    assert reading.stored.opened == [(0, None), (0, "v1"), (0, "v1")]
    assert reading.all_closed()


def test_a_large_body_that_was_cut_costs_the_rest_only(face: Face) -> None:
    body = large()
    reading = Reading(face, Object(MIB * 3, None, body=body, chunk=MIB))
    assert reading.whole() == body
    assert reading.stored.opened == [(0, None), (MIB * 3, "v1")]
    assert reading.all_closed()


@pytest.mark.parametrize("chunk", [MIB, 3 * MIB, 11 * MIB], ids=lambda size: f"{size // MIB}-MiB")
@pytest.mark.parametrize("cut", [None, MIB], ids=["uncut", "cut"])
def test_a_very_large_body_is_read_from_both_ends(face: Face, chunk: int, cut: int | None) -> None:
    body = large(5)
    reading = Reading(face, Object(cut, body=body, chunk=chunk))
    assert reading.whole() == body
    assert {etag for _, etag in reading.stored.opened[1:]} <= {"v1"}
    assert reading.all_closed()


def test_a_very_large_body_that_was_replaced_meanwhile_is_never_mixed(face: Face) -> None:
    class Replaced(Object):
        async def get(self, start: int, end: int | None, if_match: str | None) -> Reply:
            if not self.opened:
                reply = await super().get(start, end, if_match)
                original = reply.chunks

                async def chunks() -> AsyncIterator[bytes]:
                    # The beginning comes slowly, so that somebody asks for the end.
                    while len(self.opened) < 2:
                        await face.runtime(SYSTEM_CLOCK).sleep(0.001)
                    async for chunk in original():
                        yield chunk

                reply.chunks = chunks  # type: ignore[method-assign]
                return reply
            self.etag = "v2"
            return await super().get(start, end, if_match)

    reading = Reading(face, Replaced(None, body=large(4), chunk=MIB))
    with pytest.raises(PreconditionFailedError):
        reading.whole()
    assert reading.all_closed()


@pytest.mark.parametrize(
    ("surplus", "refusal"), [(1, IntegrityError), (-1, UnavailableError)], ids=["long", "short"]
)
def test_a_part_that_does_not_fit_into_its_place_is_refused(
    face: Face, surplus: int, refusal: type[PlatformError]
) -> None:
    class Unfit(Object):
        async def get(self, start: int, end: int | None, if_match: str | None) -> Reply:
            reply = await super().get(start, end, if_match)
            if end is None:
                original = reply.chunks

                async def chunks() -> AsyncIterator[bytes]:
                    # The beginning comes slowly, so that somebody asks for the end.
                    while len(self.opened) < 2:
                        await face.runtime(SYSTEM_CLOCK).sleep(0.001)
                    async for chunk in original():
                        yield chunk

                reply.chunks = chunks  # type: ignore[method-assign]
            else:
                reply.body = self.body[start : end + surplus]
                if surplus > 0 and end == len(self.body):
                    reply.body += b"x"
            return reply

    reading = Reading(face, Unfit(body=large(4), chunk=3 * MIB), attempts=1)
    with pytest.raises(refusal):
        reading.whole()
    assert reading.all_closed()


# Resumed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [LostError, None], ids=["fails", "ends-early"])
@pytest.mark.parametrize("cut", [0, 1, 99, 100, 101, len(BODY) - 1])
def test_a_cut_body_goes_on_at_the_right_byte_of_the_same_version(
    face: Face, cut: int, how: Callable[[], Exception] | None
) -> None:
    reading = Reading(face, Object(cut, None, how=how))
    assert b"".join(reading.pieces()) == BODY
    assert reading.stored.opened == [(0, None), (cut, "v1")]
    assert reading.all_closed()


def test_a_body_that_was_cut_after_its_last_byte_is_whole(face: Face) -> None:
    reading = Reading(face, Object(len(BODY)))
    assert b"".join(reading.pieces()) == BODY
    assert reading.stored.opened == [(0, None)]
    assert reading.all_closed()


def test_progress_earns_new_patience(face: Face) -> None:
    reading = Reading(face, Object(*[1] * 10), attempts=2)
    assert b"".join(reading.pieces()) == BODY
    assert [start for start, _ in reading.stored.opened] == list(range(11))


@pytest.mark.parametrize("how", [LostError, None], ids=["fails", "ends-early"])
@pytest.mark.parametrize("read", ["whole", "pieces"])
def test_without_progress_it_gives_up(
    face: Face, read: str, how: Callable[[], Exception] | None
) -> None:
    reading = Reading(face, Object(*[0] * 100, how=how), attempts=3)
    with pytest.raises(UnavailableError) as caught:
        getattr(reading, read)()
    assert len(reading.stored.opened) == 3
    assert not caught.value.retryable
    assert str(caught.value).startswith("storage.get on scripted: ")
    assert reading.all_closed()


@pytest.mark.parametrize("read", ["whole", "pieces"])
def test_a_body_that_was_replaced_meanwhile_is_never_mixed(face: Face, read: str) -> None:
    class Replaced(Object):
        async def get(self, start: int, end: int | None, if_match: str | None) -> Reply:
            if self.opened:
                self.body, self.etag = b"new" * 999, "v2"
            return await super().get(start, end, if_match)

    reading = Reading(face, Replaced(150))
    with pytest.raises(PreconditionFailedError):
        getattr(reading, read)(len(BODY))
    assert reading.all_closed()


@pytest.mark.parametrize("read", ["whole", "pieces"])
def test_more_bytes_than_were_announced_are_an_error(face: Face, read: str) -> None:
    reading = Reading(face, Object())
    with pytest.raises(IntegrityError, match="longer than was announced"):
        getattr(reading, read)(len(BODY) - 1)
    assert reading.all_closed()


@pytest.mark.parametrize("read", ["whole", "pieces"])
def test_a_refusal_on_the_way_is_not_resumed(face: Face, read: str) -> None:
    reading = Reading(face, Object(150, how=ForbiddenError))
    with pytest.raises(PermissionDeniedError) as caught:
        getattr(reading, read)()
    assert isinstance(caught.value.__cause__, ForbiddenError)
    assert len(reading.stored.opened) == 1
    assert reading.all_closed()


def test_a_connection_that_cannot_be_closed_hides_nothing(face: Face) -> None:
    class Stubborn(Object):
        async def get(self, start: int, end: int | None, if_match: str | None) -> Reply:
            reply = await super().get(start, end, if_match)
            reply.refuses_to_close = True
            return reply

    assert b"".join(Reading(face, Stubborn(150)).pieces()) == BODY
    assert Reading(face, Stubborn(150)).whole() == BODY


# Patience ---------------------------------------------------------------------------------


class Slow(Object):
    """Hangs in the middle of the body."""

    async def get(self, start: int, end: int | None, if_match: str | None) -> Reply:
        reply = await super().get(start, end, if_match)
        reply.cut = 0
        reply.how = None
        original = reply.chunks

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in original():
                yield chunk
            await asyncio.sleep(60)

        async def read() -> bytes:
            await asyncio.sleep(60)
            return b""

        reply.chunks, reply.read = chunks, read  # type: ignore[method-assign]
        return reply


@pytest.mark.parametrize("read", ["whole", "pieces"])
def test_a_body_that_hangs_is_given_up(read: str) -> None:
    reading = Reading(Face(True), Slow(), timeout=0.01, attempts=2)
    with pytest.raises(DeadlineExceededError):
        getattr(reading, read)()
    assert len(reading.stored.opened) == 2
    assert reading.all_closed()


class SlowToOpen(Slow):
    """Lets others run before it answers, so that their failures come before its success."""

    async def get(self, start: int, end: int | None, if_match: str | None) -> Reply:
        for _ in range(20):
            await asyncio.sleep(0)
        return await super().get(start, end, if_match)


@pytest.mark.parametrize("impatient", [True, False], ids=["callers", "configured"])
def test_only_the_configured_patience_trips_the_breaker(impatient: bool) -> None:
    reading = Reading(Face(True), SlowToOpen(), attempts=2, timeout=60.0 if impatient else 0.05)
    if impatient:
        reading.executor = reading.executor.with_timeout(0.05)

    async def run() -> None:
        streams = [await reading.open() for _ in range(5)]
        await asyncio.gather(*(stream.read() for stream in streams), return_exceptions=True)

    tripped: list[bool] = []
    original = reading.breaker.failed

    def failed(error: PlatformError) -> None:
        original(error)
        tripped.append(reading.breaker.open_until > 0)

    reading.endpoint.breaker = _Watched(reading.breaker, failed)  # type: ignore[assignment]
    asyncio.run(run())
    assert any(tripped) is not impatient
    assert reading.all_closed()


class _Watched:
    """A breaker whose failures are seen as they come."""

    def __init__(self, breaker: CircuitBreaker, failed: Callable[[PlatformError], None]) -> None:
        self._breaker = breaker
        self.failed = failed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._breaker, name)


def test_the_deadline_does_not_count_what_the_caller_does_between() -> None:
    reading = Reading(Face(True), Object(), timeout=0.02)

    async def run() -> bytes:
        body = b""
        async for chunk in (await reading.open()).chunks():
            await asyncio.sleep(0.005)
            body += chunk
        return body

    assert asyncio.run(run()) == BODY


# Closing ----------------------------------------------------------------------------------


def test_close_lets_go_once(face: Face) -> None:
    reading = Reading(face, Object())

    async def run() -> None:
        stream = await reading.open()
        for _ in range(3):
            await stream.close()

    face.run(run())
    assert [reply.closed for reply in reading.stored.replies] == [1]


def test_breaking_off_lets_go_blocking() -> None:
    reading = Reading(Face(False), Object())
    stream = drive(reading.open())
    for chunk in drive_each(stream.chunks()):
        assert chunk == BODY[:CHUNK]
        break
    assert reading.all_closed()


def test_breaking_off_lets_go_async() -> None:
    reading = Reading(Face(True), Object())

    async def run() -> None:
        stream = await reading.open()
        async with aclosing(stream.chunks()) as chunks:  # type: ignore[type-var]
            async for _ in chunks:
                break
        assert reading.all_closed()

    asyncio.run(run())


@pytest.mark.parametrize("again", ["read", "chunks"])
@pytest.mark.parametrize("before", ["read", "chunks", "close"])
def test_a_body_can_be_read_once(face: Face, before: str, again: str) -> None:
    reading = Reading(face, Object())

    async def use(stream: Download[Reply], how: str) -> None:
        if how == "chunks":
            async for _ in stream.chunks():
                pass
        else:
            await getattr(stream, how)()

    async def run() -> None:
        stream = await reading.open()
        await use(stream, before)
        await use(stream, again)

    with pytest.raises(InvalidArgumentError, match="can be read once; ask for it again"):
        face.run(run())
    assert len(reading.stored.opened) == 1


def test_a_stream_that_somebody_closes_is_not_resumed(face: Face) -> None:
    reading = Reading(face, Object(CHUNK, None))

    async def run() -> None:
        stream = await reading.open()
        async for _ in stream.chunks():
            await stream.close()

    with pytest.raises(PlatformError):
        face.run(run())
    assert len(reading.stored.opened) == 1
    assert reading.all_closed()


def test_a_stream_closed_while_the_rest_is_asked_for_leaves_nothing_open(face: Face) -> None:
    opened: list[Download[Reply]] = []

    class ClosesMeanwhile(Object):
        async def get(self, start: int, end: int | None, if_match: str | None) -> Reply:
            if self.opened:
                await opened[0].close()
            return await super().get(start, end, if_match)

    reading = Reading(face, ClosesMeanwhile(150))

    async def run() -> None:
        opened.append(await reading.open())
        async for _ in opened[0].chunks():
            pass

    with pytest.raises(UnavailableError):
        face.run(run())
    assert len(reading.stored.opened) == 2
    assert reading.all_closed()


def test_the_first_answer_is_at_hand(face: Face) -> None:
    reading = Reading(face, Object(150, None))

    async def run() -> str:
        stream = await reading.open()
        await stream.read()
        return stream.reply.etag

    assert face.run(run()) == "v1"


def test_a_resumed_body_follows_no_new_route(face: Face) -> None:
    reading = Reading(face, Object(150, None))

    async def run() -> bytes:
        stream = await reading.open()
        reading.route.endpoint = reading.serving(Object(body=b"other"))
        return b"".join([chunk async for chunk in stream.chunks()])

    assert face.run(run()) == BODY
