"""`storage.s3` keeps the contract of `StorageBackend`, on both faces."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cm_platform.errors import UnavailableError
from cm_platform.runtime import drive
from cm_platform.storage.backend import Attributes, Part, Presigned, StorageCapability
from cm_platform.storage.s3 import S3Storage
from cm_platform.storage.s3.client import new_client
from cm_platform.storage.s3.connection import Connection
from cm_platform.testing.servers import Endpoint, S3Server

from .s3_faces import FACES, PLAIN, Face, body, failure, keys, on, s3_config

pytestmark = pytest.mark.parametrize("face", FACES)

FULL = Attributes(
    content_type="text/plain; charset=utf-8",
    cache_control="max-age=60, private",
    content_disposition='attachment; filename="a b.txt"',
    content_encoding="gzip",
    content_language="fr",
    metadata={"cm-rev": "01J", "two": "a  b", "word": "=?UTF-8?B?w6k=?="},
)
# These go through obstore, through boto3 for the key, and through boto3 for the body.
WAYS = {"fast": ("a/b.txt", b"hello"), "key": ("a//b/", b"hello"), "size": ("big", b"x" * 2**21)}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> Endpoint:
    return server.new_bucket()


@pytest.mark.parametrize("way", WAYS)
def test_put_stores_bytes_and_attributes(face: Face, bucket: Endpoint, way: str) -> None:
    key, data = WAYS[way]

    async def scenario(storage: S3Storage) -> None:
        before = datetime.now(UTC) - timedelta(seconds=2)
        written = await storage.put(key, memoryview(data), FULL)
        info = await storage.head(key)
        assert (info.key, info.size, info.etag) == (key, len(data), written.etag)
        assert '"' not in written.etag
        assert info.last_modified is not None
        assert before < info.last_modified < datetime.now(UTC) + timedelta(seconds=2)
        assert info.last_modified.tzinfo is UTC
        for name in (
            "content_type",
            "cache_control",
            "content_disposition",
            "content_encoding",
            "content_language",
            "metadata",
        ):
            assert getattr(info, name) == getattr(FULL, name), name
        reply = await storage.get(key)
        assert reply.info == info
        assert await reply.read() == data
        await reply.close()
        reply = await storage.get(key)
        chunks = [chunk async for chunk in reply.chunks()]
        assert b"".join(chunks) == data
        assert max(map(len, chunks)) <= 4 * 2**20
        await reply.close()
        await reply.close()

    on(face, s3_config(bucket), scenario)


def test_metadata_that_is_named_like_a_header_stays_metadata(face: Face, bucket: Endpoint) -> None:
    given = Attributes(
        content_type="text/plain",
        metadata={"content-type": "x/y", "contenttype": "z", "storage-class": "gold"},
    )

    async def scenario(storage: S3Storage) -> None:
        await storage.put("k", b"x", given)
        info = await storage.head("k")
        assert info.content_type == "text/plain"
        assert info.metadata == given.metadata

    on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("key", ["plain", "folder/"])
def test_an_empty_object_can_be_read(face: Face, bucket: Endpoint, key: str) -> None:
    async def scenario(storage: S3Storage) -> None:
        await storage.put(key, b"", PLAIN)
        assert await body(storage, key) == b""
        reply = await storage.get(key)
        assert [chunk async for chunk in reply.chunks() if chunk] == []
        await reply.close()
        assert (await failure(storage, storage.get(key, start=0, end=1))).code == "invalid_argument"

    on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("key", ["plain", "folder/"])
def test_get_reads_a_range_and_tells_the_whole_size(face: Face, bucket: Endpoint, key: str) -> None:
    async def scenario(storage: S3Storage) -> None:
        await storage.put(key, b"0123456789", PLAIN)
        for start, end, expected in (
            (0, 4, b"0123"),
            (3, 5, b"34"),
            (4, None, b"456789"),
            (8, 100, b"89"),
            (-3, None, b"789"),
            (-100, None, b"0123456789"),
        ):
            reply = await storage.get(key, start=start, end=end)
            assert (reply.info.size, await reply.read()) == (10, expected), (start, end)
            await reply.close()
        for start, end in ((10, None), (10, 12), (5, 5), (5, 2), (0, 0)):
            error = await failure(storage, storage.get(key, start=start, end=end))
            assert error.code == "invalid_argument", (start, end)

    on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("key", ["plain", "folder/"])
def test_a_reply_may_be_left_in_the_middle(face: Face, bucket: Endpoint, key: str) -> None:
    async def scenario(storage: S3Storage) -> None:
        data = bytes(range(256)) * 40_960  # 10 MiB
        await storage.put(key, data, PLAIN)
        reply = await storage.get(key)
        async for chunk in reply.chunks():
            assert data.startswith(chunk)
            break
        await reply.close()
        reply = await storage.get(key)
        start = b""
        async for chunk in reply.chunks():
            start = chunk
            break
        assert start + await reply.read() == data
        await reply.close()

    on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("key", ["plain", "folder/"])
def test_a_missing_object_is_not_found(face: Face, bucket: Endpoint, key: str) -> None:
    async def scenario(storage: S3Storage) -> None:
        assert (await failure(storage, storage.head(key))).code == "not_found"
        assert (await failure(storage, storage.get(key))).code == "not_found"
        await storage.delete(key)

    on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("key", ["plain", "folder/"])
def test_put_if_none_match_refuses_an_existing_key(face: Face, bucket: Endpoint, key: str) -> None:
    async def scenario(storage: S3Storage) -> None:
        await storage.put(key, b"first", PLAIN, if_none_match=True)
        error = await failure(storage, storage.put(key, b"second", PLAIN, if_none_match=True))
        assert error.code == "already_exists"
        assert await body(storage, key) == b"first"

    on(face, s3_config(bucket), scenario)


@pytest.mark.parametrize("key", ["plain", "folder/"])
def test_if_match_demands_the_version(face: Face, bucket: Endpoint, key: str) -> None:
    async def scenario(storage: S3Storage) -> None:
        error = await failure(storage, storage.put(key, b"x", PLAIN, if_match="0" * 32))
        assert error.code == "precondition_failed"
        error = await failure(storage, storage.delete(key, if_match="0" * 32))
        assert error.code == "precondition_failed"
        first = await storage.put(key, b"first", PLAIN)
        second = await storage.put(key, b"second", PLAIN, if_match=first.etag)
        assert await body(storage, key, if_match=second.etag) == b"second"
        for refused in (
            storage.put(key, b"third", PLAIN, if_match=first.etag),
            storage.get(key, if_match=first.etag),
            storage.delete(key, if_match=first.etag),
        ):
            assert (await failure(storage, refused)).code == "precondition_failed"
        await storage.delete(key, if_match=second.etag)
        assert await keys(storage) == []

    on(face, s3_config(bucket), scenario)


def test_parts_become_one_object(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        source = await storage.put("source", b"s" * 6 * 2**20, PLAIN)
        upload = await storage.create_multipart("target", FULL)
        assert await keys(storage) == ["source"]
        await storage.put_part("target", upload, 1, b"wrong" * 2**20)
        first = await storage.put_part("target", upload, 1, memoryview(b"a" * 5 * 2**20))
        end = 5 * 2**20
        second = await storage.copy_part("target", upload, 2, "source", 0, end, source.etag)
        third = await storage.put_part("target", upload, 3, b"tail")
        written = await storage.complete_multipart("target", upload, [first, second, third])
        info = await storage.head("target")
        assert (info.etag, info.size) == (written.etag, 10 * 2**20 + 4)
        assert (info.content_type, info.metadata) == (FULL.content_type, FULL.metadata)
        assert await body(storage, "target", start=-6) == b"sstail"
        error = await failure(
            storage, storage.copy_part("target", upload, 2, "source", 0, end, "0" * 32)
        )
        assert error.code in ("not_found", "precondition_failed")
        error = await failure(storage, storage.complete_multipart("target", upload, [first]))
        assert error.code == "not_found"

    on(face, s3_config(bucket), scenario)


def test_an_upload_is_completed_under_a_condition(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        async def uploaded() -> tuple[str, list[Part]]:
            upload = await storage.create_multipart("k", PLAIN)
            return upload, [await storage.put_part("k", upload, 1, b"part")]

        upload, parts = await uploaded()
        error = await failure(
            storage, storage.complete_multipart("k", upload, parts, if_match="0" * 32)
        )
        assert error.code == "precondition_failed"
        there = await storage.put("k", b"there", PLAIN)
        upload, parts = await uploaded()
        error = await failure(
            storage, storage.complete_multipart("k", upload, parts, if_none_match=True)
        )
        assert error.code == "already_exists"
        await storage.complete_multipart("k", upload, parts, if_match=there.etag)
        assert await body(storage, "k") == b"part"

    on(face, s3_config(bucket), scenario)


def test_an_aborted_upload_is_gone(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        upload = await storage.create_multipart("k", PLAIN)
        part = await storage.put_part("k", upload, 1, b"x")
        await storage.abort_multipart("k", upload)
        await storage.abort_multipart("k", upload)
        for late in (
            storage.put_part("k", upload, 2, b"x"),
            storage.complete_multipart("k", upload, [part]),
        ):
            assert (await failure(storage, late)).code == "not_found"
        upload = await storage.create_multipart("k", PLAIN)
        wrong = storage.complete_multipart("k", upload, [Part(1, "0" * 32)])
        assert (await failure(storage, wrong)).code == "invalid_argument"

    on(face, s3_config(bucket), scenario)


def test_copy_replaces_attributes_and_keeps_bytes(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        source = await storage.put("a/\u00e9 %2F?", b"bytes", FULL)
        target = "b//\u00e9 %2F+"
        written = await storage.copy(
            "a/\u00e9 %2F?", target, Attributes(metadata={"n": "1"}), etag=source.etag
        )
        info = await storage.head(target)
        assert (info.etag, info.size) == (written.etag, 5)
        assert info.metadata == {"n": "1"}
        assert info.cache_control is None

    on(face, s3_config(bucket), scenario)


def test_copy_demands_the_sources_version_and_a_free_target(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        source = await storage.put("source", b"source", PLAIN)
        await storage.put("taken", b"taken", PLAIN)

        async def refused(source_key: str, target: str, etag: str, *, create: bool) -> str:
            copying = storage.copy(source_key, target, PLAIN, etag=etag, if_none_match=create)
            return (await failure(storage, copying)).code

        assert await refused("source", "free", "0" * 32, create=False) == "precondition_failed"
        assert await refused("source", "free", "0" * 32, create=True) == "precondition_failed"
        assert await refused("source", "taken", source.etag, create=True) == "already_exists"
        assert await refused("nothing", "free", source.etag, create=False) == "not_found"
        assert await refused("nothing", "free", source.etag, create=True) == "not_found"
        assert await body(storage, "taken") == b"taken"
        await storage.copy("source", "free", PLAIN, etag=source.etag, if_none_match=True)
        await storage.copy("source", "taken", PLAIN, etag=source.etag)
        assert await body(storage, "taken") == b"source"

    on(face, s3_config(bucket), scenario)


def test_delete_many_accounts_for_every_key(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        names = ["a", "a//b", "folder/", "<&>", "caf\u00e9", "tab\there", "line\r\nend"]
        for name in names:
            await storage.put(name, b"x", PLAIN)
        await storage.put("kept", b"x", PLAIN)
        assert await storage.delete_many([*names, "never there", "a"]) == {}
        assert await keys(storage) == ["kept"]
        assert await storage.delete_many([]) == {}

    on(face, s3_config(bucket), scenario)


def test_delete_many_carries_the_digest_that_all_services_know(
    face: Face, bucket: Endpoint
) -> None:
    sent: list[Any] = []

    async def scenario(storage: S3Storage) -> None:
        events = storage.native().meta.events
        events.register("before-send.s3.DeleteObjects", lambda request, **_: sent.append(request))
        await storage.delete_many(["k"])
        names = {name.lower() for name in sent[0].headers}
        assert "content-md5" in names
        assert not [name for name in names if "checksum" in name]

    on(face, s3_config(bucket), scenario)


def test_list_pages_in_order_of_the_keys_bytes(face: Face, bucket: Endpoint) -> None:
    names = ["a", "a b", "a%2Fb", "a+b", "a/", "a//", "a/b", "b", "\u00e9", "\uffee", "\U0001f600"]

    async def scenario(storage: S3Storage) -> None:
        etags = {name: (await storage.put(name, name.encode(), PLAIN)).etag for name in names}
        found: list[str] = []
        cursor: str | None = None
        for _ in names:
            page = await storage.list("", delimiter=None, cursor=cursor, limit=2)
            assert len(page.objects) <= 2
            for listed in page.objects:
                assert etags[listed.key] == listed.etag
                assert listed.size == len(listed.key.encode())
                assert listed.last_modified is not None
            found += [listed.key for listed in page.objects]
            if (cursor := page.cursor) is None:
                break
        assert found == sorted(names, key=str.encode)
        assert await keys(storage, "a/") == ["a/", "a//", "a/b"]

    on(face, s3_config(bucket), scenario)


def test_list_with_a_delimiter_shows_beginnings(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        for name in ("top", "a b/1", "a b/2", "caf\u00e9+/x", "z//y"):
            await storage.put(name, b"", PLAIN)
        page = await storage.list("", delimiter="/", cursor=None, limit=10)
        assert [listed.key for listed in page.objects] == ["top"]
        assert page.prefixes == ["a b/", "caf\u00e9+/", "z/"]
        page = await storage.list("z/", delimiter="/", cursor=None, limit=10)
        assert (page.objects, page.prefixes) == ([], ["z//"])
        first = await storage.list("", delimiter="/", cursor=None, limit=1)
        assert (first.prefixes, first.cursor is not None) == (["a b/"], True)
        second = await storage.list("", delimiter="/", cursor=first.cursor, limit=1)
        assert second.prefixes == ["caf\u00e9+/"]

    on(face, s3_config(bucket), scenario)


def test_list_refuses_a_cursor_of_another_listing(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        for name in ("a/1", "a/2", "b/1"):
            await storage.put(name, b"", PLAIN)
        cursor = (await storage.list("a/", delimiter=None, cursor=None, limit=1)).cursor
        assert cursor is not None
        for wrong in (
            storage.list("b/", delimiter=None, cursor=cursor, limit=1),
            storage.list("a/", delimiter="/", cursor=cursor, limit=1),
            storage.list("a/", delimiter=None, cursor=cursor + "x", limit=1),
            storage.list("a/", delimiter=None, cursor="", limit=1),
            storage.list("a/", delimiter=None, cursor="\u00e9", limit=1),
        ):
            assert (await failure(storage, wrong)).code == "invalid_argument"

    on(face, s3_config(bucket), scenario)


def _send(signed: Presigned, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(  # noqa: S310 - a URL of the test server
        signed.url, data=data, method=signed.method, headers={**signed.headers, **headers}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as reply:
            disposition = reply.headers.get("Content-Disposition") or ""
            return reply.status, reply.read() + disposition.encode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


@pytest.mark.parametrize("key", ["a/\u00e9 +%.txt", "a//b/"])
def test_presign_lets_somebody_else_read_and_write(face: Face, bucket: Endpoint, key: str) -> None:
    async def scenario(storage: S3Storage) -> None:
        put = await storage.presign(key, "PUT", expires_in=60, attributes=FULL)
        assert "X-Amz" not in repr(put)
        assert _send(put, b"body")[0] == 200
        info = await storage.head(key)
        assert (info.content_type, info.metadata) == (FULL.content_type, FULL.metadata)
        assert info.cache_control == FULL.cache_control
        # What was signed for cannot be changed.
        assert _send(put, b"body", **{"Content-Type": "text/html"})[0] == 403
        get = await storage.presign(
            key, "GET", expires_in=60, attributes=Attributes(content_disposition="inline; x")
        )
        assert _send(get) == (200, b"bodyinline; x")
        elsewhere = Presigned("GET", get.url.replace("/a", "/b", 1))
        assert _send(elsewhere)[0] == 403

    on(face, s3_config(bucket), scenario)


def test_ping_says_what_is_wrong(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        await storage.ping()

    on(face, s3_config(bucket), scenario)

    async def refused(storage: S3Storage) -> str:
        return (await failure(storage, storage.ping())).code

    assert on(face, s3_config(bucket).model_copy(update={"bucket": "nope"}), refused) == (
        "config_invalid"
    )


def test_a_missing_bucket_is_a_matter_of_configuration(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        for call in (
            storage.get("k"),
            storage.get("k/"),
            storage.put("k", b"x", PLAIN),
            storage.put("k", b"x", PLAIN, if_none_match=True),
            storage.put("k", b"x", PLAIN, if_match="0" * 32),
            storage.list("", delimiter=None, cursor=None, limit=1),
        ):
            error = await failure(storage, call)
            assert error.code == "config_invalid"
            assert "'no-such-bucket'" in str(error)

    on(face, s3_config(bucket).model_copy(update={"bucket": "no-such-bucket"}), scenario)


def test_what_the_service_lacks_is_never_asked(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        assert storage.capabilities == frozenset()
        for call in (
            storage.put("k", b"x", PLAIN, if_none_match=True),
            storage.put("k", b"x", PLAIN, if_match="0"),
            storage.complete_multipart("k", "u", [], if_none_match=True),
            storage.delete("k", if_match="0"),
            storage.copy("k", "l", PLAIN, etag="0", if_none_match=True),
            storage.presign("k", "GET", expires_in=1, attributes=PLAIN),
        ):
            error = await failure(storage, call)
            assert (error.code, error.not_sent) == ("unsupported", True)

    on(face, s3_config(bucket, lacks=frozenset(StorageCapability)), scenario)


def test_after_close_nothing_is_opened_again(face: Face, bucket: Endpoint) -> None:
    async def scenario(storage: S3Storage) -> None:
        await storage.put("k", b"x", PLAIN)
        await storage.put("k/", b"x", PLAIN)
        await storage.close()
        for call in (
            storage.put("k", b"x", PLAIN),
            storage.get("k/"),
            storage.list("", delimiter=None, cursor=None, limit=1),
            storage.presign("k", "GET", expires_in=1, attributes=PLAIN),
        ):
            error = await failure(storage, call)
            assert (error.code, error.not_sent) == ("unavailable", True)
            assert "closed" in str(error)
        with pytest.raises(UnavailableError, match="closed"):
            storage.native()

    on(face, s3_config(bucket), scenario)


def test_a_client_that_is_made_while_the_platform_closes_is_closed(
    face: Face, bucket: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    async def scenario(storage: S3Storage) -> None:
        def slow(session: Any, connection: Connection) -> Any:
            client = new_client(session, connection)
            monkeypatch.setattr(client, "close", lambda: closed.append("client"))
            drive(storage.close())
            return client

        monkeypatch.setattr("cm_platform.storage.s3.complete.new_client", slow)
        error = await failure(storage, storage.head("k/"))
        assert (error.code, error.not_sent) == ("unavailable", True)
        assert closed == ["client"]
        assert storage._complete._client is None

    on(face, s3_config(bucket), scenario)
