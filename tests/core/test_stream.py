"""Replies that outlive the call: walked, awaited, judged, opened anew, closed. Of any kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from cm_platform.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    UnavailableError,
    UnsupportedError,
)
from cm_platform.executor import Executor
from cm_platform.resilience import CircuitBreaker, RetryPolicy
from cm_platform.runtime import drive, drive_each
from cm_platform.stream import Stream

from .doubles import (
    READ,
    Face,
    FakeClock,
    ForbiddenError,
    LostError,
    RefusedError,
    Route,
    ScriptedBackend,
    StrangeError,
)

WORDS = ["so", "it", "comes", "word", "by", "word"]


class Speech:
    """A reply that says words; an exception among them is raised, a function is awaited."""

    def __init__(self, *words: Any, log: list[str] | None = None) -> None:
        self.words = words
        self.log: list[str] = [] if log is None else log
        self.refuses_to_close = False

    async def say(self) -> AsyncIterator[str]:
        try:
            for word in self.words:
                if isinstance(word, Exception):
                    raise word
                if callable(word):
                    await word()
                else:
                    yield word
        finally:
            self.log.append("silent")

    async def whole(self) -> str:
        return " ".join([word async for word in self.say()])

    async def close(self) -> None:
        self.log.append("closed")
        if self.refuses_to_close:
            raise OSError("broken pipe")

    @property
    def closed(self) -> int:
        return self.log.count("closed")


class Watched(CircuitBreaker):
    """Remembers what it was told of."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.told: list[PlatformError] = []

    def failed(self, error: PlatformError) -> None:
        self.told.append(error)
        super().failed(error)


class Listening:
    """Speeches opened one after the other through an executor, on one face."""

    def __init__(self, face: Face, *speeches: Any, attempts: int = 4, **options: Any) -> None:
        self.face = face
        self.speeches = [speech for speech in speeches if isinstance(speech, Speech)]
        self.backend = ScriptedBackend(*speeches)
        self.clock = FakeClock()
        self.breaker = Watched(self.clock)
        self.endpoint = face.endpoint(
            self.backend,
            self.clock,
            policy=RetryPolicy(attempts=attempts),
            breaker=self.breaker,
            **options,
        )
        self.route = Route(self.endpoint)
        self.executor = Executor("storage", self.route)
        self.firsts: list[Speech] = []

    async def open(self, **options: Any) -> Stream[Speech]:
        return await self.executor.stream(READ, _call, **options)

    async def reopen(self, backend: ScriptedBackend, first: Speech) -> Speech:
        self.firsts.append(first)
        speech: Speech = await backend.call()
        return speech

    def words(self, *, resumed: bool = False) -> list[str]:
        async def run() -> list[str]:
            stream = await self.open()
            reopen = self.reopen if resumed else None
            return [word async for word in stream.items(Speech.say, reopen=reopen)]

        return self.face.run(run())

    def whole(self, *, resumed: bool = False) -> str:
        async def run() -> str:
            stream = await self.open()
            return await stream.once(Speech.whole, reopen=self.reopen if resumed else None)

        return self.face.run(run())

    def all_closed(self) -> bool:
        return all(speech.closed for speech in self.speeches)


def _call(backend: ScriptedBackend) -> Awaitable[Any]:
    return backend.call()


both = pytest.mark.parametrize("how", ["words", "whole"])


# Opened and read --------------------------------------------------------------------------


def test_items_come_one_by_one_and_the_reply_is_closed(face: Face) -> None:
    listening = Listening(face, Speech(*WORDS))
    assert listening.words() == WORDS
    assert listening.all_closed()


def test_one_thing_is_awaited_and_the_reply_is_closed(face: Face) -> None:
    listening = Listening(face, Speech(*WORDS))
    assert listening.whole() == " ".join(WORDS)
    assert listening.all_closed()


def test_the_first_answer_is_at_hand_before_anything_is_read(face: Face) -> None:
    listening = Listening(face, Speech(*WORDS))

    async def run() -> None:
        stream = await listening.open()
        assert stream.reply is listening.speeches[0]
        assert (stream.used, stream.closed) == (False, False)
        await stream.close()
        assert stream.closed

    face.run(run())


def test_the_opening_is_retried_as_any_call(face: Face) -> None:
    listening = Listening(face, RefusedError(), Speech(*WORDS))
    assert listening.words() == WORDS
    assert listening.backend.calls == 2


def test_a_lacking_capability_is_refused_before_anything_is_opened(face: Face) -> None:
    listening = Listening(face, Speech(*WORDS))
    with pytest.raises(UnsupportedError):
        face.run(listening.open(requires="telepathy"))
    assert listening.backend.calls == 0


def test_an_endpoint_that_is_given_answers_whatever_the_route_says(face: Face) -> None:
    listening = Listening(face, Speech("from", "the", "route"))
    other = face.endpoint(ScriptedBackend(Speech("given")), listening.clock)

    async def run() -> str:
        return await (await listening.open(endpoint=other)).once(Speech.whole)

    assert face.run(run()) == "given"


# Failures ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (LostError(), UnavailableError),
        (ForbiddenError(), PermissionDeniedError),
        (StrangeError(), InternalError),
        (UnavailableError("it ended too early", retryable=True), UnavailableError),
    ],
    ids=["lost", "forbidden", "strange", "the-kinds-own"],
)
def test_a_failure_on_the_way_is_classified_and_final(
    face: Face, how: str, raised: Exception, code: type[PlatformError]
) -> None:
    listening = Listening(face, Speech("so", raised))
    with pytest.raises(code) as caught:
        getattr(listening, how)()
    assert not caught.value.retryable
    assert str(caught.value).startswith("storage.get on scripted: ")
    assert listening.backend.calls == 1
    assert listening.all_closed()


def test_what_came_before_the_failure_was_delivered(face: Face) -> None:
    listening = Listening(face, Speech("so", "it", LostError()))
    heard: list[str] = []

    async def run() -> None:
        async for word in (await listening.open()).items(Speech.say):
            heard.append(word)  # noqa: PERF401 - what was heard before it fails

    with pytest.raises(UnavailableError):
        face.run(run())
    assert heard == ["so", "it"]


@both
def test_the_breaker_hears_of_failures_on_the_way(face: Face, how: str) -> None:
    listening = Listening(face, Speech("so", LostError()))
    with pytest.raises(UnavailableError) as caught:
        getattr(listening, how)()
    assert listening.breaker.told == [caught.value]


@both
def test_less_patience_than_was_configured_says_nothing_about_the_backend(how: str) -> None:
    listening = Listening(Face(True), Speech("so", hang), timeout=60.0)
    listening.executor = listening.executor.with_timeout(0.02)
    with pytest.raises(DeadlineExceededError):
        getattr(listening, how)()
    assert listening.breaker.told == []


def test_a_stream_that_somebody_closed_says_nothing_about_the_backend(face: Face) -> None:
    listening = Listening(face, Speech("so", LostError()))

    async def run() -> None:
        stream = await listening.open()
        async for _ in stream.items(Speech.say, reopen=listening.reopen):
            await stream.close()

    with pytest.raises(UnavailableError):
        face.run(run())
    assert (listening.breaker.told, listening.firsts) == ([], [])
    assert listening.all_closed()


@both
def test_a_reply_that_cannot_be_closed_hides_nothing(face: Face, how: str) -> None:
    speech = Speech(*WORDS)
    speech.refuses_to_close = True
    assert getattr(Listening(face, speech), how)() in (WORDS, " ".join(WORDS))


# Opened anew ------------------------------------------------------------------------------


def test_a_kind_that_can_reopen_goes_on_after_a_failure(face: Face) -> None:
    first = Speech(*WORDS[:2], LostError())
    listening = Listening(face, first, Speech(*WORDS[2:5], LostError()), Speech(*WORDS[5:]))
    assert listening.words(resumed=True) == WORDS
    assert listening.firsts == [first, first]
    assert listening.all_closed()


def test_one_thing_is_asked_for_again_of_the_new_reply(face: Face) -> None:
    listening = Listening(face, Speech("so", LostError()), Speech(*WORDS))
    assert listening.whole(resumed=True) == " ".join(WORDS)
    assert listening.all_closed()


def test_each_item_earns_new_attempts(face: Face) -> None:
    speeches = [Speech(word, LostError()) for word in WORDS]
    listening = Listening(face, *speeches, Speech(), attempts=2)
    assert listening.words(resumed=True) == WORDS


@both
def test_without_an_item_the_attempts_come_to_an_end(face: Face, how: str) -> None:
    listening = Listening(face, *(Speech(LostError()) for _ in range(10)), attempts=3)
    with pytest.raises(UnavailableError) as caught:
        getattr(listening, how)(resumed=True)
    assert not caught.value.retryable
    assert listening.backend.calls == 3


@both
def test_a_refusal_is_not_opened_anew(face: Face, how: str) -> None:
    listening = Listening(face, Speech("so", ForbiddenError()), Speech(*WORDS))
    with pytest.raises(PermissionDeniedError):
        getattr(listening, how)(resumed=True)
    assert listening.backend.calls == 1


def test_an_exhausted_budget_ends_it(face: Face) -> None:
    listening = Listening(face, Speech("so", LostError()), Speech(*WORDS))
    while listening.endpoint.budget.withdraw():
        pass
    with pytest.raises(UnavailableError):
        listening.words(resumed=True)
    assert listening.backend.calls == 1


def test_a_refusal_to_reopen_is_what_the_caller_hears(face: Face) -> None:
    listening = Listening(face, Speech("so", LostError()), ForbiddenError())
    with pytest.raises(PermissionDeniedError):
        listening.words(resumed=True)
    assert listening.all_closed()


def test_what_is_opened_anew_follows_no_new_route(face: Face) -> None:
    listening = Listening(face, Speech("so", LostError()), Speech("on"))

    async def run() -> list[str]:
        stream = await listening.open()
        listening.route.endpoint = face.endpoint(ScriptedBackend(Speech("off")), listening.clock)
        return [word async for word in stream.items(Speech.say, reopen=listening.reopen)]

    assert face.run(run()) == ["so", "on"]


def test_a_stream_closed_while_it_is_opened_anew_leaves_nothing_open(face: Face) -> None:
    listening = Listening(face, Speech("so", LostError()), Speech("on"))
    opened: list[Stream[Speech]] = []

    async def reopen(backend: ScriptedBackend, first: Speech) -> Speech:
        await opened[0].close()
        return await listening.reopen(backend, first)

    async def run() -> None:
        opened.append(await listening.open())
        async for _ in opened[0].items(Speech.say, reopen=reopen):
            pass

    with pytest.raises(UnavailableError):
        face.run(run())
    assert listening.all_closed()


# Patience ---------------------------------------------------------------------------------


async def hang() -> None:
    await asyncio.sleep(60)


@both
def test_a_wait_for_more_has_a_deadline(how: str) -> None:
    listening = Listening(Face(True), Speech("so", hang, "late"), timeout=0.02)
    with pytest.raises(DeadlineExceededError):
        getattr(listening, how)()
    assert listening.all_closed()


def test_the_deadline_does_not_count_what_the_caller_does_between() -> None:
    listening = Listening(Face(True), Speech(*WORDS), timeout=0.02)

    async def run() -> list[str]:
        heard: list[str] = []
        async for word in (await listening.open()).items(Speech.say):
            await asyncio.sleep(0.005)
            heard.append(word)
        return heard

    assert asyncio.run(run()) == WORDS


# Closing ----------------------------------------------------------------------------------


def test_close_lets_go_once(face: Face) -> None:
    listening = Listening(face, Speech(*WORDS))

    async def run() -> None:
        stream = await listening.open()
        for _ in range(3):
            await stream.close()

    face.run(run())
    assert listening.speeches[0].log == ["closed"]


def test_breaking_off_ends_the_walk_then_the_reply_blocking() -> None:
    listening = Listening(Face(False), Speech(*WORDS))
    stream = drive(listening.open())
    for word in drive_each(stream.items(Speech.say)):
        assert word == "so"
        break
    assert listening.speeches[0].log == ["silent", "closed"]


def test_breaking_off_ends_the_walk_then_the_reply_async() -> None:
    listening = Listening(Face(True), Speech(*WORDS))

    async def run() -> None:
        stream = await listening.open()
        async with aclosing(stream.items(Speech.say)) as words:  # type: ignore[type-var]
            async for _ in words:
                break
        assert listening.speeches[0].log == ["silent", "closed"]

    asyncio.run(run())


def test_a_cancelled_reader_lets_go() -> None:
    listening = Listening(Face(True), Speech("so", hang))

    async def run() -> None:
        stream = await listening.open()
        heard = asyncio.Event()

        async def read() -> None:
            async for _ in stream.items(Speech.say):
                heard.set()

        task = asyncio.create_task(read())
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert listening.all_closed()


@pytest.mark.parametrize("again", ["items", "once"])
@pytest.mark.parametrize("before", ["items", "once", "close"])
def test_a_reply_can_be_read_once(face: Face, before: str, again: str) -> None:
    listening = Listening(face, Speech(*WORDS))

    async def use(stream: Stream[Speech], how: str) -> None:
        if how == "items":
            async for _ in stream.items(Speech.say):
                pass
        elif how == "once":
            await stream.once(Speech.whole)
        else:
            await stream.close()

    async def run() -> None:
        stream = await listening.open()
        await use(stream, before)
        await use(stream, again)

    with pytest.raises(InvalidArgumentError, match="can be read once; ask for it again"):
        face.run(run())
    assert listening.backend.calls == 1


def test_the_items_may_be_made_of_the_reply_by_any_function(face: Face) -> None:
    listening = Listening(face, Speech(*WORDS))

    async def lengths(speech: Speech) -> AsyncIterator[int]:
        async for word in speech.say():
            yield len(word)

    async def run(iterate: Callable[[Speech], AsyncIterator[int]]) -> list[int]:
        stream = await listening.open()
        return [length async for length in stream.items(iterate)]

    assert face.run(run(lengths)) == [len(word) for word in WORDS]
