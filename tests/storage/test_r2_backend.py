"""`storage.r2`: what differs from S3, against a server that refuses what R2 refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from cm_platform.registry import Registry
from cm_platform.storage.backend import Attributes, StorageCapability
from cm_platform.storage.r2 import BACKEND, R2Config
from cm_platform.storage.s3 import S3Storage
from cm_platform.testing.servers import Endpoint, R2Server

from .s3_faces import FACES, PLAIN, Face, body, failure, keys, on, r2_config

ACCOUNT = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def server() -> Iterator[R2Server]:
    with R2Server() as running:
        yield running


@pytest.fixture
def bucket(server: R2Server) -> Endpoint:
    return server.new_bucket()


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("key", ["k", "k/"])
def test_objects_are_stored_found_and_removed(face: Face, bucket: Endpoint, key: str) -> None:
    async def scenario(storage: S3Storage) -> None:
        await storage.ping()
        attributes = Attributes(content_type="text/plain", metadata={"big": "x" * 8_000})
        written = await storage.put(key, b"bytes", attributes, if_none_match=True)
        info = await storage.head(key)
        assert (info.etag, info.metadata) == (written.etag, attributes.metadata)
        assert await body(storage, key, start=1, end=3) == b"yt"
        error = await failure(storage, storage.put(key, b"x", PLAIN, if_none_match=True))
        assert error.code == "already_exists"
        error = await failure(storage, storage.put(key, b"x", PLAIN, if_match="0" * 32))
        assert error.code == "precondition_failed"
        error = await failure(storage, storage.put("none", b"x", PLAIN, if_match="0" * 32))
        assert error.code == "precondition_failed"
        await storage.put(key, b"x", PLAIN, if_match=written.etag)
        assert await storage.delete_many([key, "none"]) == {}
        assert await keys(storage) == []

    on(face, r2_config(bucket), scenario)


@pytest.mark.parametrize("face", FACES)
def test_a_conditional_delete_is_never_sent(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        assert StorageCapability.CONDITIONAL_DELETE not in storage.capabilities
        written = await storage.put("k", b"x", PLAIN)
        error = await failure(storage, storage.delete("k", if_match=written.etag))
        assert (error.code, error.not_sent) == ("unsupported", True)
        assert await keys(storage) == ["k"]
        await storage.delete("k")

    on(face, r2_config(bucket), scenario)


@pytest.mark.parametrize("face", FACES)
def test_a_copy_does_not_replace_a_taken_target(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        source = await storage.put("source", b"source", PLAIN)
        await storage.put("taken", b"taken", PLAIN)

        async def refused(target: str, etag: str) -> str:
            copying = storage.copy("source", target, PLAIN, etag=etag, if_none_match=True)
            return (await failure(storage, copying)).code

        assert await refused("taken", source.etag) == "already_exists"
        assert await refused("free", "0" * 32) == "precondition_failed"
        assert await body(storage, "taken") == b"taken"
        await storage.copy("source", "free", PLAIN, etag=source.etag, if_none_match=True)
        await storage.copy("source", "taken", PLAIN, etag=source.etag)
        assert await body(storage, "taken") == b"source"

    on(face, r2_config(bucket), scenario)


@pytest.mark.parametrize("face", FACES)
def test_parts_become_one_object(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        assert storage.limits.equal_parts
        upload = await storage.create_multipart("k", PLAIN)
        sizes = (5 * 2**20, 5 * 2**20, 7)
        parts = [
            await storage.put_part("k", upload, number, b"p" * size)
            for number, size in enumerate(sizes, 1)
        ]
        await storage.complete_multipart("k", upload, parts, if_none_match=True)
        assert (await storage.head("k")).size == sum(sizes)

    on(face, r2_config(bucket), scenario)


def _config(**more: Any) -> R2Config:
    return R2Config.model_validate(
        {
            "account_id": ACCOUNT,
            "bucket": "media",
            "access_key_id": "A",
            "secret_access_key": "CANARY",
            **more,
        }
    )


@pytest.mark.parametrize(
    ("jurisdiction", "endpoint"),
    [
        (None, f"https://{ACCOUNT}.r2.cloudflarestorage.com"),
        ("eu", f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com"),
        ("fedramp", f"https://{ACCOUNT}.fedramp.r2.cloudflarestorage.com"),
    ],
)
def test_the_endpoint_is_the_accounts(jurisdiction: str | None, endpoint: str) -> None:
    connection = _config(jurisdiction=jurisdiction).connection()
    assert (connection.endpoint, connection.region, connection.virtual) == (endpoint, "auto", False)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"account_id": "x" * 32}, "32 lower-case hex"),
        ({"account_id": f"{ACCOUNT}\n"}, "32 lower-case hex"),
        ({"jurisdiction": "us"}, "'eu' or 'fedramp'"),
        ({"endpoint": "http://r2.example.com"}, "https"),
        ({"bucket": "a/b"}, "3 to 63"),
        ({"region": "auto"}, "not permitted"),
        ({"secret_access_key": None}, "secret_access_key"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(settings: Any, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _config(**settings)
    assert says in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_the_entry_point_leads_here() -> None:
    assert Registry().get("storage", "r2") is BACKEND
