"""The unmodified SDK works against the REST face, and what it sends is what the goldens say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import cloudflare
from cm_platform.testing.cloudflare import LocalCloudflare, RestCap

from .conftest import Rest
from .recording import KV_CALLS, Ids, Recorded, golden, recorded_async, recorded_sync


@pytest.fixture(params=["sync", "async"])
def recorded(
    request: pytest.FixtureRequest, local_cloudflare: LocalCloudflare, rest: Rest, key: str
) -> tuple[dict[str, Recorded], dict[str, Any], Ids]:
    """Every call, on a namespace of its own; what was sent, and what came back."""
    root = f"{rest.account}/storage/kv/namespaces"
    namespace = rest.http.post(root, json={"title": f"of {key}"}).json()["result"]["id"]
    ids = Ids(local_cloudflare.account_id, namespace, key)
    reached = local_cloudflare.rest_url, local_cloudflare.api_token, ids
    if request.param == "sync":
        return *recorded_sync(*reached), ids
    with asyncio.Runner() as runner:
        return *runner.run(recorded_async(*reached)), ids


def test_the_goldens_are_of_the_sdk_that_is_installed() -> None:
    assert golden("kv")["sdk"] == cloudflare.__version__, "write them anew: see recording.py"


def test_the_sdk_sends_what_the_goldens_say(
    recorded: tuple[dict[str, Recorded], dict[str, Any], Ids],
) -> None:
    sent, _, _ = recorded
    wanted = golden("kv")["requests"]
    assert list(wanted) == list(KV_CALLS)
    for name, request in sent.items():
        assert request == wanted[name], name


def test_the_sdk_understands_what_comes_back(
    recorded: tuple[dict[str, Recorded], dict[str, Any], Ids],
) -> None:
    _, results, ids = recorded
    assert results["values.get"] == b"two"
    assert results["metadata.get"] == {"type": "page", "n": 1}
    assert results["keys.list"].result == []  # listed 60 s later
    assert results["bulk_update"].successful_key_count == 2
    values = results["bulk_get"].values
    assert values[f"{ids.key}-0"] is None
    assert values[f"{ids.key}-1"].value == 1
    assert values[f"{ids.key}-1"].metadata == {"n": 1}
    assert results["bulk_delete"].unsuccessful_keys == []
    assert results["namespaces.get"].id == ids.namespace
    assert results["namespaces.create"].title == ids.key
    assert results["namespaces.update"].title == f"{ids.key} renamed"
    assert len(results["namespaces.list"].result) >= 2


def test_the_sdk_reads_all_pages(
    sdk: cloudflare.Cloudflare, local_cloudflare: LocalCloudflare, key: str
) -> None:
    at: dict[str, Any] = {"account_id": local_cloudflare.account_id}
    space = sdk.kv.namespaces
    namespace = local_cloudflare.kv_namespace_id
    names = [f"{key}-{number:02}" for number in range(25)]
    space.bulk_update(
        namespace, body=[{"key": name, "value": name, "metadata": name} for name in names], **at
    )
    local_cloudflare.clock.advance(60)
    listed = list(space.keys.list(namespace, prefix=key, limit=10, **at))
    assert [found.name for found in listed] == names
    assert [found.metadata for found in listed] == names

    async def collected() -> list[str]:
        async with cloudflare.AsyncCloudflare(
            api_token=local_cloudflare.api_token, base_url=local_cloudflare.rest_url
        ) as client:
            pages: AsyncIterator[Any] = aiter(
                client.kv.namespaces.keys.list(namespace, prefix=key, limit=10, **at)
            )
            return [found.name async for found in pages]

    with asyncio.Runner() as runner:
        assert runner.run(collected()) == names


def test_the_sdk_raises_its_own_errors(
    sdk: cloudflare.Cloudflare, local_cloudflare: LocalCloudflare, key: str
) -> None:
    at: dict[str, Any] = {
        "account_id": local_cloudflare.account_id,
        "namespace_id": local_cloudflare.kv_namespace_id,
    }
    with pytest.raises(cloudflare.NotFoundError) as missing:
        sdk.kv.namespaces.values.get(key, **at)
    assert missing.value.errors[0].code == 10009
    sdk.kv.namespaces.values.update(key, value=b"one", **at)
    with pytest.raises(cloudflare.RateLimitError):
        sdk.kv.namespaces.values.update(key, value=b"two", **at)
    with pytest.raises(cloudflare.BadRequestError):
        sdk.kv.namespaces.values.update(f"{key}-2", value=b"one", expiration_ttl=59, **at)
    with pytest.raises(cloudflare.PermissionDeniedError):
        sdk.with_options(api_token="another").kv.namespaces.list(
            account_id=local_cloudflare.account_id
        )


def test_the_sdk_meets_the_cap() -> None:
    with (
        LocalCloudflare(rest_cap=RestCap(requests=2, period=10, block=10)) as local,
        cloudflare.Cloudflare(
            api_token=local.api_token, base_url=local.rest_url, max_retries=0
        ) as client,
    ):
        for _ in range(2):
            client.kv.namespaces.list(account_id=local.account_id)
        with pytest.raises(cloudflare.RateLimitError) as capped:
            client.kv.namespaces.list(account_id=local.account_id)
        assert capped.value.response.headers["retry-after"] == "10"
