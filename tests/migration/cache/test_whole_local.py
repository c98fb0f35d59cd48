"""The whole suites, of conformance and of isolation, through a migration between two local caches,
at every stage and on the way back."""

from __future__ import annotations

import pytest

from cm_platform.routing import Stage
from cm_platform.testing import CacheConformance, CacheIsolation

from .staged import IsolatedAtAStage, LocalAtAStage, back_to, up_to

pytestmark = [pytest.mark.suite, pytest.mark.prove]


class TestOff(LocalAtAStage, CacheConformance):
    way = up_to(Stage.OFF)


class TestDualwrite(LocalAtAStage, CacheConformance):
    way = up_to(Stage.DUALWRITE)


class TestShadow(LocalAtAStage, CacheConformance):
    way = up_to(Stage.SHADOW)


class TestLive(LocalAtAStage, CacheConformance):
    way = up_to(Stage.LIVE)


class TestRampdown(LocalAtAStage, CacheConformance):
    way = up_to(Stage.RAMPDOWN)


class TestComplete(LocalAtAStage, CacheConformance):
    way = up_to(Stage.COMPLETE)


class TestBackInShadow(LocalAtAStage, CacheConformance):
    way = back_to(Stage.SHADOW)


class TestBackInDualwrite(LocalAtAStage, CacheConformance):
    way = back_to(Stage.DUALWRITE)


class TestBackInOff(LocalAtAStage, CacheConformance):
    way = back_to(Stage.OFF)


class TestApartDualwrite(IsolatedAtAStage, CacheIsolation):
    way = up_to(Stage.DUALWRITE)


class TestApartLive(IsolatedAtAStage, CacheIsolation):
    way = up_to(Stage.LIVE)


class TestApartRampdown(IsolatedAtAStage, CacheIsolation):
    way = up_to(Stage.RAMPDOWN)


class TestApartBackInShadow(IsolatedAtAStage, CacheIsolation):
    way = back_to(Stage.SHADOW)


class TestApartBackInOff(IsolatedAtAStage, CacheIsolation):
    way = back_to(Stage.OFF)
