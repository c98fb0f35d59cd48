"""A migration from S3 to R2 passes storage's conformance suite, at every stage.

Two stages, each over one face, are in `make test`; all of them over both are in `make prove`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from cm_platform.routing import Stage
from cm_platform.testing import StorageConformance
from cm_platform.testing.servers import R2Server, S3Server

from .staged import over, staged
from .stores import r2_table, s3_table

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("conformance-s3-to-r2")]


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    with S3Server() as s3, R2Server() as r2:
        yield s3_table(s3.new_bucket()), r2_table(r2.new_bucket())


class _AtAStage(StorageConformance):
    at: ClassVar[Stage]
    disposable = True
    examples = 3
    # More than the 700 that R2 takes in one request, and each is compared on both sides.
    many_keys = 710

    @pytest.fixture(scope="class")
    @classmethod
    def storage_backend(
        cls, sides: tuple[Mapping[str, Any], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        return staged(*sides, cls.at)


class TestDualwriteSync(_AtAStage):
    at = Stage.DUALWRITE
    face = over("sync")


class TestLiveAsync(_AtAStage):
    at = Stage.LIVE
    face = over("async")


@pytest.mark.prove
class TestOff(_AtAStage):
    at = Stage.OFF


@pytest.mark.prove
class TestDualwrite(_AtAStage):
    at = Stage.DUALWRITE


@pytest.mark.prove
class TestShadow(_AtAStage):
    at = Stage.SHADOW


@pytest.mark.prove
class TestLive(_AtAStage):
    at = Stage.LIVE


@pytest.mark.prove
class TestRampdown(_AtAStage):
    at = Stage.RAMPDOWN


@pytest.mark.prove
class TestComplete(_AtAStage):
    at = Stage.COMPLETE
