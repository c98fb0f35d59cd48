"""Accounts of a test server, and how its buckets are made before any SDK is involved."""

from __future__ import annotations

import http.client
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cm_platform.testing.servers.endpoint import Endpoint
from cm_platform.testing.servers.sigv4 import signed_headers
from cm_platform.testing.servers.wire import Request

ACCOUNTS = 2
_TIMEOUT_SECONDS = 10.0


def new_accounts(url: str = "", region: str = "") -> list[Endpoint]:
    """Fresh key pairs, one per account, still without a bucket."""
    return [
        Endpoint(url, region, f"TEST{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30), "")
        for _ in range(ACCOUNTS)
    ]


def create_bucket(account: Endpoint) -> Endpoint:
    """Create a bucket with a fresh name and return the endpoint with it."""
    endpoint = replace(account, bucket=f"test-{secrets.token_hex(8)}")
    host = urlsplit(endpoint.url).netloc
    request = Request("PUT", f"/{endpoint.bucket}", "", (("host", host),), b"")
    headers = signed_headers(
        request,
        endpoint.access_key_id,
        endpoint.secret_access_key,
        endpoint.region,
        datetime.now(UTC),
    )
    connection = http.client.HTTPConnection(host, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("PUT", request.path, headers=dict(headers))
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"could not create a bucket: {response.status} {answer!r}")
    return endpoint
