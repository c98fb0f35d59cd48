"""`storage.r2` passes the conformance suite on R2's S3 face as it is tested here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cm_platform.testing import StorageConformance
from cm_platform.testing.servers import R2Server

from .conformance_stores import r2_table

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("conformance-r2")]


@pytest.fixture(scope="module")
def storage_backend() -> Iterator[Mapping[str, Any]]:
    with R2Server() as server:
        yield r2_table(server.new_bucket())


class TestR2(StorageConformance):
    disposable = True
    examples = 20
