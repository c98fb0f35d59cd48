"""A cache that moves keeps tenants, and namespaces, apart, whichever side is right: a part of the
suite; all of it is in `test_whole_local.py`."""

from __future__ import annotations

import pytest

from cm_platform.routing import Stage
from cm_platform.testing.isolation.cache import (
    CrossingIsolation,
    MixingIsolation,
)

from .staged import IsolatedAtAStage, back_to, up_to

pytestmark = pytest.mark.suite


class TestLive(IsolatedAtAStage, CrossingIsolation):
    way = up_to(Stage.LIVE)


class TestBackInShadow(IsolatedAtAStage, MixingIsolation):
    way = back_to(Stage.SHADOW)
