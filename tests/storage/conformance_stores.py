"""Stores for the conformance tests: the table of a backend over a server that runs here."""

from __future__ import annotations

from typing import Any

from cm_platform.testing.servers import Endpoint

ACCOUNT = "0123456789abcdef0123456789abcdef"

# s3api's If-None-Match is not atomic and its If-Match is refused; deletes and copies have neither.
SWIFT_LACKS = [
    "conditional_create",
    "conditional_replace",
    "conditional_delete",
    "conditional_copy",
]


def s3_table(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    """A `storage.s3` over a bucket of a test server."""
    return {
        "driver": "s3",
        "bucket": endpoint.bucket,
        "region": endpoint.region,
        "endpoint": endpoint.url,
        "access_key_id": endpoint.access_key_id,
        "secret_access_key": endpoint.secret_access_key,
        **more,
    }


def r2_table(endpoint: Endpoint) -> dict[str, Any]:
    """A `storage.r2` over a bucket of a test server."""
    return {
        "driver": "r2",
        "account_id": ACCOUNT,
        "bucket": endpoint.bucket,
        "endpoint": endpoint.url,
        "access_key_id": endpoint.access_key_id,
        "secret_access_key": endpoint.secret_access_key,
    }
