"""A migration between two local stores passes storage's conformance suite, at every stage.

Those with nothing that the others have not are over one face in `make test`, over both in
`make prove`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from cm_platform.routing import Stage
from cm_platform.testing import StorageConformance

from .staged import over, staged

pytestmark = pytest.mark.suite


class _AtAStage(StorageConformance):
    at: ClassVar[Stage]
    disposable = True
    examples = 4

    @pytest.fixture(scope="class")
    @classmethod
    def storage_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        source, target = (
            {"driver": "local", "path": str(tmp_path_factory.mktemp(name))}
            for name in ("source", "target")
        )
        return staged(source, target, cls.at)


class TestOffSync(_AtAStage):
    at = Stage.OFF
    face = over("sync")


class TestDualwrite(_AtAStage):
    at = Stage.DUALWRITE


class TestShadowAsync(_AtAStage):
    at = Stage.SHADOW
    face = over("async")


class TestLive(_AtAStage):
    at = Stage.LIVE


class TestRampdownSync(_AtAStage):
    at = Stage.RAMPDOWN
    face = over("sync")


class TestCompleteAsync(_AtAStage):
    at = Stage.COMPLETE
    face = over("async")


@pytest.mark.prove
class TestOffAsync(_AtAStage):
    at = Stage.OFF
    face = over("async")


@pytest.mark.prove
class TestShadowSync(_AtAStage):
    at = Stage.SHADOW
    face = over("sync")


@pytest.mark.prove
class TestRampdownAsync(_AtAStage):
    at = Stage.RAMPDOWN
    face = over("async")


@pytest.mark.prove
class TestCompleteSync(_AtAStage):
    at = Stage.COMPLETE
    face = over("sync")
