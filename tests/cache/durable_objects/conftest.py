"""Durable Objects behind a local Cloudflare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import pytest

from cm_platform.tenant import Tenant
from cm_platform.testing.cloudflare import LocalCloudflare, local_cloudflare
from cm_platform.testing.faces import FACES, Face

__all__ = ["local_cloudflare"]


def table(local: LocalCloudflare, url: str) -> Mapping[str, Any]:
    return {
        "driver": "durable_objects",
        "url": url,
        "key_id": local.gateway_key_id,
        "secret": local.gateway_secret,
    }


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest, local_cloudflare: LocalCloudflare) -> Iterator[Face]:
    with opened(request.param, local_cloudflare, local_cloudflare.gateway_url) as found:
        yield found


@pytest.fixture
def far(local_cloudflare: LocalCloudflare) -> Iterator[Face]:
    """Another process, at another location."""
    with opened("sync", local_cloudflare, local_cloudflare.gateway_url_far) as found:
        yield found


def opened(name: str, local: LocalCloudflare, url: str) -> Face:
    return Face(
        name,
        "cache",
        table(local, url),
        layout="{tenant}/{key}",
        settings={
            "namespaces": {"shared": {"encoding": "raw"}},
            "retry": {"attempts": 3, "initial": 0.001, "max": 0.001},
        },
    )


@pytest.fixture
def tenant() -> Tenant:
    """One that nobody was before."""
    return Tenant(str(uuid4()))
