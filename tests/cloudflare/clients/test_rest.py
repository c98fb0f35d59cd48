"""The REST client on both faces: the SDK as it is, its token's rate, and what refusals mean."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from cm_platform.cloudflare.limiter import Limiter
from cm_platform.cloudflare.record import LocalRecord, Record
from cm_platform.cloudflare.rest import Rest
from cm_platform.cloudflare.settings import RestSettings
from cm_platform.errors import (
    AlreadyExistsError,
    ConfigInvalidError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
)
from cm_platform.runtime import SYSTEM_CLOCK, Clock, settle
from cm_platform.testing.servers import FaultProxy

from .doubles import Face, FakeClock, Reply, Request, Server

ACCOUNT = "0123456789abcdef" * 2
NAMESPACE = "f" * 32
TOKEN = "the-api-token-of-the-tests"
WHERE = {"account_id": ACCOUNT, "namespace_id": NAMESPACE}

VALUE = Reply(b"\x00the value", headers={"content-type": "application/octet-stream"})


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(lambda request: VALUE) as running:
        yield running


@pytest.fixture(autouse=True)
def the_machines_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the SDK would take from there, were it let.
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "a-token-of-the-environment")
    monkeypatch.setenv("CLOUDFLARE_API_KEY", "a-key-of-the-environment")
    monkeypatch.setenv("CLOUDFLARE_EMAIL", "somebody@example.com")
    monkeypatch.setenv("CLOUDFLARE_API_USER_SERVICE_KEY", "a-service-key")
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://127.0.0.1:9/nowhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")


Opened = Callable[..., Rest]


@pytest.fixture
def opened(face: Face, server: Server) -> Iterator[Opened]:
    made: list[Rest] = []

    def make(
        *,
        clock: Clock = SYSTEM_CLOCK,
        record: Record | None = None,
        cap: int = 1000,
        url: str = server.url,
        **changes: Any,
    ) -> Rest:
        settings = RestSettings.model_validate(
            {
                "account_id": ACCOUNT,
                "api_token": TOKEN,
                "base_url": f"{url}/client/v4",
                "read_timeout": 5.0,
                **changes,
            }
        )
        runtime = face.runtime(clock)
        limiter = Limiter(record or LocalRecord(), runtime, max_requests=cap, period=10.0)
        made.append(Rest(settings, runtime, limiter))
        return made[-1]

    yield make
    for rest in made:
        face.run(rest.close())


def get(face: Face, rest: Rest, key: str = "k", deadline: float | None = None) -> bytes:
    async def act() -> bytes:
        reply: Any = await rest.call(
            lambda sdk: sdk.kv.namespaces.values.get(key, **WHERE), deadline=deadline
        )
        data: bytes = await settle(reply.read())
        return data

    return face.run(act())


def failure(face: Face, rest: Rest, **how: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        get(face, rest, **how)
    return caught.value


def test_the_token_of_the_settings_is_sent_whatever_the_environment_says(
    face: Face, server: Server, opened: Opened
) -> None:
    assert get(face, opened(), "dir/é%2F..") == b"\x00the value"
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert not [name for name in request.headers if name.startswith("x-auth")]
    assert request.target == (
        f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{NAMESPACE}/values/"
        "dir%2F%C3%A9%252F.."
    )


def test_the_environment_says_nothing_to_a_call_with_a_deadline_either(
    face: Face, server: Server, opened: Opened
) -> None:
    later = SYSTEM_CLOCK.monotonic() + 60
    face.run(opened().call(lambda sdk: sdk.kv.namespaces.values.get("k", **WHERE), deadline=later))
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert not [name for name in request.headers if name.startswith("x-auth")]


def test_bytes_are_written_as_they_are(face: Face, server: Server, opened: Opened) -> None:
    server.reply = lambda request: Reply(
        orjson.dumps({"success": True, "result": {}, "errors": [], "messages": []}),
        headers={"content-type": "application/json"},
    )
    rest = opened()
    face.run(
        rest.call(lambda sdk: sdk.kv.namespaces.values.update("k", value=b"\x00\xff", **WHERE))
    )
    (request,) = server.requests
    assert (request.method, b"\x00\xff" in request.body) == ("PUT", True)


def test_the_sdk_is_imported_when_it_is_needed() -> None:
    import subprocess

    code = (
        "import sys, cm_platform.cloudflare.rest as rest, cm_platform.cloudflare.gateway;"
        "print('cloudflare' in sys.modules)"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.strip() == "False"


# The rate


def test_the_rate_is_the_documented_one_and_shared(face: Face, tmp_path: Path) -> None:
    clock = FakeClock()
    settings = RestSettings.model_validate(
        {
            "account_id": ACCOUNT,
            "api_token": f"{TOKEN}-{face.is_async}",
            "limiter_directory": tmp_path / "record",
        }
    )
    rest = Rest.open(settings, face.runtime(clock))
    assert rest.limiter.shared
    for _ in range(1200):
        face.run(rest.limiter.ended(face.run(rest.limiter.admit(0.0))))
    clock.move(299.9)
    with pytest.raises(RateLimitedError):
        face.run(rest.limiter.admit(0.0))
    clock.move(0.5)
    face.run(rest.limiter.admit(0.0))


def test_a_turn_is_waited_for(face: Face, server: Server, opened: Opened) -> None:
    clock = FakeClock()
    rest = opened(clock=clock, cap=1, limiter_wait=11.0)
    get(face, rest)
    get(face, rest)
    assert sum(clock.slept) == pytest.approx(10.01, abs=0.01)
    assert len(server.requests) == 2


def test_a_turn_beyond_the_setting_is_refused_without_being_sent(
    face: Face, server: Server, opened: Opened
) -> None:
    clock = FakeClock()
    rest = opened(clock=clock, cap=1, limiter_wait=1.0)
    get(face, rest)
    error = failure(face, rest)
    assert isinstance(error, RateLimitedError)
    assert (error.retryable, error.not_sent) == (True, True)
    assert error.retry_after == pytest.approx(10.01)
    assert len(server.requests) == 1


@pytest.mark.parametrize("left", [-5.0, 0.0, 5.0])
def test_a_turn_beyond_the_callers_deadline_is_refused_at_once(
    face: Face, server: Server, opened: Opened, left: float
) -> None:
    clock = FakeClock()
    rest = opened(clock=clock, cap=1, limiter_wait=60.0)
    get(face, rest)
    error = failure(face, rest, deadline=clock.monotonic() + left)
    assert isinstance(error, RateLimitedError)
    assert not clock.slept
    assert len(server.requests) == 1


def test_a_turn_within_the_callers_deadline_is_waited_for(
    face: Face, server: Server, opened: Opened
) -> None:
    clock = FakeClock()
    rest = opened(clock=clock, cap=1, limiter_wait=60.0)
    get(face, rest)
    assert get(face, rest, deadline=clock.monotonic() + 11)


def test_after_a_429_nobody_asks_until_the_time_is_up(
    face: Face, server: Server, opened: Opened
) -> None:
    clock = FakeClock()
    record = LocalRecord()
    server.reply = lambda request: Reply(
        b"{}", status=429, headers={"retry-after": "300", "ratelimit": '"default";r=0;t=1'}
    )
    first = failure(face, opened(clock=clock, record=record))
    assert isinstance(first, RateLimitedError)
    assert (first.retry_after, first.not_sent, first.retryable) == (300.0, True, True)
    server.reply = lambda request: VALUE
    other = opened(clock=clock, record=record)
    assert failure(face, other).retry_after == pytest.approx(300.0)
    assert len(server.requests) == 1
    clock.move(300.1)
    get(face, other)


def test_each_page_of_a_listing_waits_for_its_own_turn(
    face: Face, server: Server, opened: Opened
) -> None:
    def page(request: Request) -> Reply:
        last = "cursor=" in request.target
        info = {"count": 1, "cursor": "" if last else "next"}
        body = {"result": [{"name": "k"}], "result_info": info, "success": True, "errors": []}
        return Reply(orjson.dumps(body), headers={"content-type": "application/json"})

    server.reply = page
    rest = opened(clock=FakeClock(), cap=1, limiter_wait=0.0)

    async def act() -> int:
        found: Any = await rest.call(lambda sdk: sdk.kv.namespaces.keys.list(**WHERE))
        await rest.call(lambda sdk: found.get_next_page())
        return 0

    with pytest.raises(RateLimitedError):
        face.run(act())
    assert len(server.requests) == 1


def test_a_request_that_failed_counts_as_one(face: Face, server: Server, opened: Opened) -> None:
    clock = FakeClock()
    with FaultProxy("127.0.0.1", server.port) as proxy:
        rest = opened(clock=clock, cap=1, url=proxy.url, limiter_wait=0.0)
        proxy.lose_reply()
        assert isinstance(failure(face, rest), UnavailableError)
        assert failure(face, rest).retry_after == pytest.approx(10.01)


# What comes back


def answer(status: int, code: int = 0, **headers: str) -> Reply:
    body = {
        "success": False,
        "errors": [{"code": code, "message": "the secret of a tenant"}] if code else [],
    }
    return Reply(orjson.dumps(body), status, {"content-type": "application/json", **headers})


REFUSALS: list[tuple[Reply, type[PlatformError], bool, bool]] = [
    (answer(400, 10029), InvalidArgumentError, False, True),
    (answer(413), InvalidArgumentError, False, True),
    (answer(400, 6003), UnauthenticatedError, False, True),
    (answer(401, 1000), UnauthenticatedError, False, True),
    (answer(403, 10000), UnauthenticatedError, False, True),
    (answer(403, 7777), PermissionDeniedError, False, True),
    (answer(404, 10009), NotFoundError, False, False),
    (answer(404, 10013), ConfigInvalidError, False, False),
    (answer(404, 7003), ConfigInvalidError, False, False),
    (answer(302), ConfigInvalidError, False, False),
    (answer(409, 10014), AlreadyExistsError, False, False),
    (answer(408), UnavailableError, True, False),
    (answer(429), RateLimitedError, True, True),
    (answer(500), UnavailableError, True, False),
    (answer(503), UnavailableError, True, False),
    (Reply(b"<html>the secret of a tenant</html>", 502), UnavailableError, True, False),
    (Reply(b"[]", 404, {"content-type": "application/json"}), NotFoundError, False, False),
]


@pytest.mark.parametrize(
    ("reply", "kind", "retryable", "not_sent"),
    REFUSALS,
    ids=lambda part: getattr(part, "status", None),
)
def test_a_refusal_says_what_it_means_and_nothing_of_what_was_sent(
    face: Face,
    server: Server,
    opened: Opened,
    reply: Reply,
    kind: type[PlatformError],
    retryable: bool,
    not_sent: bool,
) -> None:
    server.reply = lambda request: reply
    error = failure(face, opened(), key="the-key")
    assert type(error) is kind
    assert (error.retryable, error.not_sent) == (retryable, not_sent)
    told = "".join(traceback.format_exception(error))
    for secret in (TOKEN, "the-key", "secret of a tenant"):
        assert secret not in told
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_was_sent_nothing(face: Face, opened: Opened) -> None:
    with Server(lambda request: VALUE) as gone:
        url = gone.url
    error = failure(face, opened(url=url))
    assert isinstance(error, UnavailableError)
    assert (error.not_sent, error.retryable) == (True, True)


def test_a_lost_reply_is_asked_once(face: Face, server: Server, opened: Opened) -> None:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.lose_reply()
        error = failure(face, opened(url=proxy.url))
    assert isinstance(error, UnavailableError)
    assert (error.not_sent, error.retryable) == (False, True)
    assert len(server.requests) == 1


def test_silence_is_a_missed_deadline(face: Face, server: Server, opened: Opened) -> None:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.stall()
        error = failure(face, opened(url=proxy.url, read_timeout=0.2))
    assert isinstance(error, DeadlineExceededError)
    assert (error.not_sent, error.retryable) == (False, True)


@pytest.mark.parametrize("body", [b"", b"{", b"7", b"[]", b"<html>", b"\xff"])
def test_what_is_no_answer_of_the_api_is_an_internal_error(
    face: Face, server: Server, opened: Opened, body: bytes
) -> None:
    server.reply = lambda request: Reply(body, headers={"content-type": "application/json"})
    rest = opened()
    with pytest.raises(InternalError, match="make sense"):
        face.run(rest.call(lambda sdk: sdk.kv.namespaces.get(NAMESPACE, account_id=ACCOUNT)))


def test_a_mistake_of_the_caller_is_left_alone(face: Face, opened: Opened) -> None:
    rest = opened()
    with pytest.raises(AttributeError):
        face.run(rest.call(lambda sdk: sdk.there_is_no_such_thing))


def test_neither_keys_nor_values_nor_the_token_are_logged(
    face: Face, server: Server, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    rest = opened()
    with caplog.at_level(logging.DEBUG):
        get(face, rest, key="the-key-of-a-tenant")
        server.reply = lambda request: answer(200)
        face.run(
            rest.call(
                lambda sdk: sdk.kv.namespaces.bulk_update(
                    body=[{"key": "the-key-of-a-tenant", "value": "the-value-of-a-tenant"}], **WHERE
                )
            )
        )
    assert "HTTP Request: GET" in caplog.text
    for secret in (TOKEN, "the-key-of-a-tenant", "the-value-of-a-tenant", ACCOUNT):
        assert secret not in caplog.text
