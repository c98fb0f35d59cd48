"""Both clients against the shipped gateway in real workerd, and the REST face beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from cm_platform.cloudflare.gateway import Gateway
from cm_platform.cloudflare.limiter import Limiter
from cm_platform.cloudflare.record import LocalRecord
from cm_platform.cloudflare.rest import Rest
from cm_platform.cloudflare.settings import GatewaySettings, RestSettings
from cm_platform.errors import (
    ConfigInvalidError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
    UnauthenticatedError,
    UnsupportedError,
)
from cm_platform.runtime import settle
from cm_platform.testing.cloudflare import LocalCloudflare
from cm_platform.testing.cloudflare.fixtures import local_cloudflare as local_cloudflare
from cm_platform.testing.servers import FaultProxy

from .doubles import Face, FakeClock

pytestmark = pytest.mark.suite


@pytest.fixture
def gateway(face: Face, local_cloudflare: LocalCloudflare) -> Iterator[Gateway]:
    opened = Gateway.open(settings(local_cloudflare), face.runtime())
    yield opened
    face.run(opened.close())


def settings(cloudflare: LocalCloudflare, **changes: Any) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {
            "url": cloudflare.gateway_url,
            "key_id": cloudflare.gateway_key_id,
            "secret": cloudflare.gateway_secret,
            **changes,
        }
    )


@pytest.fixture
def partition() -> str:
    return f"t/{os.urandom(4).hex()}é/"


Ask = Callable[..., list[Mapping[str, Any]]]


@pytest.fixture
def ask(face: Face, gateway: Gateway, partition: str) -> Ask:
    def asked(*operations: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        outcomes = face.run(gateway.batch(partition, operations))
        return [outcome.checked() for outcome in outcomes]

    return asked


def test_health(face: Face, gateway: Gateway) -> None:
    health = face.run(gateway.health())
    assert health.protocol == 1
    assert health.bindings["KV"] == "kv"
    assert health.bindings["VALUES"] == "durable_object"
    assert abs(health.time - time.time()) < 30


def test_every_operation_on_kv(ask: Ask) -> None:
    metadata = {"note": "été", "deep": [1, None]}
    assert ask(
        {"op": "kv.put", "key": "a", "value": b"\x00\xff", "metadata": metadata, "ttl": 60},
        {"op": "kv.put", "key": "b/c", "value": b""},
    ) == [{}, {}]
    read = ask(
        {"op": "kv.get", "key": "a"},
        {"op": "kv.get_many", "keys": ["b/c", "absent", "a"]},
        {"op": "kv.get", "key": "absent"},
    )
    assert read == [
        {"value": b"\x00\xff", "metadata": metadata},
        {"values": [b"", None, b"\x00\xff"]},
        {"value": None, "metadata": None},
    ]
    (listed,) = ask({"op": "kv.list", "prefix": "", "limit": 10})
    assert set(listed) == {"keys", "cursor"}
    assert ask({"op": "kv.delete", "key": "another"}) == [{}]


def test_every_operation_on_a_durable_object(ask: Ask) -> None:
    assert ask({"op": "do.get", "key": "k"}) == [{"value": None, "expires_in": None}]
    created = {"op": "do.set", "key": "k", "value": b"\x00", "ttl": 30.5, "only_if": "absent"}
    assert ask(created) == [{"stored": True}]
    assert ask(created) == [{"stored": False}]
    ((found),) = ask({"op": "do.get", "key": "k"})
    assert found["value"] == b"\x00"
    assert 0 < found["expires_in"] <= 30.5
    swap = {"op": "do.compare_and_set", "key": "k"}
    assert ask(
        {**swap, "expected": b"\x01", "value": b"no"},
        {**swap, "expected": b"\x00", "value": b"7"},
        {"op": "do.expire", "key": "k", "ttl": None},
        {"op": "do.increment", "key": "k", "amount": "-9"},
        {**swap, "expected": b"-2", "value": None},
        {**swap, "expected": None, "value": b"new"},
        {"op": "do.delete", "key": "k"},
        {"op": "do.delete", "key": "k"},
    ) == [
        {"stored": False},
        {"stored": True},
        {"existed": True},
        {"value": "-2", "stamp": None},
        {"stored": True},
        {"stored": True},
        {"existed": True},
        {"existed": False},
    ]


def test_the_largest_value_of_kv_goes_both_ways(ask: Ask) -> None:
    value = os.urandom(1024) * (25 * 1024)
    ask({"op": "kv.put", "key": "large", "value": value})
    ((found),) = ask({"op": "kv.get", "key": "large"})
    assert found["value"] == value


def test_operations_fail_by_themselves(face: Face, gateway: Gateway, partition: str) -> None:
    outcomes = face.run(
        gateway.batch(
            partition,
            [
                {"op": "kv.put", "key": "k", "value": b"v", "ttl": 5},
                {"op": "kv.conjure"},
                {"op": "kv.get", "binding": "ABSENT", "key": "k"},
                {"op": "do.set", "key": "text", "value": b"no number"},
                {"op": "do.increment", "key": "text", "amount": "1"},
                {"op": "kv.get", "key": "k"},
            ],
        )
    )
    assert [type(outcome.error) for outcome in outcomes] == [
        InvalidArgumentError,
        UnsupportedError,
        UnsupportedError,
        type(None),
        PreconditionFailedError,
        type(None),
    ]


def test_what_is_asked_twice_with_a_token_happens_once(
    face: Face, local_cloudflare: LocalCloudflare, partition: str
) -> None:
    port = httpx.URL(local_cloudflare.gateway_url).port
    assert port is not None
    with FaultProxy("127.0.0.1", port) as proxy:
        client = Gateway.open(settings(local_cloudflare, url=proxy.url), face.runtime())
        add = {"op": "do.increment", "key": "n", "amount": "1", "token": os.urandom(8).hex()}
        proxy.lose_reply()
        with pytest.raises(ConnectionError) as caught:
            face.run(client.batch(partition, [add]))
        assert not getattr(caught.value, "not_sent", True)
        ((outcome),) = face.run(client.batch(partition, [add]))
        assert outcome.checked()["value"] == "1"
        face.run(client.close())


@pytest.mark.parametrize("change", [{"secret": "x" * 40}, {"key_id": "another"}])
def test_another_key_is_refused(
    face: Face, local_cloudflare: LocalCloudflare, change: dict[str, str]
) -> None:
    client = Gateway.open(settings(local_cloudflare, **change), face.runtime())
    for asked in (client.health(), client.batch("t/", [{"op": "kv.get", "key": "k"}])):
        with pytest.raises(UnauthenticatedError):
            face.run(asked)
    face.run(client.close())


@pytest.mark.parametrize("skew", [-90.0, 90.0])
def test_a_clock_beyond_the_skew_is_refused(
    face: Face, local_cloudflare: LocalCloudflare, skew: float
) -> None:
    clock = FakeClock(wall=time.time() + skew)
    client = Gateway.open(settings(local_cloudflare), face.runtime(clock))
    with pytest.raises(UnauthenticatedError):
        face.run(client.health())
    face.run(client.close())


def fetched(face: Face, gateway: Gateway, path: str) -> httpx.Response:
    client = gateway.native()
    if isinstance(client, httpx.Client):
        with client:
            return client.get(path)

    async def ask(client: httpx.AsyncClient = client) -> httpx.Response:
        async with client:
            return await client.get(path)

    return face.run(ask())


def test_an_operators_client_is_let_in(face: Face, gateway: Gateway) -> None:
    assert fetched(face, gateway, "/v1/health?z=1&a=%2F").status_code == 200


def test_another_version_of_the_protocol_is_named(face: Face, gateway: Gateway) -> None:
    reply = fetched(face, gateway, "/v2/health")
    assert reply.status_code == 404
    assert "v1" in reply.text


# The REST face


@pytest.fixture
def rest(face: Face, local_cloudflare: LocalCloudflare) -> Iterator[Rest]:
    runtime = face.runtime()
    configured = RestSettings(
        account_id=local_cloudflare.account_id,
        api_token=SecretStr(local_cloudflare.api_token),
        base_url=local_cloudflare.rest_url,
    )
    limiter = Limiter(LocalRecord(), runtime, max_requests=1200, period=300.0)
    opened = Rest(configured, runtime, limiter)
    yield opened
    face.run(opened.close())


def test_a_value_goes_through_the_unmodified_sdk(
    face: Face, rest: Rest, local_cloudflare: LocalCloudflare
) -> None:
    key = f"dir/{os.urandom(4).hex()} é%2F"
    where = {"account_id": rest.account_id, "namespace_id": local_cloudflare.kv_namespace_id}

    async def act() -> bytes:
        await rest.call(
            lambda sdk: sdk.kv.namespaces.values.update(key, value=b"\x00\xff", **where)
        )
        reply: Any = await rest.call(lambda sdk: sdk.kv.namespaces.values.get(key, **where))
        data: bytes = await settle(reply.read())
        return data

    assert face.run(act()) == b"\x00\xff"
    with pytest.raises(NotFoundError):
        face.run(rest.call(lambda sdk: sdk.kv.namespaces.values.get("absent", **where)))


def test_a_namespace_that_is_not_there_is_a_matter_of_configuration(face: Face, rest: Rest) -> None:
    where = {"account_id": rest.account_id, "namespace_id": "0" * 32}
    with pytest.raises(ConfigInvalidError):
        face.run(rest.call(lambda sdk: sdk.kv.namespaces.values.get("k", **where)))


def test_an_unknown_token_is_refused(
    face: Face, local_cloudflare: LocalCloudflare, rest: Rest
) -> None:
    runtime = face.runtime()
    configured = RestSettings(
        account_id=local_cloudflare.account_id,
        api_token=SecretStr("another-token"),
        base_url=local_cloudflare.rest_url,
    )
    other = Rest(configured, runtime, rest.limiter)
    where = {"account_id": rest.account_id, "namespace_id": local_cloudflare.kv_namespace_id}
    with pytest.raises(UnauthenticatedError):
        face.run(other.call(lambda sdk: sdk.kv.namespaces.values.get("k", **where)))
    face.run(other.close())
