"""The whole conformance suite through a migration from Valkey to the local Cloudflare."""

from __future__ import annotations

import pytest

from cm_platform.routing import Stage
from cm_platform.testing import CacheConformance

from .staged import back_to, up_to
from .staged_cloudflare import ToKv, ToObjects, cloudflare, valkey

__all__ = ["cloudflare", "valkey"]

pytestmark = [
    pytest.mark.suite,
    pytest.mark.prove,
    pytest.mark.xdist_group("migrating-cache-cloudflare"),
]


class TestToObjectsLive(ToObjects, CacheConformance):
    way = up_to(Stage.LIVE)


class TestToObjectsRampdown(ToObjects, CacheConformance):
    way = up_to(Stage.RAMPDOWN)


class TestToObjectsDualwrite(ToObjects, CacheConformance):
    way = up_to(Stage.DUALWRITE)


class TestBackFromObjects(ToObjects, CacheConformance):
    way = back_to(Stage.SHADOW)


class TestToKvLive(ToKv, CacheConformance):
    way = up_to(Stage.LIVE)


class TestToKvRampdown(ToKv, CacheConformance):
    way = up_to(Stage.RAMPDOWN)
