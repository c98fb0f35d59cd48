"""Servers that the tests of this folder share, and the two clients that are used on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from cm_platform.testing.servers import Endpoint, R2Server, S3Server, SwiftServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Connect = Callable[..., "S3Client"]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def r2_server() -> Iterator[R2Server]:
    with R2Server() as server:
        yield server


@pytest.fixture(scope="session")
def swift_server() -> Iterator[SwiftServer]:
    with SwiftServer() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> Endpoint:
    return s3_server.new_bucket()


@pytest.fixture
def r2(r2_server: R2Server) -> Endpoint:
    return r2_server.new_bucket()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """boto3 clients with no retries and no unasked checksums; closed at the end."""
    opened: list[S3Client] = []

    def client(endpoint: Endpoint, **changes: Any) -> S3Client:
        settings: dict[str, Any] = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "retries": {"total_max_attempts": 1},
            "s3": {"addressing_style": "path"},
            "signature_version": "s3v4",
            "max_pool_connections": 32,
            "connect_timeout": 5,
            "read_timeout": 10,
        }
        made = boto3.client(
            "s3",
            endpoint_url=endpoint.url,
            region_name=endpoint.region,
            aws_access_key_id=endpoint.access_key_id,
            aws_secret_access_key=endpoint.secret_access_key,
            config=Config(**{**settings, **changes}),
        )
        opened.append(made)
        return made

    yield client
    for made in opened:
        made.close()
