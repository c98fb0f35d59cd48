"""A migration between two local caches passes the cache's conformance suite, at every stage and
on the way back: a part of it; all of it is in `test_whole_local.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cm_platform.routing import Stage
from cm_platform.testing.cache import (
    CacheFace,
    ClearingConformance,
    ConditionsConformance,
    ContractConformance,
    ExpiryConformance,
)

from .staged import LocalAtAStage, back_to, face_of, up_to

pytestmark = pytest.mark.suite


class _SyncAtAStage(LocalAtAStage):
    @pytest.fixture(scope="class", params=("sync",))
    @classmethod
    def face(
        cls, request: pytest.FixtureRequest, cache_backend: Mapping[str, Any]
    ) -> Iterator[CacheFace]:
        yield from face_of(cls, request, cache_backend)


class _AsyncAtAStage(LocalAtAStage):
    @pytest.fixture(scope="class", params=("async",))
    @classmethod
    def face(
        cls, request: pytest.FixtureRequest, cache_backend: Mapping[str, Any]
    ) -> Iterator[CacheFace]:
        yield from face_of(cls, request, cache_backend)


class TestOff(_AsyncAtAStage, ConditionsConformance):
    way = up_to(Stage.OFF)


class TestShadow(_SyncAtAStage, ConditionsConformance):
    way = up_to(Stage.SHADOW)


class TestLive(_AsyncAtAStage, ClearingConformance, ConditionsConformance, ContractConformance):
    way = up_to(Stage.LIVE)


class TestLiveBlocking(_SyncAtAStage, ClearingConformance):
    way = up_to(Stage.LIVE)


class TestRampdown(_SyncAtAStage, ExpiryConformance):
    way = up_to(Stage.RAMPDOWN)


class TestComplete(_AsyncAtAStage, ConditionsConformance):
    way = up_to(Stage.COMPLETE)


class TestBackInShadow(_AsyncAtAStage, ClearingConformance):
    way = back_to(Stage.SHADOW)


class TestBackInDualwrite(_SyncAtAStage, ConditionsConformance):
    way = back_to(Stage.DUALWRITE)


class TestBackInOff(_AsyncAtAStage, ConditionsConformance):
    way = back_to(Stage.OFF)
