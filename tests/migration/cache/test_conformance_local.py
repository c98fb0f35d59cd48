"""A migration between two local caches passes the cache's conformance suite, at every stage and
on the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from cm_platform.routing import Stage
from cm_platform.testing import CacheConformance

from .staged import back_to, staged, up_to

pytestmark = pytest.mark.suite


class _AtAStage(CacheConformance):
    way: ClassVar[Sequence[Stage]]
    disposable = True
    shared = False
    examples = 8

    @pytest.fixture(scope="class")
    @classmethod
    def cache_backend(cls) -> Mapping[str, Any]:
        return staged({"driver": "local"}, {"driver": "local"}, cls.way)


class TestOff(_AtAStage):
    way = up_to(Stage.OFF)


class TestDualwrite(_AtAStage):
    way = up_to(Stage.DUALWRITE)


class TestShadow(_AtAStage):
    way = up_to(Stage.SHADOW)


class TestLive(_AtAStage):
    way = up_to(Stage.LIVE)


class TestRampdown(_AtAStage):
    way = up_to(Stage.RAMPDOWN)


class TestComplete(_AtAStage):
    way = up_to(Stage.COMPLETE)


class TestBackInShadow(_AtAStage):
    way = back_to(Stage.SHADOW)


class TestBackInDualwrite(_AtAStage):
    way = back_to(Stage.DUALWRITE)
