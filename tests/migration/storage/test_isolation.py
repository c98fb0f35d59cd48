"""A migration keeps tenants apart, whichever side is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from cm_platform.routing import Stage
from cm_platform.testing import StorageIsolation

from .staged import staged

pytestmark = pytest.mark.suite


class _AtAStage(StorageIsolation):
    at: ClassVar[Stage]

    @pytest.fixture(scope="class")
    @classmethod
    def storage_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        source, target = (
            {"driver": "local", "path": str(tmp_path_factory.mktemp(name))}
            for name in ("source", "target")
        )
        return staged(source, target, cls.at)


class TestDualwrite(_AtAStage):
    at = Stage.DUALWRITE


class TestLive(_AtAStage):
    at = Stage.LIVE
