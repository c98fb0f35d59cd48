"""What goes wrong on the way to an S3 service, through real sockets, and what it is called."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from cm_platform.errors import PlatformError
from cm_platform.storage.backend import Part
from cm_platform.storage.s3 import S3Config, S3Storage
from cm_platform.testing.servers import Endpoint, FaultProxy, S3Server

from .s3_faces import FACES, PLAIN, Config, Face, body, failure, on, s3_config

# "k" goes through obstore and "k/" through boto3.
pytestmark = [pytest.mark.parametrize("face", FACES), pytest.mark.parametrize("key", ["k", "k/"])]

CANARY = "CANARY"


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


def _signs(error: PlatformError) -> tuple[str, bool, bool]:
    return error.code, error.retryable, error.not_sent


def _nowhere(endpoint: Endpoint, port: int) -> S3Config:
    return s3_config(endpoint).model_copy(
        update={"endpoint": f"http://127.0.0.1:{port}", "connect_timeout": 0.3}
    )


def test_a_refused_connection_sent_nothing(face: Face, key: str, server: S3Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens

        async def scenario(storage: S3Storage) -> None:
            for call in (storage.put(key, b"x", PLAIN), storage.get(key), storage.delete(key)):
                assert _signs(await failure(storage, call)) == ("unavailable", True, True)

        on(face, _nowhere(server.endpoint, taken.getsockname()[1]), scenario)


@contextmanager
def _full_backlog() -> Iterator[int]:
    """A port where connections are neither taken nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting: list[socket.socket] = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


def test_a_connection_that_is_not_made_in_time_sent_nothing(
    face: Face, key: str, server: S3Server
) -> None:
    async def scenario(storage: S3Storage) -> None:
        error = await failure(storage, storage.put(key, b"x", PLAIN))
        assert _signs(error) == ("unavailable", True, True)

    with _full_backlog() as port:
        on(face, _nowhere(server.endpoint, port), scenario)


def test_an_unknown_host_sent_nothing(face: Face, key: str, server: S3Server) -> None:
    async def scenario(storage: S3Storage) -> None:
        error = await failure(storage, storage.put(key, b"x", PLAIN))
        assert _signs(error) == ("unavailable", True, True)

    config = s3_config(server.endpoint).model_copy(update={"endpoint": "http://nowhere.invalid"})
    on(face, config, scenario)


def test_an_answer_to_a_write_without_an_etag_is_no_success(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    async def scenario(storage: S3Storage) -> None:
        for answer, call in (
            (b"", storage.put(key, b"x", PLAIN)),
            (b"", storage.put(key, b"x", PLAIN, if_none_match=True)),
            (b"", storage.put(key, b"x", PLAIN, if_match="0")),
            (b"", storage.put_part(key, "u", 1, b"x")),
            (b"<CopyPartResult/>", storage.copy_part(key, "u", 1, "s", 0, 1, "0")),
            (b"<CopyObjectResult/>", storage.copy("s", key, PLAIN, etag="0")),
            (b"<InitiateMultipartUploadResult/>", storage.create_multipart(key, PLAIN)),
            (
                b"<CompleteMultipartUploadResult/>",
                storage.complete_multipart(key, "u", [Part(1, "0")]),
            ),
        ):
            proxy.respond(200, body=answer)
            # It may have taken effect: `not_sent` would be a lie.
            assert _signs(await failure(storage, call)) == ("internal", False, False), answer
            assert len(proxy.requests) == 1
            proxy.clear()

    on(face, config, scenario)


def test_silence_is_a_timeout_and_may_have_had_an_effect(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    async def scenario(storage: S3Storage) -> None:
        for method, call in (("PUT", storage.put(key, b"x", PLAIN)), ("GET", storage.get(key))):
            proxy.stall(method=method)
            error = await failure(storage, call)
            assert _signs(error) == ("deadline_exceeded", True, False)
            assert len(proxy.requests) == 1
            proxy.clear()

    on(face, config.model_copy(update={"read_timeout": 0.3}), scenario)


def test_a_lost_connection_may_have_had_an_effect(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    async def scenario(storage: S3Storage) -> None:
        for fault in (proxy.reset, proxy.refuse, proxy.lose_reply):
            for method, call in (
                ("PUT", storage.put(key, b"x", PLAIN)),
                ("GET", storage.get(key)),
                ("HEAD", storage.head(key)),
                ("DELETE", storage.delete(key)),
            ):
                fault(method=method)
                error = await failure(storage, call)
                assert _signs(error) == ("unavailable", True, False), (fault, method)
                assert len(proxy.requests) == 1, "it was sent again"
                proxy.clear()

    on(face, config, scenario)


def test_a_body_cut_short_never_ends_in_silence(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    async def scenario(storage: S3Storage) -> None:
        data = b"x" * 3_000_000
        await storage.put(key, data, PLAIN)
        for cut in (0, 1, 65_536, 2_999_999):
            proxy.lose_reply_after(cut, method="GET", times=2)
            error = await failure(storage, body(storage, key))
            assert _signs(error) == ("unavailable", True, False)
            reply = await storage.get(key)
            received = 0

            async def walk() -> None:
                nonlocal received
                async for chunk in reply.chunks():  # noqa: B023 - awaited in this round
                    received += len(chunk)

            error = await failure(storage, walk())
            assert _signs(error) == ("unavailable", True, False)
            assert received <= cut
            await reply.close()
            proxy.clear()
        assert await body(storage, key) == data

    on(face, config, scenario)


REFUSALS = [
    (503, "SlowDown", "rate_limited", True, True),
    (429, "", "rate_limited", True, True),
    (503, "ServiceUnavailable", "unavailable", True, True),
    (503, "", "unavailable", True, False),
    (500, "InternalError", "unavailable", True, False),
    (502, "", "unavailable", True, False),
    (409, "ConditionalRequestConflict", "unavailable", True, True),
    (409, "OperationAborted", "unavailable", True, True),
    (400, "RequestTimeout", "unavailable", True, True),
    (400, "BadDigest", "integrity", True, True),
    (400, "EntityTooLarge", "invalid_argument", False, False),
    (400, "KeyTooLongError", "invalid_argument", False, False),
    (400, "ExpiredToken", "unauthenticated", False, False),
    (401, "Unauthorized", "unauthenticated", False, False),
    (403, "AccessDenied", "permission_denied", False, False),
    (403, "", "permission_denied", False, False),
    (403, "InvalidAccessKeyId", "unauthenticated", False, False),
    (403, "RequestTimeTooSkewed", "unauthenticated", False, False),
    (403, "SignatureDoesNotMatch", "unauthenticated", False, False),
    (404, "NoSuchBucket", "config_invalid", False, False),
    (400, "AuthorizationHeaderMalformed", "config_invalid", False, False),
    (301, "PermanentRedirect", "config_invalid", False, False),
    (400, "SomethingNew", "invalid_argument", False, False),
    (418, "", "internal", False, False),
    (501, "NotImplemented", "unsupported", False, False),
    (507, "", "quota_exceeded", False, False),
]


def _document(code: str) -> bytes:
    # With what S3 puts there, and with what a hostile server could.
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f'<Message>{CANARY} says "no"\n\nDebug source:\n    status: 412,\n</Message>'
        f"<AWSAccessKeyId>{CANARY}</AWSAccessKeyId><StringToSign>{CANARY}</StringToSign></Error>"
    ).encode()


def test_refusals_have_their_names(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    async def scenario(storage: S3Storage) -> None:
        for status, code, *expected in REFUSALS:
            for conditional in (False, True):
                proxy.respond(status, body=_document(code) if code else b"")
                call = storage.put(key, b"x", PLAIN, if_none_match=conditional)
                error = await failure(storage, call)
                assert [*_signs(error)] == expected, (status, code, conditional)
                assert len(proxy.requests) == 1, "it was sent again"
                proxy.clear()

    on(face, config, scenario)


def test_what_the_store_says_does_not_reach_messages_or_tracebacks(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    async def scenario(storage: S3Storage) -> None:
        for status, code in ((403, "SignatureDoesNotMatch"), (412, "PreconditionFailed")):
            for call in (
                storage.put(key, b"x", PLAIN),
                storage.put(key, b"x", PLAIN, if_match="0"),
                storage.get(key),
                storage.list(key, delimiter=None, cursor=None, limit=1),
            ):
                proxy.respond(status, body=_document(code))
                try:
                    await call
                except PlatformError as error:
                    text = "".join(traceback.format_exception(error))
                except Exception as error:  # noqa: BLE001 - as the executor does
                    translated = storage.translate(error)
                    assert translated is not None
                    translated.__cause__ = error
                    text = "".join(traceback.format_exception(translated))
                else:
                    raise AssertionError("the call was to fail")
                assert CANARY not in text
                assert "Debug source" not in text
                proxy.clear()

    on(face, config, scenario)


def test_retry_after_is_handed_on_where_it_is_known(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    async def scenario(storage: S3Storage) -> None:
        proxy.respond(503, {"Retry-After": "7"}, _document("SlowDown"))
        error = await failure(storage, storage.put(key, b"x", PLAIN))
        # obstore keeps the headers of a refusal to itself.
        assert error.retry_after == (7.0 if key == "k/" else None)

    on(face, config, scenario)


def test_headers_that_are_not_ascii_can_be_read(
    face: Face, key: str, config: S3Config, proxy: FaultProxy
) -> None:
    headers = {
        "ETag": '"e"',
        "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT",
        "x-amz-meta-latin": "caf\u00e9",
        "x-amz-meta-utf": "Zo\u00eb \u20ac".encode().decode("latin-1"),
        "Content-Disposition": 'inline; filename="\u00e9"'.encode().decode("latin-1"),
    }

    async def scenario(storage: S3Storage) -> None:
        proxy.respond(200, headers, b"abc", times=2, method="GET")
        reply = await storage.get(key)
        assert reply.info.metadata == {"latin": "caf\u00e9", "utf": "Zo\u00eb \u20ac"}
        assert reply.info.content_disposition == 'inline; filename="\u00e9"'
        assert await reply.read() == b"abc"
        await reply.close()

    on(face, config, scenario)


def test_credentials_are_not_accepted(face: Face, key: str, config: S3Config) -> None:
    async def scenario(storage: S3Storage) -> None:
        error = await failure(storage, storage.get(key))
        assert error.code == "unauthenticated"
        assert "secret_access_key" in str(error)

    wrong = config.model_copy(update={"secret_access_key": SecretStr("wrong")})
    on(face, wrong, scenario)


def test_the_wrong_region_is_a_matter_of_configuration(
    face: Face, key: str, config: S3Config
) -> None:
    async def scenario(storage: S3Storage) -> None:
        error = await failure(storage, storage.put(key, b"x", PLAIN))
        assert error.code == "config_invalid"
        assert "region" in str(error)

    on(face, config.model_copy(update={"region": "eu-west-3"}), scenario)
