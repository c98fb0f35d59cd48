"""Workers KV behind a local Cloudflare: near and far by the gateway, and by REST."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cm_platform.cloudflare.signature import RequestSigner
from cm_platform.tenant import Tenant
from cm_platform.testing.clocks import MovableClock
from cm_platform.testing.cloudflare import LocalCloudflare, local_cloudflare
from cm_platform.testing.faces import FACES, Face

__all__ = ["local_cloudflare"]


class Kv:
    """KV as one process has it.

    Time passes for the library and for KV at once; who waits for a key's second does not wait.
    """

    def __init__(self, face: Face, cloudflare: LocalCloudflare, clock: MovableClock) -> None:
        self.face = face
        self.cloudflare = cloudflare
        self.clock = clock

    def cache(self, tenant: Tenant) -> Any:
        return self.face.get_service(tenant)

    @property
    def calls(self) -> list[str]:
        return self.face.calls


class PassingClock(MovableClock):
    """Where it would wait, it lets time pass: here, and in KV."""

    def __init__(self, cloudflare: LocalCloudflare) -> None:
        super().__init__()
        self._cloudflare = cloudflare

    def sleep(self, seconds: float, /) -> None:
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        # Those who come at the same time come meanwhile.
        await asyncio.sleep(0.01)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        # A little more there: a tie is nobody's friend.
        self._cloudflare.clock.advance(seconds + 0.002)


@pytest.fixture(autouse=True)
def signatures_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway checks signatures by the machine's time, which stays behind."""
    headers = RequestSigner.headers

    def signed(signer: RequestSigner, *args: Any, now: float) -> Any:
        return headers(signer, *args, now=time.time())

    monkeypatch.setattr(RequestSigner, "headers", signed)


@pytest.fixture
def clock(local_cloudflare: LocalCloudflare) -> PassingClock:
    return PassingClock(local_cloudflare)


@pytest.fixture
def tenant() -> Tenant:
    """One that nobody was before."""
    return Tenant(str(uuid4()))


def gateway_table(local: LocalCloudflare, url: str) -> dict[str, Any]:
    return {
        "driver": "workers_kv",
        "gateway": {"url": url, "key_id": local.gateway_key_id, "secret": local.gateway_secret},
    }


def rest_table(local: LocalCloudflare, directory: Path) -> dict[str, Any]:
    return {
        "driver": "workers_kv",
        "transport": "rest",
        "rest": {
            "base_url": local.rest_url,
            "account_id": local.account_id,
            "api_token": local.api_token,
            "namespace_id": local.kv_namespace_id,
            "limiter_directory": str(directory),
        },
    }


@pytest.fixture(params=FACES)
def face_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


Opener = Callable[..., Kv]


@pytest.fixture
def opened(
    local_cloudflare: LocalCloudflare, clock: PassingClock, tmp_path: Path, face_name: str
) -> Iterator[Opener]:
    """Opens KV: "near" or "far" by the gateway, or by "rest"."""
    faces: list[Face] = []

    def opened(where: str = "near") -> Kv:
        if where == "rest":
            table = rest_table(local_cloudflare, tmp_path)
        else:
            url = local_cloudflare.gateway_url
            table = gateway_table(
                local_cloudflare, url if where == "near" else local_cloudflare.gateway_url_far
            )
        face = Face(
            face_name,
            "cache",
            table,
            layout="{tenant}/{key}",
            settings={"namespaces": {"shared": {"encoding": "raw"}}},
            clock=clock,
        )
        faces.append(face)
        return Kv(face, local_cloudflare, clock)

    yield opened
    for face in faces:
        face.close()


@pytest.fixture(params=["near", "rest"])
def kv(request: pytest.FixtureRequest, opened: Opener) -> Kv:
    """By each transport."""
    return opened(request.param)
