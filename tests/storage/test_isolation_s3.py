"""`storage.s3` keeps tenants apart, and presigned URLs to their object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cm_platform.testing import StorageIsolation
from cm_platform.testing.servers import S3Server

from .conformance_stores import s3_table

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("isolation-s3")]


@pytest.fixture(scope="module")
def storage_backend() -> Iterator[Mapping[str, Any]]:
    with S3Server() as server:
        yield s3_table(server.new_bucket())


class TestS3(StorageIsolation):
    # The local store is attacked on all layouts; what differs here is what the server verifies.
    layouts = ("{tenant}/{key}",)
