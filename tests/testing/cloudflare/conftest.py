"""One local Cloudflare for these tests, and short ways to speak to its places."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import cloudflare
from cm_platform.cloudflare.gateway import Gateway
from cm_platform.cloudflare.settings import GatewaySettings
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.testing.cloudflare import LocalCloudflare, local_cloudflare

__all__ = ["local_cloudflare"]

PROBE = Path(__file__).parent / "probe"


class Place:
    """The gateway at one location, for one tenant."""

    def __init__(self, local: LocalCloudflare, url: str, partition: str) -> None:
        self._gateway = Gateway.open(
            GatewaySettings(
                url=url,
                key_id=local.gateway_key_id,
                secret=SecretStr(local.gateway_secret),
            ),
            BlockingRuntime(),
        )
        self.partition = partition

    def do(self, op: str, **fields: Any) -> Mapping[str, Any]:
        """One operation; raises its error."""
        (outcome,) = drive(self._gateway.batch(self.partition, [{"op": op, **fields}]))
        return outcome.checked()

    def get(self, key: str, **fields: Any) -> bytes | None:
        value: bytes | None = self.do("kv.get", key=key, **fields)["value"]
        return value

    def put(self, key: str, value: bytes, **fields: Any) -> None:
        self.do("kv.put", key=key, value=value, **fields)

    def close(self) -> None:
        drive(self._gateway.close())


class Rest:
    """The REST face of KV, without the SDK."""

    def __init__(self, local: LocalCloudflare) -> None:
        self.account = f"/accounts/{local.account_id}"
        self.namespace = f"{self.account}/storage/kv/namespaces/{local.kv_namespace_id}"
        self.http = httpx.Client(
            base_url=local.rest_url,
            headers={"authorization": f"Bearer {local.api_token}"},
            timeout=30,
            trust_env=False,
        )

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request below the namespace."""
        return self.http.request(method, f"{self.namespace}{path}", **options)


class Probe:
    """A Worker with the bare bindings."""

    def __init__(self, local: LocalCloudflare) -> None:
        self._local = local
        self.http = httpx.Client(timeout=60, trust_env=False)

    def calls(self, *calls: list[Any], far: bool = False) -> list[dict[str, Any]]:
        """Calls of one invocation: {"result"} or {"error"} of each."""
        url = self._local.gateway_url_far if far else self._local.gateway_url
        response = self.http.post(url, json={"calls": calls}).raise_for_status()
        found: list[dict[str, Any]] = response.json()
        return found

    def call(self, *call: Any, far: bool = False) -> Any:
        """The result of one call."""
        (outcome,) = self.calls([*call], far=far)
        return outcome["result"]

    def error(self, *call: Any) -> str:
        """The message of the error that one call throws."""
        (outcome,) = self.calls([*call])
        error: str = outcome["error"]
        return error


@pytest.fixture
def partition() -> str:
    """A tenant that nobody was before."""
    return f"{secrets.token_hex(8)}/"


@pytest.fixture
def near(local_cloudflare: LocalCloudflare, partition: str) -> Iterator[Place]:
    place = Place(local_cloudflare, local_cloudflare.gateway_url, partition)
    yield place
    place.close()


@pytest.fixture
def far(local_cloudflare: LocalCloudflare, partition: str) -> Iterator[Place]:
    place = Place(local_cloudflare, local_cloudflare.gateway_url_far, partition)
    yield place
    place.close()


@pytest.fixture
def rest(local_cloudflare: LocalCloudflare) -> Iterator[Rest]:
    face = Rest(local_cloudflare)
    with face.http:
        yield face


@pytest.fixture
def sdk(local_cloudflare: LocalCloudflare) -> Iterator[cloudflare.Cloudflare]:
    with cloudflare.Cloudflare(
        api_token=local_cloudflare.api_token, base_url=local_cloudflare.rest_url, max_retries=0
    ) as client:
        yield client


@pytest.fixture(scope="session")
def probed() -> Iterator[LocalCloudflare]:
    """A local Cloudflare that runs the probe, whose cold reads are fresh."""
    with LocalCloudflare(gateway=PROBE, kv_cold_reads="fresh") as local:
        yield local


@pytest.fixture
def probe(probed: LocalCloudflare) -> Iterator[Probe]:
    worker = Probe(probed)
    with worker.http:
        yield worker


@pytest.fixture
def still(local_cloudflare: LocalCloudflare, probed: LocalCloudflare) -> Iterator[None]:
    """Both clocks move only when a test moves them: a slow machine changes nothing."""
    with local_cloudflare.clock.frozen(), probed.clock.frozen():
        yield


@pytest.fixture
def key() -> str:
    """A key that nobody has written."""
    return secrets.token_hex(8)
