"""What the SDK sends for each of its calls on KV, as data: the goldens of what we send ourselves.

`python tests/testing/cloudflare/recording.py` writes the goldens anew, for another SDK.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx

import cloudflare

GOLDENS: Final = Path(__file__).parent / "goldens"

Call = Callable[[Any, "Ids"], Any]
Recorded = dict[str, Any]


class Ids:
    """What the recorded calls are about."""

    def __init__(self, account: str, namespace: str, key: str) -> None:
        self.account = account
        self.namespace = namespace
        self.key = key
        self.at: dict[str, Any] = {"account_id": account, "namespace_id": namespace}


KV_CALLS: Final[dict[str, Call]] = {
    "values.update": lambda kv, ids: kv.values.update(ids.key, value=b"\x00one\xff", **ids.at),
    "values.update with all": lambda kv, ids: kv.values.update(
        f"{ids.key}/a b%:é",
        value=b"two",
        metadata={"type": "page", "n": 1},
        expiration=4102444800,
        expiration_ttl=3600,
        **ids.at,
    ),
    "values.get": lambda kv, ids: kv.values.get(f"{ids.key}/a b%:é", **ids.at),
    "metadata.get": lambda kv, ids: kv.metadata.get(f"{ids.key}/a b%:é", **ids.at),
    "keys.list": lambda kv, ids: kv.keys.list(prefix=f"{ids.key}/", limit=10, **ids.at),
    "bulk_update": lambda kv, ids: kv.bulk_update(
        body=[
            {"key": f"{ids.key}-1", "value": "1", "expiration_ttl": 60, "metadata": {"n": 1}},
            {"key": f"{ids.key}-2", "value": "/w==", "base64": True},
        ],
        **ids.at,
    ),
    "bulk_get": lambda kv, ids: kv.bulk_get(
        keys=[f"{ids.key}-1", f"{ids.key}-0"], type="json", with_metadata=True, **ids.at
    ),
    "bulk_delete": lambda kv, ids: kv.bulk_delete(body=[f"{ids.key}-3", f"{ids.key}-4"], **ids.at),
    "values.delete": lambda kv, ids: kv.values.delete(f"{ids.key}-7", **ids.at),
    "namespaces.list": lambda kv, ids: kv.list(account_id=ids.account, per_page=5, page=1),
    "namespaces.get": lambda kv, ids: kv.get(ids.namespace, account_id=ids.account),
    "namespaces.create": lambda kv, ids: kv.create(account_id=ids.account, title=ids.key),
    "namespaces.update": lambda kv, ids: kv.update(
        ids.namespace, account_id=ids.account, title=f"{ids.key} renamed"
    ),
    "namespaces.delete": lambda kv, ids: kv.delete(ids.namespace, account_id=ids.account),
}
"""The calls in an order in which each succeeds; the last one removes the namespace. The bulk calls
of `keys` are deprecated names of the same."""


class Recorder:
    """Keeps what is sent, made comparable. Its `transport` goes into httpx's client."""

    def __init__(self, ids: Ids) -> None:
        self.sent: list[Recorded] = []
        self._names = {ids.account: "ACCOUNT", ids.namespace: "NAMESPACE", ids.key: "KEY"}

    def note(self, request: httpx.Request) -> None:
        """Add a request."""
        raw_path, _, query = request.url.raw_path.decode().partition("?")
        content_type, _, boundary = request.headers.get("content-type", "").partition("boundary=")
        text = request.content.decode("latin-1")
        body: Any = text.replace(boundary, "BOUNDARY") if boundary else text
        if content_type == "application/json" and text:
            body = json.loads(request.content)
        recorded = {
            "method": request.method,
            "path": raw_path,
            "query": sorted(query.split("&")) if query else [],
            "authorization": re.sub(r" .+", " TOKEN", request.headers["authorization"]),
            "accept": request.headers["accept"],
            "content_type": content_type + ("boundary=BOUNDARY" if boundary else ""),
            "body": body,
        }
        known = json.dumps(recorded)
        for value, name in self._names.items():
            known = known.replace(value, name)
        self.sent.append(json.loads(known))


class SyncTransport(httpx.BaseTransport):
    """Passes on what it records."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self._recorder.note(request)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """Passes on what it records."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self._recorder.note(request)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def recorded_sync(url: str, token: str, ids: Ids) -> tuple[dict[str, Recorded], dict[str, Any]]:
    """What each call sent, and what the SDK made of the answer."""
    recorder = Recorder(ids)
    results = {}
    with cloudflare.Cloudflare(
        api_token=token,
        base_url=url,
        max_retries=0,
        http_client=cloudflare.DefaultHttpxClient(transport=SyncTransport(recorder)),
    ) as client:
        for name, call in KV_CALLS.items():
            result = call(client.kv.namespaces, ids)
            results[name] = result.read() if name == "values.get" else result
    return dict(zip(KV_CALLS, recorder.sent, strict=True)), results


async def recorded_async(
    url: str, token: str, ids: Ids
) -> tuple[dict[str, Recorded], dict[str, Any]]:
    """The same by the asynchronous SDK."""
    recorder = Recorder(ids)
    results = {}
    async with cloudflare.AsyncCloudflare(
        api_token=token,
        base_url=url,
        max_retries=0,
        http_client=cloudflare.DefaultAsyncHttpxClient(transport=AsyncTransport(recorder)),
    ) as client:
        for name, call in KV_CALLS.items():
            result = await call(client.kv.namespaces, ids)
            results[name] = await result.read() if name == "values.get" else result
    return dict(zip(KV_CALLS, recorder.sent, strict=True)), results


def golden(name: str) -> dict[str, Any]:
    """The goldens of a product."""
    found: dict[str, Any] = json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Write the goldens."""
    from cm_platform.testing.cloudflare import LocalCloudflare

    with LocalCloudflare() as local:
        ids = Ids(local.account_id, local.kv_namespace_id, "0123456789abcdef")
        sent, _ = recorded_sync(local.rest_url, local.api_token, ids)
    document = {"sdk": cloudflare.__version__, "requests": sent}
    text = json.dumps(document, indent=2, ensure_ascii=True)
    (GOLDENS / "kv.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
