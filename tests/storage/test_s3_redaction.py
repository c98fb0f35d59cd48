"""What the SDKs log at DEBUG holds no credentials, no signatures and no bodies."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from cm_platform.storage.backend import Attributes
from cm_platform.storage.s3 import S3Storage
from cm_platform.testing.servers import S3Server

from .s3_faces import FACES, Face, body, failure, on, s3_config

TOKEN, BODY, VALUE = "CANARY-token", b"CANARY-body", "CANARY-value"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("token", [None, SecretStr(TOKEN)])
@pytest.mark.parametrize("key", ["k", "k/"])
def test_debug_logs_hold_no_canary(
    face: Face,
    token: SecretStr | None,
    key: str,
    server: S3Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint = server.endpoint
    caplog.set_level(logging.DEBUG)
    signatures: list[str] = []

    async def scenario(storage: S3Storage) -> None:
        attributes = Attributes(metadata={"v": VALUE})
        # The server may refuse the token, which makes these calls fail: both are of interest.
        for call in (
            storage.put(key, BODY, attributes),
            body(storage, key),
            storage.put(key, BODY, attributes, if_match="0"),
            storage.list("", delimiter=None, cursor=None, limit=10),
            storage.delete_many([key]),
            storage.get("missing/"),
        ):
            try:
                await call
            except Exception as error:  # noqa: BLE001 - as the executor does
                storage.translate(error)
        for method in ("GET", "PUT"):
            signed = await storage.presign(key, method, expires_in=60, attributes=attributes)
            signatures.extend(parse_qs(urlsplit(signed.url).query)["X-Amz-Signature"])

    on(face, s3_config(endpoint, session_token=token), scenario)

    async def refused(storage: S3Storage) -> None:
        assert (await failure(storage, storage.get(key))).code == "unauthenticated"

    on(face, s3_config(endpoint).model_copy(update={"secret_access_key": SecretStr("W")}), refused)

    assert len(signatures) == 2
    assert any(record.name.startswith("botocore") for record in caplog.records)
    assert TOKEN not in caplog.text
    assert BODY.decode() not in caplog.text
    assert VALUE not in caplog.text
    assert endpoint.secret_access_key not in caplog.text
    assert not [signature for signature in signatures if signature in caplog.text]
    assert re.search(r"AWS4-HMAC-SHA256 Credential|Signature=[0-9a-f]", caplog.text) is None


@pytest.mark.parametrize(
    "line",
    [
        "{'Authorization': 'AWS4-HMAC-SHA256 Credential=A/b, SignedHeaders=c, Signature=CANARY'}",
        "Authorization: AWS4-HMAC-SHA256 Credential=CANARY/20261123/x/s3/aws4_request, Signature=d",
        "{'X-Amz-Security-Token': b'CANARY', 'x': 1}",
        "x-amz-security-token:CANARY\nhost:x",
        "GET /b/k?X-Amz-Credential=CANARY%2F2026&X-Amz-Signature=CANARY HTTP/1.1",
        '"GET /b/k?x=1&X-Amz-Security-Token=CANARY&y=2 HTTP/1.1" 200',
        "<AWSAccessKeyId>CANARY</AWSAccessKeyId><SignatureProvided>CANARY</SignatureProvided>",
        '{"aws_secret_access_key": "CANARY", "aws_session_token": "CANARY"}',
        '{"SecretAccessKey": "CANARY", "SessionToken": "CANARY", "AccessKeyId": "CANARY"}',
    ],
)
def test_lines_that_name_a_secret_lose_it(
    line: str, server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(storage: S3Storage) -> None:
        storage.native()

    on("blocking", s3_config(server.endpoint), scenario)
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3.connectionpool", "botocore.hooks", "botocore.credentials"):
        logging.getLogger(name).debug("%s", line)
    assert caplog.records
    assert "CANARY" not in caplog.text
