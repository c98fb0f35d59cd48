"""The verifier against the signers of botocore and obstore, and against forgeries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import obstore
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cm_platform.testing.servers import Endpoint, S3Server
from cm_platform.testing.servers.sigv4 import SignatureVerifier, signed_headers
from cm_platform.testing.servers.wire import Request, S3Error

from .clients import AWKWARD_KEYS, OBSTORE_KEYS, code_of, obstore_client, send
from .conftest import Connect

KEY, SECRET = "AKIDEXAMPLE", "a/secret+with=signs"
HOST = "127.0.0.1:9000"


def verify(request: Request, *, now: datetime | None = None) -> str:
    return SignatureVerifier({KEY: SECRET}).verify(request, now=now).access_key_id


def refusal(request: Request, *, now: datetime | None = None) -> str:
    with pytest.raises(S3Error) as caught:
        verify(request, now=now)
    return caught.value.code


def as_request(signed: AWSRequest, body: bytes = b"") -> Request:
    parts = urlsplit(str(signed.url))
    headers = tuple((name.lower(), value) for name, value in signed.headers.items())
    if not any(name == "host" for name, _ in headers):
        headers = (("host", HOST), *headers)
    return Request(str(signed.method), parts.path, parts.query, headers, body)


def by_botocore(key: str, *, body: bytes = b"body", method: str = "PUT") -> Request:
    url = f"http://{HOST}/bucket/{quote(key, safe='/~')}"
    unsigned = AWSRequest(method, url, headers={"x-amz-meta-a": "two  spaces"}, data=body)
    unsigned.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(unsigned)
    return as_request(unsigned, body)


def presigned_by_botocore(key: str, expires: int = 60) -> Request:
    unsigned = AWSRequest("GET", f"http://{HOST}/bucket/{quote(key, safe='/~')}")
    S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", "us-east-1", expires).add_auth(unsigned)
    return as_request(unsigned)


def by_ourselves(now: datetime, *, key: str = KEY, body: bytes = b"") -> Request:
    plain = Request("PUT", "/bucket/key", "", (("host", HOST),), body)
    return replace(plain, headers=signed_headers(plain, key, SECRET, "us-east-1", now))


@pytest.mark.parametrize("key", AWKWARD_KEYS, ids=ascii)
def test_botocore_signatures_hold_for_any_key(key: str) -> None:
    assert verify(by_botocore(key)) == KEY
    assert verify(presigned_by_botocore(key)) == KEY


def test_the_own_signer_agrees_with_the_verifier() -> None:
    assert verify(by_ourselves(datetime.now(UTC), body=b"abc")) == KEY


@pytest.mark.parametrize("make", [by_botocore, presigned_by_botocore])
@pytest.mark.parametrize(
    "changes",
    [{"method": "DELETE"}, {"path": "/bucket/other"}, {"path": "/bucket//a"}],
    ids=str,
)
def test_a_changed_request_does_not_match_its_signature(
    make: Callable[[str], Request], changes: dict[str, Any]
) -> None:
    assert refusal(replace(make("a"), **changes)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("make", [by_botocore, presigned_by_botocore])
def test_an_added_parameter_does_not_match(make: Callable[[str], Request]) -> None:
    request = make("a")
    changed = replace(request, query=f"{request.query}&acl".removeprefix("&"))
    assert refusal(changed) == "SignatureDoesNotMatch"


def test_a_changed_body_does_not_match_its_digest() -> None:
    assert refusal(replace(by_botocore("a"), body=b"other")) == "XAmzContentSHA256Mismatch"


def test_a_changed_signed_header_does_not_match() -> None:
    request = by_botocore("a")
    headers = tuple((k, "127.0.0.1:1" if k == "host" else v) for k, v in request.headers)
    assert refusal(replace(request, headers=headers)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("make", [by_botocore, presigned_by_botocore])
def test_every_amz_header_must_be_signed(make: Callable[[str], Request]) -> None:
    request = make("a")
    headers = (*request.headers, ("x-amz-meta-sneaked", "in"))
    assert refusal(replace(request, headers=headers)) == "AccessDenied"


def test_an_unknown_key_and_no_key_at_all() -> None:
    assert refusal(by_ourselves(datetime.now(UTC), key="OTHER")) == "InvalidAccessKeyId"
    assert refusal(Request("GET", "/bucket/key", "", (("host", HOST),), b"")) == "AccessDenied"


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_that_is_off_by_more_than_15_minutes(minutes: int) -> None:
    now = datetime.now(UTC)
    request = by_ourselves(now)
    assert refusal(request, now=now + timedelta(minutes=minutes)) == "RequestTimeTooSkewed"
    assert verify(request, now=now + timedelta(minutes=minutes * 14 / 16)) == KEY


def test_a_presigned_url_ends_when_it_says() -> None:
    request = presigned_by_botocore("a", 60)
    now = datetime.now(UTC)
    assert verify(request, now=now + timedelta(seconds=58)) == KEY
    assert refusal(request, now=now + timedelta(seconds=61)) == "AccessDenied"
    assert refusal(request, now=now - timedelta(minutes=20)) == "AccessDenied"


@pytest.mark.parametrize("expires", [0, 604_801, -1])
def test_an_expiry_out_of_range(expires: int) -> None:
    assert refusal(presigned_by_botocore("a", expires)) == "AuthorizationQueryParametersError"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "NotImplemented"),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "NotImplemented"),
        ("nonsense", "InvalidArgument"),
    ],
)
def test_payloads_that_are_not_accepted(payload: str, code: str) -> None:
    unsigned = AWSRequest("PUT", f"http://{HOST}/bucket/a", data=b"")
    unsigned.headers["X-Amz-Content-SHA256"] = payload

    class Auth(S3SigV4Auth):
        def payload(self, request: object) -> str:
            return payload

    Auth(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(unsigned)
    assert refusal(as_request(unsigned)) == code


@pytest.mark.parametrize("key", OBSTORE_KEYS, ids=ascii)
def test_obstore_signatures_hold(key: str, s3_server: S3Server) -> None:
    store = obstore_client(s3_server.endpoint)
    obstore.put(store, key, key.encode())
    assert bytes(obstore.get(store, key).bytes()) == key.encode()
    url = obstore.sign(store, "GET", key, timedelta(seconds=60))
    assert send("GET", url) == (200, key.encode())
    obstore.delete(store, key)


def test_a_wrong_secret_is_403_for_both_clients(s3: Endpoint, connect: Connect) -> None:
    forged = replace(s3, secret_access_key="not-the-secret")
    client = connect(forged)
    assert code_of(lambda: client.put_object(Bucket=s3.bucket, Key="a", Body=b"1")) == (
        403,
        "SignatureDoesNotMatch",
    )
    with pytest.raises(obstore.exceptions.PermissionDeniedError):
        obstore.put(obstore_client(forged), "a", b"1")


def test_an_unknown_access_key_is_403(s3: Endpoint, connect: Connect) -> None:
    client = connect(replace(s3, access_key_id="NOBODY"))
    assert code_of(lambda: client.list_objects_v2(Bucket=s3.bucket)) == (403, "InvalidAccessKeyId")


def test_a_tampered_or_expired_presigned_url_is_403(s3: Endpoint, connect: Connect) -> None:
    client = connect(s3)
    for key in ("mine", "yours"):
        client.put_object(Bucket=s3.bucket, Key=key, Body=key.encode())
    url = client.generate_presigned_url(
        "get_object", Params={"Bucket": s3.bucket, "Key": "mine"}, ExpiresIn=60
    )
    assert send("GET", url) == (200, b"mine")
    assert send("GET", url.replace("/mine?", "/yours?"))[0] == 403
    assert send("PUT", url, b"new")[0] == 403
    parts = urlsplit(url)
    longer = dict(parse_qsl(parts.query)) | {"X-Amz-Expires": "6000"}
    assert send("GET", urlunsplit(parts._replace(query=urlencode(longer))))[0] == 403
    old = dict(parse_qsl(parts.query)) | {"X-Amz-Date": "20200101T000000Z"}
    status, body = send("GET", urlunsplit(parts._replace(query=urlencode(old))))
    assert (status, b"expired" in body) == (403, True)


def test_a_presigned_put_stores_what_was_sent(s3: Endpoint, connect: Connect) -> None:
    client = connect(s3)
    url = client.generate_presigned_url(
        "put_object",
        Params={"Bucket": s3.bucket, "Key": "up", "ContentType": "text/plain"},
        ExpiresIn=60,
    )
    assert send("PUT", url, b"data", {"content-type": "text/html"})[0] == 403
    assert send("PUT", url, b"data", {"content-type": "text/plain"})[0] == 200
    assert client.get_object(Bucket=s3.bucket, Key="up")["Body"].read() == b"data"


def test_an_account_cannot_use_the_bucket_of_another(s3_server: S3Server, connect: Connect) -> None:
    mine, yours = s3_server.endpoint_for(0), s3_server.endpoint_for(1)
    client = connect(yours)
    assert code_of(lambda: client.list_objects_v2(Bucket=mine.bucket)) == (403, "AccessDenied")
    assert code_of(lambda: client.put_object(Bucket=mine.bucket, Key="a")) == (403, "AccessDenied")
    copy = {"Bucket": mine.bucket, "Key": "a"}
    assert code_of(
        lambda: client.copy_object(Bucket=yours.bucket, Key="b", CopySource=copy)  # type: ignore[arg-type]
    ) == (403, "AccessDenied")
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == [yours.bucket]
