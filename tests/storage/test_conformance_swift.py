"""`storage.s3` on an implementation of S3 that is not ours.

Not the whole suite, which takes eight minutes here: a request takes Swift 20 to 80 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cm_platform.testing import StorageConformance
from cm_platform.testing.servers import SwiftServer
from cm_platform.testing.storage import (
    CopyingConformance,
    KeysConformance,
    ListingConformance,
    PresigningConformance,
)

from .conformance_stores import SWIFT_LACKS, s3_table

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("conformance-swift")]


@pytest.fixture(scope="module")
def storage_backend() -> Iterator[Mapping[str, Any]]:
    with SwiftServer() as server:
        yield s3_table(server.new_bucket(), lacks=SWIFT_LACKS)


class TestSwift(CopyingConformance, KeysConformance, ListingConformance, PresigningConformance):
    disposable = True
    examples = 10


@pytest.mark.prove
@pytest.mark.timeout(300)
class TestSwiftWhole(StorageConformance):
    disposable = True
    examples = 20
    # Swift removes one object after the other, slower than a client waits for a thousand.
    many_keys = 100
