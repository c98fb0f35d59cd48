"""`storage.s3` on a service that is not Amazon's and cannot do all: OpenStack Swift."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cm_platform.storage.backend import Attributes, StorageCapability
from cm_platform.storage.s3 import S3Storage
from cm_platform.testing.servers import Endpoint, SwiftServer

from .s3_faces import FACES, PLAIN, Face, body, failure, keys, on, s3_config

pytestmark = pytest.mark.parametrize("face", FACES)


@pytest.fixture(scope="module")
def server() -> Iterator[SwiftServer]:
    with SwiftServer() as running:
        yield running


@pytest.fixture
def bucket(server: SwiftServer) -> Endpoint:
    return server.new_bucket()


def test_objects_are_stored_found_and_removed(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        await storage.ping()
        names = ["a b/%2F\u00e9", "f//x/", "plain"]
        for name in names:
            await storage.put(name, b"bytes", Attributes(metadata={"cm-rev": "a  b"}))
            assert (await storage.head(name)).metadata == {"cm-rev": "a  b"}
            assert await body(storage, name, start=1, end=3) == b"yt"
            outside = storage.get(name, start=5)
            assert (await failure(storage, outside)).code == "invalid_argument"
        assert await keys(storage) == names
        page = await storage.list("", delimiter="/", cursor=None, limit=1)
        page = await storage.list("", delimiter="/", cursor=page.cursor, limit=1)
        assert page.prefixes == ["f/"]
        for gone in (storage.get("none"), storage.head("none/")):
            assert (await failure(storage, gone)).code == "not_found"
        assert await storage.delete_many([*names, "none"]) == {}
        assert await keys(storage) == []

    on(face, s3_config(bucket), scenario)


def test_parts_become_one_object(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        upload = await storage.create_multipart("k", PLAIN)
        parts = [
            await storage.put_part("k", upload, 1, b"a" * 5 * 2**20),
            await storage.put_part("k", upload, 2, b"b"),
        ]
        await storage.complete_multipart("k", upload, parts)
        assert await body(storage, "k", start=-2) == b"ab"
        await storage.abort_multipart("k", upload)

    on(face, s3_config(bucket), scenario)


def test_what_it_lacks_is_refused_before_it_is_asked_or_by_itself(
    face: Face, bucket: Endpoint
) -> None:
    async def unasked(storage: S3Storage) -> None:
        error = await failure(storage, storage.put("k", b"x", PLAIN, if_match="0" * 32))
        assert (error.code, error.not_sent) == ("unsupported", True)

    lacks = frozenset({StorageCapability.CONDITIONAL_REPLACE})
    on(face, s3_config(bucket, lacks=lacks), unasked)

    async def asked(storage: S3Storage) -> None:
        await storage.put("k", b"first", PLAIN, if_none_match=True)
        error = await failure(storage, storage.put("k", b"x", PLAIN, if_match="0" * 32))
        assert error.code == "unsupported"
        assert await body(storage, "k") == b"first"

    on(face, s3_config(bucket), asked)
