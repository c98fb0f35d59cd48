"""A migration from Valkey to the local Cloudflare passes the cache's conformance suite: a part of
it; all of it is in `test_whole_cloudflare.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cm_platform.routing import Stage
from cm_platform.testing.cache import BatchesConformance, CacheFace, ConditionsConformance

from .staged import face_of, up_to
from .staged_cloudflare import ToKv, ToObjects, cloudflare, valkey

__all__ = ["cloudflare", "valkey"]

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("migrating-cache-cloudflare")]


class TestToObjectsLive(ToObjects, ConditionsConformance):
    way = up_to(Stage.LIVE)

    @pytest.fixture(scope="class", params=("sync",))
    @classmethod
    def face(
        cls, request: pytest.FixtureRequest, cache_backend: Mapping[str, Any]
    ) -> Iterator[CacheFace]:
        yield from face_of(cls, request, cache_backend)


class TestToKvLive(ToKv, BatchesConformance):
    way = up_to(Stage.LIVE)

    @pytest.fixture(scope="class", params=("async",))
    @classmethod
    def face(
        cls, request: pytest.FixtureRequest, cache_backend: Mapping[str, Any]
    ) -> Iterator[CacheFace]:
        yield from face_of(cls, request, cache_backend)
