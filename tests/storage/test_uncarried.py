"""What other programs leave with an object on S3 and R2, and no write of ours can carry on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from cm_platform import Tenant
from cm_platform.errors import NotFoundError
from cm_platform.runtime import BlockingRuntime, drive
from cm_platform.storage.backend import Attributes, Uncarried
from cm_platform.storage.local import BACKEND as LOCAL
from cm_platform.storage.local import LocalConfig
from cm_platform.storage.s3 import S3Storage
from cm_platform.storage.s3.client import new_client, new_session
from cm_platform.storage.s3.uncarried import uncarried_in
from cm_platform.testing.faces import Face as PlatformFace
from cm_platform.testing.servers import Endpoint, R2Server, S3Server

from .conformance_stores import s3_table
from .s3_faces import FACES, PLAIN, Face, failure, on, r2_config, s3_config

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)
KEPT = {
    "StorageClass": "STANDARD_IA",
    "WebsiteRedirectLocation": "/elsewhere",
    "Tagging": "team=film&year=2026",
    "Expires": MOMENT,
}
NAMES = {
    Uncarried.STORAGE_CLASS,
    Uncarried.WEBSITE_REDIRECT,
    Uncarried.TAGS,
    Uncarried.EXPIRES,
}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> Endpoint:
    return server.new_bucket()


@pytest.fixture(scope="module")
def moto() -> Iterator[Endpoint]:
    """A bucket with object lock, on an S3 of other authors."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        endpoint = Endpoint(
            url=f"http://{host}:{port}",
            region="us-east-1",
            access_key_id="id",
            secret_access_key="secret",
            bucket="locked",
        )
        foreign(
            endpoint, lambda c, name: c.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        )
        yield endpoint
    finally:
        running.stop()


def foreign(endpoint: Endpoint, call: Callable[[Any, str], Any]) -> None:
    """Do what another program does, through its own client."""
    connection = s3_config(endpoint).connection()
    with closing(new_client(new_session(connection), connection)) as client:
        call(client, endpoint.bucket)


def foreign_put(endpoint: Endpoint, key: str, **more: Any) -> None:
    """Put an object as a program does that knows nothing of ours."""
    # Without a checksum no lock is accepted.
    more.setdefault("ChecksumAlgorithm", "SHA256")
    foreign(endpoint, lambda client, name: client.put_object(Bucket=name, Key=key, **more))


async def told(storage: S3Storage, key: str) -> frozenset[str]:
    info = await storage.head(key, uncarried=True)
    assert info.uncarried is not None
    return info.uncarried


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("key", ["plain", "a//folder/"])
def test_head_names_what_a_write_could_not_carry(face: Face, bucket: Endpoint, key: str) -> None:
    foreign_put(bucket, key, Body=b"12345", ContentType="text/plain", **KEPT)

    async def scenario(storage: S3Storage) -> None:
        assert await told(storage, key) == NAMES
        # As plain text too, which is what a configuration has.
        assert "storage-class" in await told(storage, key)

    on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("name", KEPT)
def test_each_is_told_by_itself(bucket: Endpoint, name: str) -> None:
    foreign_put(bucket, "key", **{name: KEPT[name]})

    async def scenario(storage: S3Storage) -> None:
        assert len(await told(storage, "key")) == 1

    on("blocking", s3_config(bucket), scenario)


@pytest.mark.parametrize("face", FACES)
def test_what_we_write_has_nothing_that_is_not_carried(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        attributes = Attributes("text/plain", "no-store", "inline", "gzip", "fr", {"expires": "1"})
        await storage.put("key", b"x", attributes)
        assert await told(storage, "key") == frozenset()

    on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("face", FACES)
def test_asking_changes_nothing_else_and_nobody_is_told_unasked(
    face: Face, bucket: Endpoint
) -> None:
    foreign_put(bucket, "key", Body=b"12345", CacheControl="no-store", **KEPT)
    foreign_put(bucket, "a//b", Metadata={"foo_bar": "x"}, **KEPT)

    async def scenario(storage: S3Storage) -> None:
        for key in ("key", "a//b"):
            quick, whole = await storage.head(key), await storage.head(key, uncarried=True)
            assert quick.uncarried is None
            assert whole == replace(quick, uncarried=frozenset(NAMES))
            reply = await storage.get(key)
            await reply.close()
            assert reply.info == quick

    on(face, s3_config(bucket), scenario)


def test_asking_of_what_is_not_there_is_not_found(bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        error = await failure(storage, storage.head("key", uncarried=True))
        assert error.code == "not_found"

    on("blocking", s3_config(bucket), scenario)


def test_an_archived_object_is_described_and_its_bytes_are_refused(bucket: Endpoint) -> None:
    foreign_put(bucket, "key", Body=b"x", StorageClass="GLACIER")

    async def scenario(storage: S3Storage) -> None:
        assert await told(storage, "key") == {Uncarried.STORAGE_CLASS}
        for call in (storage.get("key"), storage.copy("key", "to", PLAIN, etag="0" * 32)):
            error = await failure(storage, call)
            assert not error.retryable

    on("blocking", s3_config(bucket), scenario)


def test_a_copy_keeps_of_these_only_the_tags(bucket: Endpoint) -> None:
    foreign_put(bucket, "acme/from", Body=b"x", ContentType="text/plain", **KEPT)
    table = s3_table(bucket)
    with PlatformFace("blocking", "storage", table, layout="{tenant}/{key}") as platform:
        copied = platform.get_service(Tenant("acme")).copy("from", "to")
    assert (copied.content_type, copied.uncarried) == ("text/plain", None)

    async def scenario(storage: S3Storage) -> None:
        assert await told(storage, "acme/to") == {Uncarried.TAGS}

    on("blocking", s3_config(bucket), scenario)


def test_a_tenant_is_told_what_the_backend_tells(bucket: Endpoint) -> None:
    def asked(name: str, answer: Any) -> Any:
        return replace(answer, uncarried=frozenset({"tags"})) if name == "head" else answer

    table = s3_table(bucket)
    with PlatformFace("blocking", "storage", table, layout="{tenant}/{key}") as platform:
        storage = platform.get_service(Tenant("acme"))
        storage.put("key", b"x")
        assert storage.head("key").uncarried is None
        platform.backend.lie = asked
        assert storage.head("key").uncarried == {"tags"}


def test_on_r2_it_is_the_storage_class_and_expires() -> None:
    with R2Server() as server:
        bucket = server.endpoint
        foreign_put(bucket, "key", StorageClass="STANDARD_IA", Expires=MOMENT)

        async def scenario(storage: S3Storage) -> None:
            assert await told(storage, "key") == {Uncarried.STORAGE_CLASS, Uncarried.EXPIRES}

        on("blocking", r2_config(bucket), scenario)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, set[str]()),
        (KEPT, NAMES),
        ({"ServerSideEncryption": "AES256"}, set[str]()),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key"}, {Uncarried.ENCRYPTION}),
        ({"ObjectLockLegalHoldStatus": "ON"}, {Uncarried.OBJECT_LOCK}),
        ({"ObjectLockLegalHoldStatus": "OFF"}, set[str]()),
        (
            {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": MOMENT},
            {Uncarried.OBJECT_LOCK},
        ),
    ],
)
def test_another_s3_tells_the_same(
    moto: Endpoint, given: dict[str, Any], names: set[Uncarried]
) -> None:
    foreign_put(moto, "key", **given)

    async def scenario(storage: S3Storage) -> None:
        assert await told(storage, "key") == names

    on("blocking", s3_config(moto), scenario)


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({"x-amz-storage-class": "STANDARD", "x-amz-tagging-count": "0"}, set[str]()),
        ({"x-amz-version-id": "v1", "x-amz-replication-status": "COMPLETED"}, set[str]()),
        ({"x-amz-expiration": 'expiry-date="x", rule-id="y"'}, set[str]()),
        ({"x-amz-missing-meta": "2"}, {Uncarried.METADATA}),
        ({"x-amz-missing-meta": "0"}, set[str]()),
        ({"x-amz-object-lock-event-hold": "ON"}, {Uncarried.OBJECT_LOCK}),
        (
            {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
            {Uncarried.ENCRYPTION},
        ),
        ({"x-amz-server-side-encryption": "aws:kms:dsse"}, {Uncarried.ENCRYPTION}),
        ({"expires": "not a date"}, {Uncarried.EXPIRES}),
    ],
)
def test_what_headers_say(headers: dict[str, str], names: set[Uncarried]) -> None:
    assert uncarried_in({"etag": '"x"', "content-length": "1", **headers}) == names


def test_the_local_disk_keeps_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await LOCAL.open(LocalConfig(path=tmp_path), BlockingRuntime())
        await store.put("key", b"x", PLAIN)
        assert (await store.head("key", uncarried=True)).uncarried == frozenset()
        assert (await store.head("key")).uncarried is None
        with pytest.raises(NotFoundError):
            await store.head("none", uncarried=True)
        await store.close()

    drive(scenario())
