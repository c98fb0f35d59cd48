"""`storage.s3` passes the conformance suite on S3 as it is tested here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cm_platform.testing import StorageConformance
from cm_platform.testing.servers import S3Server

from .conformance_stores import s3_table

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("conformance-s3")]


@pytest.fixture(scope="module")
def storage_backend() -> Iterator[Mapping[str, Any]]:
    with S3Server() as server:
        yield s3_table(server.new_bucket())


class TestS3(StorageConformance):
    disposable = True
    examples = 20
