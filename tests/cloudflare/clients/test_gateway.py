"""The gateway's client on both faces: what it sends, and what it makes of what comes back."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote

import httpx
import orjson
import pytest

from cm_platform.cloudflare.gateway import Gateway
from cm_platform.cloudflare.settings import GatewaySettings
from cm_platform.errors import (
    ConfigInvalidError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PlatformError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
)
from cm_platform.runtime import drive
from cm_platform.testing.servers import FaultProxy

from .doubles import Face, FakeClock, Reply, Request, Server, frame, unframed

SECRET = "the-secret-of-the-tests-0123456789"
NOTHING = {"op": "kv.get", "binding": "KV", "key": "absent"}
NOT_THERE = Reply(frame({"outcomes": [{"ok": True, "value": None, "metadata": None}]}))


def echo(request: Request) -> Reply:
    """Answers each `kv.get` with its key, and others with nothing."""
    head, _ = unframed(request.body)
    outcomes: list[dict[str, Any]] = []
    tail = b""
    for operation in head["operations"]:
        if operation["op"] == "kv.get":
            value = operation["key"].encode()
            place = {"offset": len(tail), "length": len(value)}
            outcomes.append({"ok": True, "value": place, "metadata": None})
            tail += value
        else:
            outcomes.append({"ok": True})
    return Reply(frame({"outcomes": outcomes}, tail), headers={"cm-gateway-version": "0.1.0"})


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(echo) as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.port) as running:
        yield running


def settings(url: str, **changes: Any) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {"url": url, "key_id": "k1", "secret": SECRET, "read_timeout": 5.0, **changes}
    )


@pytest.fixture
def opened(face: Face) -> Iterator[Callable[..., Gateway]]:
    made: list[Gateway] = []

    def make(url: str, clock: FakeClock | None = None, **changes: Any) -> Gateway:
        runtime = face.runtime() if clock is None else face.runtime(clock)
        made.append(Gateway.open(settings(url, **changes), runtime))
        return made[-1]

    yield make
    for gateway in made:
        face.run(gateway.close())


Opened = Callable[..., Gateway]


def failure(face: Face, gateway: Gateway) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        face.run(gateway.batch("t/", [NOTHING]))
    return caught.value


# What is sent


def test_a_batch_carries_operations_and_bytes_and_brings_outcomes(
    face: Face, server: Server, opened: Opened
) -> None:
    put = {"op": "kv.put", "binding": "KV", "key": "k", "value": b"\x00\xff" * 10, "ttl": 60}
    get = {"op": "kv.get", "binding": "KV", "key": "the value"}
    outcomes = face.run(opened(server.url).batch("tenant/é", [put, get]))
    assert [outcome.checked() for outcome in outcomes] == [
        {},
        {"value": b"the value", "metadata": None},
    ]
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/v1/batch")
    assert request.headers["content-type"] == "application/vnd.cm-platform.batch"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["accept-encoding"] == "identity"
    assert unquote(request.headers["cm-partition"]) == "tenant/é"
    assert unframed(request.body)[1] == b"\x00\xff" * 10


def mac(request: Request) -> str:
    """The signature that the protocol asks for, spelt out."""
    from base64 import urlsafe_b64encode

    fields = [
        b"cm-gateway-v1",
        request.headers["cm-key-id"].encode(),
        request.method.encode(),
        request.target.partition("?")[0].encode(),
        request.target.partition("?")[2].encode(),
        hashlib.sha256(request.body).hexdigest().encode(),
        request.headers["cm-timestamp"].encode(),
        request.headers["cm-nonce"].encode(),
        unquote(request.headers["cm-partition"]).encode(),
    ]
    signed = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    digest = hmac.new(SECRET.encode(), signed, "sha256").digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_every_request_is_signed_anew(face: Face, server: Server, opened: Opened) -> None:
    clock = FakeClock()
    gateway = opened(server.url, clock)
    for _ in range(3):
        face.run(gateway.batch("t/", [NOTHING]))
    for request in server.requests:
        assert request.headers["cm-signature"] == mac(request)
        assert request.headers["cm-timestamp"] == "1795456800000"
    assert len({request.headers["cm-nonce"] for request in server.requests}) == 3


def test_a_large_body_is_signed_as_a_small_one(face: Face, server: Server, opened: Opened) -> None:
    put = {"op": "kv.put", "key": "k", "value": bytes(range(256)) * 4096}
    face.run(opened(server.url).batch("t/", [put]))
    (request,) = server.requests
    assert len(request.body) > 1024 * 1024
    assert request.headers["cm-signature"] == mac(request)


def test_nothing_is_asked_without_operations(face: Face, server: Server, opened: Opened) -> None:
    assert face.run(opened(server.url).batch("t/", [])) == []
    assert not server.requests


@pytest.mark.parametrize(
    ("partition", "operations"),
    [("", [NOTHING]), ("nul\0", [NOTHING]), ("t/", [NOTHING] * 101), ("t/", [{"op": {1, 2}}])],
    ids=["no partition", "nul", "too many", "no JSON"],
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    face: Face, server: Server, opened: Opened, partition: str, operations: list[dict[str, Any]]
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        face.run(opened(server.url).batch(partition, operations))
    assert caught.value.not_sent
    assert not server.requests


def test_requests_share_a_connection(face: Face, server: Server, opened: Opened) -> None:
    gateway = opened(server.url)
    for _ in range(5):
        face.run(gateway.batch("t/", [NOTHING]))
    assert len({request.connection for request in server.requests}) == 1


def at_once(face: Face, gateway: Gateway, count: int) -> list[Any]:
    if not face.is_async:
        with ThreadPoolExecutor(count) as pool:
            asked = [pool.submit(drive, gateway.batch("t/", [NOTHING])) for _ in range(count)]
            return [future.exception() or future.result() for future in asked]

    async def gathered() -> list[Any]:
        batches = (gateway.batch("t/", [NOTHING]) for _ in range(count))
        return await asyncio.gather(*batches, return_exceptions=True)

    return face.run(gathered())


def test_no_more_connections_are_opened_than_were_allowed(
    face: Face, server: Server, opened: Opened
) -> None:
    results = at_once(face, opened(server.url, pool_size=3), 40)
    assert all(isinstance(result, list) for result in results)
    assert len(server.requests) == 40
    assert len({request.connection for request in server.requests}) <= 3


def test_a_turn_is_not_waited_for_without_end(face: Face, server: Server, opened: Opened) -> None:
    release = threading.Event()

    def slow(request: Request) -> Reply:
        release.wait(10)
        return echo(request)

    server.reply = slow
    gateway = opened(server.url, pool_size=1, connect_timeout=0.2)
    timer = threading.Timer(0.8, release.set)
    timer.start()
    results = at_once(face, gateway, 3)
    timer.join()
    late = [result for result in results if isinstance(result, UnavailableError)]
    assert len(late) == 2
    assert all(error.not_sent and error.retryable and "pool_size" in str(error) for error in late)
    assert face.run(gateway.batch("t/", [NOTHING]))


def test_health_says_what_is_there(face: Face, server: Server, opened: Opened) -> None:
    told = {"version": "0.1.0", "protocol": 1, "bindings": {"KV": "kv"}, "time": 1_795_456_800_500}
    server.reply = lambda request: Reply(orjson.dumps(told))
    health = face.run(opened(server.url).health())
    assert (health.version, health.protocol, health.bindings) == ("0.1.0", 1, {"KV": "kv"})
    assert health.time == 1_795_456_800.5
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("GET", "/v1/health", b"")
    assert request.headers["cm-partition"] == ""
    assert request.headers["cm-signature"] == mac(request)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"version":"1"}', b'{"bindings":[]}'])
def test_a_health_that_is_none_is_an_internal_error(
    face: Face, server: Server, opened: Opened, body: bytes
) -> None:
    server.reply = lambda request: Reply(body)
    with pytest.raises(InternalError, match="malformed"):
        face.run(opened(server.url).health())


def test_operators_get_a_client_that_signs(face: Face, server: Server, opened: Opened) -> None:
    server.reply = lambda request: Reply(b"{}")
    client = opened(server.url).native()
    if isinstance(client, httpx.Client):
        with client:
            client.get("/v1/health?b=2", headers={"cm-partition": "caf%C3%A9"})
    else:

        async def ask(client: httpx.AsyncClient = client) -> None:
            async with client:
                await client.get("/v1/health?b=2", headers={"cm-partition": "caf%C3%A9"})

        face.run(ask())
    (request,) = server.requests
    assert request.headers["cm-partition"] == "caf%C3%A9"
    assert request.headers["cm-signature"] == mac(request)


# What comes back


def test_a_reply_that_is_no_frame_is_an_internal_error(
    face: Face, server: Server, opened: Opened
) -> None:
    server.reply = lambda request: Reply(b"<html>welcome</html>")
    error = failure(face, opened(server.url))
    assert isinstance(error, InternalError)
    assert not error.not_sent


def test_a_reply_beyond_all_bounds_is_not_read(face: Face, server: Server, opened: Opened) -> None:
    server.reply = lambda request: Reply(bytes(27 * 1024 * 1024))
    gateway = opened(server.url)
    error = failure(face, gateway)
    assert isinstance(error, InternalError)
    server.reply = lambda request: NOT_THERE
    assert face.run(gateway.batch("t/", [NOTHING]))


def json_error(code: str, message: str) -> bytes:
    return orjson.dumps({"error": {"code": code, "message": message}})


REFUSALS: list[tuple[Reply, type[PlatformError], dict[str, Any]]] = [
    (Reply(status=401), UnauthenticatedError, {"not_sent": True, "retryable": False}),
    (Reply(status=400), InvalidArgumentError, {"not_sent": True, "retryable": False}),
    (Reply(status=413), InvalidArgumentError, {"not_sent": True, "retryable": False}),
    (Reply(status=403), PermissionDeniedError, {"not_sent": True, "retryable": False}),
    (Reply(status=404), ConfigInvalidError, {"not_sent": True, "retryable": False}),
    (
        Reply(status=302, headers={"location": "https://example.com"}),
        ConfigInvalidError,
        {"not_sent": True},
    ),
    (
        Reply(status=429, headers={"retry-after": "7"}),
        RateLimitedError,
        {"not_sent": True, "retryable": True, "retry_after": 7.0},
    ),
    (
        Reply(status=429, headers={"retry-after": formatdate(1_795_456_830, usegmt=True)}),
        RateLimitedError,
        {"retry_after": 30.0},
    ),
    (
        Reply(status=429, headers={"retry-after": "soon"}),
        RateLimitedError,
        {"retry_after": None},
    ),
    (Reply(status=500), UnavailableError, {"not_sent": False, "retryable": True}),
    (
        Reply(status=503, headers={"retry-after": "2"}),
        UnavailableError,
        {"not_sent": False, "retryable": True, "retry_after": 2.0},
    ),
    (Reply(status=522), UnavailableError, {"not_sent": False, "retryable": True}),
    (Reply(status=204), InternalError, {"not_sent": False, "retryable": False}),
]


@pytest.mark.parametrize(
    ("reply", "kind", "expected"), REFUSALS, ids=lambda part: getattr(part, "status", None)
)
def test_a_refused_batch_says_what_it_means(
    face: Face,
    server: Server,
    opened: Opened,
    reply: Reply,
    kind: type[PlatformError],
    expected: dict[str, Any],
) -> None:
    server.reply = lambda request: reply
    error = failure(face, opened(server.url, FakeClock()))
    assert type(error) is kind
    assert {name: getattr(error, name) for name in expected} == expected


def test_the_gateway_names_the_limit_that_was_passed(
    face: Face, server: Server, opened: Opened
) -> None:
    body = json_error("invalid_argument", "a batch has at most 100 operations")
    server.reply = lambda request: Reply(body, status=413)
    error = failure(face, opened(server.url))
    assert error.message == "the gateway says: a batch has at most 100 operations"


def test_a_wrong_clock_is_named_as_the_cause(face: Face, server: Server, opened: Opened) -> None:
    server.reply = lambda request: Reply(status=401)
    ahead = failure(face, opened(server.url, FakeClock(wall=time.time() + 120)))
    behind = failure(face, opened(server.url, FakeClock(wall=time.time() - 120)))
    right = failure(face, opened(server.url))
    assert "clock of this machine is 1" in ahead.message
    assert "ahead of" in ahead.message
    assert "behind" in behind.message
    assert "GATEWAY_KEYS" in right.message


# What networks do


def test_a_server_that_is_not_there_was_sent_nothing(face: Face, opened: Opened) -> None:
    with Server(echo) as gone:
        url = gone.url
    error = failure(face, opened(url))
    assert isinstance(error, UnavailableError)
    assert (error.not_sent, error.retryable) == (True, True)


def test_a_server_without_tls_was_sent_nothing(face: Face, server: Server, opened: Opened) -> None:
    error = failure(face, opened(server.url.replace("http", "https")))
    assert isinstance(error, UnavailableError)
    assert error.not_sent
    assert not server.requests


def test_a_lost_reply_leaves_the_question_open(
    face: Face, server: Server, proxy: FaultProxy, opened: Opened
) -> None:
    gateway = opened(proxy.url)
    face.run(gateway.batch("t/", [NOTHING]))
    proxy.lose_reply()
    error = failure(face, gateway)
    assert isinstance(error, UnavailableError)
    assert (error.not_sent, error.retryable) == (False, True)
    assert len(server.requests) == 2
    assert face.run(gateway.batch("t/", [NOTHING]))
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", ["refuse", "reset", "cut"])
def test_a_connection_that_ends_early_is_unavailable(
    face: Face, proxy: FaultProxy, opened: Opened, fault: str
) -> None:
    gateway = opened(proxy.url)
    face.run(gateway.batch("t/", [NOTHING]))
    if fault == "cut":
        proxy.lose_reply_after(5)
    else:
        getattr(proxy, fault)()
    error = failure(face, gateway)
    assert isinstance(error, UnavailableError)
    assert (error.not_sent, error.retryable) == (False, True)
    assert face.run(gateway.batch("t/", [NOTHING]))


def test_silence_is_a_missed_deadline(face: Face, proxy: FaultProxy, opened: Opened) -> None:
    gateway = opened(proxy.url, read_timeout=0.2)
    stall = proxy.stall()
    error = failure(face, gateway)
    assert isinstance(error, DeadlineExceededError)
    assert (error.not_sent, error.retryable) == (False, True)
    stall.release()
    assert face.run(gateway.batch("t/", [NOTHING]))


def test_what_is_no_http_is_unavailable(face: Face, opened: Opened) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        error = failure(face, opened(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        thread.join()
    assert isinstance(error, UnavailableError)


def test_one_that_is_cancelled_harms_no_other() -> None:
    face = Face(is_async=True)
    with Server(echo) as server, FaultProxy("127.0.0.1", server.port) as proxy:

        async def act() -> None:
            gateway = Gateway.open(settings(proxy.url, pool_size=1), face.runtime())
            stall = proxy.stall()
            first = asyncio.create_task(gateway.batch("t/", [NOTHING]))
            waiting = asyncio.create_task(gateway.batch("t/", [NOTHING]))
            last = asyncio.create_task(gateway.batch("t/", [NOTHING]))
            while not await asyncio.to_thread(stall.hit):
                pass
            waiting.cancel()
            await asyncio.sleep(0)
            first.cancel()
            results = await asyncio.gather(first, waiting, last, return_exceptions=True)
            stall.release()
            assert [type(result) for result in results] == [
                asyncio.CancelledError,
                asyncio.CancelledError,
                list,
            ]
            await gateway.close()

        face.run(act())
    face.close()


def test_a_closed_client_asks_nothing(face: Face, server: Server, opened: Opened) -> None:
    gateway = opened(server.url)
    face.run(gateway.batch("t/", [NOTHING]))
    face.run(gateway.close())
    error = failure(face, gateway)
    assert isinstance(error, UnavailableError)
    assert error.not_sent
    assert len(server.requests) == 1


# What is told


def test_nothing_that_authorises_is_logged(
    face: Face, server: Server, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        face.run(opened(server.url).batch("the-tenant/", [{"op": "kv.get", "key": "the-key"}]))
        server.reply = lambda request: Reply(status=401)
        error = failure(face, opened(server.url))
    (first, _) = server.requests
    for secret in (SECRET, first.headers["cm-signature"], "the-tenant", "the-key"):
        assert secret not in caplog.text
        assert secret not in str(error)


def test_settings_do_not_show_the_secret() -> None:
    assert SECRET not in repr(settings("https://gateway.example.com"))
