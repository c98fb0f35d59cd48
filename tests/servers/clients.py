"""What the tests of this folder say about clients in few words."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from obstore.store import S3Store

from cm_platform.testing.servers import Endpoint

# Keys that clients, servers and proxies like to change on their way.
AWKWARD_KEYS = [
    *("a b", "a+b", "a%b", "%2F", "lit%2Fx", "lit/x", "#hash", "what?", "a&b=c", "tilde~"),
    *("emoji-\N{GRINNING FACE}", "caf\u00e9", "cafe\u0301", "a//b", "folder/", "/lead", "//", "/"),
    *("./x", "x/./y", "...", "v1..v2", "a\\b", "tab\there", "line\nbreak", "<&>'\"", "a:b;c,d"),
    *("(paren)*!$@=", "x" * 1024),
]
# obstore cannot say all of them: it drops slashes at the ends and refuses empty and dot segments.
OBSTORE_KEYS = [
    *("a b", "a+b", "a%b", "lit%2Fx", "#hash", "what?", "a&b=c", "tilde~", "(paren)*!$@="),
    *("emoji-\N{GRINNING FACE}", "caf\u00e9", "cafe\u0301", "v1..v2", "dir/sub/x", "<&>'\""),
]


def code_of(call: Callable[[], Any]) -> tuple[int, str]:
    """The HTTP status and S3 code with which boto3 says that the call was refused."""
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def obstore_client(endpoint: Endpoint, **changes: Any) -> S3Store:
    """An obstore client with no retries."""
    settings: dict[str, Any] = {
        "endpoint": endpoint.url,
        "region": endpoint.region,
        "access_key_id": endpoint.access_key_id,
        "secret_access_key": endpoint.secret_access_key,
        "client_options": {"allow_http": True, "timeout": "10s"},
        "retry_config": {"max_retries": 0},
    }
    return S3Store(endpoint.bucket, **{**settings, **changes})


def send(
    method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Send one request exactly as given."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        target = url.removeprefix(f"{parts.scheme}://{parts.netloc}")
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
