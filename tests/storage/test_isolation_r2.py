"""`storage.r2` keeps tenants apart, and presigned URLs to their object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cm_platform.testing import StorageIsolation
from cm_platform.testing.servers import R2Server

from .conformance_stores import r2_table

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("isolation-r2")]


@pytest.fixture(scope="module")
def storage_backend() -> Iterator[Mapping[str, Any]]:
    with R2Server() as server:
        yield r2_table(server.new_bucket())


class TestR2(StorageIsolation):
    # All of them are attacked over storage.s3, which is the same code.
    layouts = ("{tenant}/{site}/{key}",)
