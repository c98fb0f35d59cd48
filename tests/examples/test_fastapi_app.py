"""The file service, spoken to as a browser would."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    # Starlette's client prefers a successor of httpx; httpx is what our own extras bring.
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

EXAMPLES = Path(__file__).parents[2] / "examples"
MAGAZINE = {"X-Tenant": "magazine"}
SHOP = {"X-Tenant": "shop"}


def example() -> Any:
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLES / "fastapi_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    config = {
        "storage": {
            "default": "disk",
            "backends": {
                "disk": {"driver": "local", "path": str(tmp_path / "disk")},
                "cloud": {
                    "driver": "s3",
                    "bucket": "media",
                    "endpoint": "http://127.0.0.1:9",
                    "access_key_id": "canary-id",
                    "secret_access_key": "canary-secret",
                },
            },
            "rules": [{"tenants": ["far-away"], "route": "cloud"}],
            "timeout": 1,
            "retry": {"attempts": 1},
        }
    }
    with TestClient(example().create_app(config)) as client:
        yield client


def test_an_upload_comes_back_as_it_was(client: TestClient) -> None:
    body = (EXAMPLES / "data/images/couverture-ete.png").read_bytes()
    answer = client.put(
        "/files/press/été.png", content=body, headers={**MAGAZINE, "Content-Type": "image/png"}
    )
    assert answer.status_code == 201
    assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()

    got = client.get("/files/press/été.png", headers=MAGAZINE)
    assert got.content == body
    assert got.headers["content-type"] == "image/png"
    assert got.headers["content-length"] == str(len(body))
    assert got.headers["etag"] == f'"{answer.json()["etag"]}"'


def test_a_large_upload_is_streamed_in_parts(client: TestClient) -> None:
    piece = bytes(range(256)) * 4096

    def body() -> Iterator[bytes]:
        for _ in range(20):
            yield piece

    answer = client.put("/files/large", content=body(), headers=MAGAZINE)
    assert answer.json()["size"] == 20 * len(piece)
    digest = hashlib.sha256()
    with client.stream("GET", "/files/large", headers=MAGAZINE) as stream:
        for chunk in stream.iter_bytes():
            digest.update(chunk)
    assert digest.hexdigest() == hashlib.sha256(piece * 20).hexdigest()


def test_a_listing_goes_on_with_its_cursor(client: TestClient) -> None:
    for number in range(5):
        client.put(f"/files/n/{number}", content=b"x", headers=MAGAZINE)
    keys: list[str] = []
    query: dict[str, str] = {"prefix": "n/", "limit": "2"}
    while True:
        page = client.get("/files", params=query, headers=MAGAZINE).json()
        keys += [found["key"] for found in page["objects"]]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    assert keys == [f"n/{number}" for number in range(5)]


def test_a_tenant_sees_neither_objects_nor_cursors_of_another(client: TestClient) -> None:
    for name in ("a", "b"):
        client.put(f"/files/{name}", content=b"x", headers=MAGAZINE)
    assert client.get("/files/a", headers=SHOP).status_code == 404
    assert client.get("/files", headers=SHOP).json()["objects"] == []
    cursor = client.get("/files", params={"limit": "1"}, headers=MAGAZINE).json()["cursor"]
    stolen = client.get("/files", params={"cursor": cursor}, headers=SHOP)
    assert (stolen.status_code, stolen.json()["code"]) == (400, "invalid_argument")


def test_deleting_is_final_and_repeatable(client: TestClient) -> None:
    client.put("/files/a", content=b"x", headers=MAGAZINE)
    assert client.delete("/files/a", headers=MAGAZINE).status_code == 204
    assert client.delete("/files/a", headers=MAGAZINE).status_code == 204
    assert client.get("/files/a", headers=MAGAZINE).status_code == 404


def test_conditions_that_do_not_hold_are_412(client: TestClient) -> None:
    create = {**MAGAZINE, "If-None-Match": "*"}
    assert client.put("/files/a", content=b"1", headers=create).status_code == 201
    assert client.put("/files/a", content=b"2", headers=create).status_code == 412
    other = {**MAGAZINE, "If-Match": '"another"'}
    assert client.delete("/files/a", headers=other).status_code == 412
    assert client.get("/files/a", headers=MAGAZINE).content == b"1"


def test_presigning_is_501_where_the_backend_has_none(client: TestClient) -> None:
    answer = client.post("/presigned/a", headers=MAGAZINE)
    assert (answer.status_code, answer.json()["code"]) == (501, "unsupported")


def test_presigning_works_where_the_backend_can(client: TestClient) -> None:
    answer = client.post("/presigned/a", headers={"X-Tenant": "far-away"})
    assert answer.status_code == 200
    assert answer.json()["url"].startswith("http://127.0.0.1:9/media/far-away/a?")
    assert "canary-secret" not in answer.text


def test_a_store_that_is_down_is_503_and_keeps_its_address_to_itself(client: TestClient) -> None:
    answer = client.get("/files/a", headers={"X-Tenant": "far-away"})
    assert answer.status_code in (503, 504)
    assert answer.json()["message"] is None
    assert "127.0.0.1" not in answer.text


@pytest.mark.parametrize("headers", [{}, {"X-Tenant": "../shop"}])
def test_a_caller_without_a_tenant_gets_nowhere(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.get("/files/a", headers=headers).status_code in (400, 422)
