"""The tables of backends over buckets of servers that run here."""

from __future__ import annotations

from typing import Any

from cm_platform.testing.servers import Endpoint


def s3_table(endpoint: Endpoint) -> dict[str, Any]:
    """A `storage.s3` over a bucket of a test server."""
    return {
        "driver": "s3",
        "bucket": endpoint.bucket,
        "region": endpoint.region,
        "endpoint": endpoint.url,
        "access_key_id": endpoint.access_key_id,
        "secret_access_key": endpoint.secret_access_key,
    }


def r2_table(endpoint: Endpoint) -> dict[str, Any]:
    """A `storage.r2` over a bucket of a test server."""
    return {
        "driver": "r2",
        "account_id": "0123456789abcdef0123456789abcdef",
        "bucket": endpoint.bucket,
        "endpoint": endpoint.url,
        "access_key_id": endpoint.access_key_id,
        "secret_access_key": endpoint.secret_access_key,
    }
