"""What S3Server promises: exact keys, atomic conditions, S3's limits and refusals."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import obstore
import pytest
from botocore.exceptions import ClientError

from cm_platform.testing.servers import Endpoint, S3Server

from .clients import AWKWARD_KEYS, code_of, obstore_client
from .conftest import Connect

MIB = 1 << 20


def test_keys_are_stored_listed_copied_and_deleted_exactly(s3: Endpoint, connect: Connect) -> None:
    client, bucket = connect(s3), s3.bucket
    for key in AWKWARD_KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    listed = [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(AWKWARD_KEYS, key=str.encode)
    for key in AWKWARD_KEYS:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
        source: Any = {"Bucket": bucket, "Key": key}
        client.copy_object(Bucket=bucket, Key="copy", CopySource=source)
        assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == key.encode()
    doomed: Any = [{"Key": key} for key in AWKWARD_KEYS]
    deleted = client.delete_objects(Bucket=bucket, Delete={"Objects": doomed})["Deleted"]
    assert [item["Key"] for item in deleted] == AWKWARD_KEYS
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_pages_and_common_prefixes_are_complete_at_any_page_size(
    s3: Endpoint, connect: Connect
) -> None:
    client = connect(s3)
    keys = ["a", "a/", "a/1", "a/2/x", "a/2/y", "a0", "b/1", "b/2", "c"]
    for key in keys:
        client.put_object(Bucket=s3.bucket, Key=key)

    def listed(prefix: str, delimiter: str, size: int) -> tuple[list[str], list[str]]:
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=s3.bucket,
            Prefix=prefix,
            Delimiter=delimiter,
            PaginationConfig={"PageSize": size},
        )
        found: list[str] = []
        prefixes: list[str] = []
        for page in pages:
            found += [item["Key"] for item in page.get("Contents", [])]
            prefixes += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        return found, prefixes

    for size in (1, 2, 3, 1000):
        assert listed("", "", size) == (keys, [])
        assert listed("", "/", size) == (["a", "a0", "c"], ["a/", "b/"])
        assert listed("a/", "/", size) == (["a/", "a/1"], ["a/2/"])
    after = client.list_objects_v2(Bucket=s3.bucket, StartAfter="a/2/x")
    assert [item["Key"] for item in after["Contents"]] == keys[4:]
    refused = code_of(lambda: client.list_objects_v2(Bucket=s3.bucket, ContinuationToken="x"))
    assert refused == (400, "InvalidArgument")


@pytest.mark.parametrize("attempt", range(3))
def test_16_creators_at_once_have_one_winner(s3: Endpoint, connect: Connect, attempt: int) -> None:
    client = connect(s3)
    start = threading.Barrier(16)

    def create(number: int) -> int | None:
        start.wait()
        try:
            client.put_object(
                Bucket=s3.bucket, Key="one", Body=str(number).encode(), IfNoneMatch="*"
            )
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed"
            return None
        return number

    with ThreadPoolExecutor(16) as pool:
        winners = [number for number in pool.map(create, range(16)) if number is not None]
    assert len(winners) == 1
    body = client.get_object(Bucket=s3.bucket, Key="one")["Body"].read()
    assert body == str(winners[0]).encode()


def test_conditional_writes_deletes_and_copies(s3: Endpoint, connect: Connect) -> None:
    client, bucket = connect(s3), s3.bucket
    etag = client.put_object(Bucket=bucket, Key="a", Body=b"1")["ETag"]
    failed = (412, "PreconditionFailed")
    put, delete, copy = client.put_object, client.delete_object, client.copy_object
    source: Any = {"Bucket": bucket, "Key": "a"}
    put(Bucket=bucket, Key="taken", Body=b"1")
    assert code_of(lambda: put(Bucket=bucket, Key="a", IfNoneMatch="*")) == failed
    assert code_of(lambda: put(Bucket=bucket, Key="a", IfMatch='"0"')) == failed
    assert code_of(lambda: put(Bucket=bucket, Key="b", IfMatch=etag)) == (404, "NoSuchKey")
    assert code_of(lambda: delete(Bucket=bucket, Key="a", IfMatch='"0"')) == failed
    assert (
        code_of(lambda: copy(Bucket=bucket, Key="taken", CopySource=source, IfNoneMatch="*"))[0]
        == 412
    )
    assert (
        code_of(lambda: copy(Bucket=bucket, Key="b", CopySource=source, CopySourceIfMatch='"0"'))
        == failed
    )
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"
    put(Bucket=bucket, Key="a", Body=b"2", IfMatch=etag)
    copy(Bucket=bucket, Key="b", CopySource=source, IfNoneMatch="*")
    delete(Bucket=bucket, Key="b", IfMatch=client.head_object(Bucket=bucket, Key="b")["ETag"])
    assert code_of(lambda: client.head_object(Bucket=bucket, Key="b")) == (404, "404")


def test_obstore_sees_the_same_conditions(s3: Endpoint) -> None:
    store = obstore_client(s3)
    etag = obstore.put(store, "a", b"1", mode="create")["e_tag"]
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "a", b"2", mode="create")
    obstore.put(store, "a", b"2", mode={"e_tag": etag})
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.put(store, "a", b"3", mode={"e_tag": etag})
    assert [item["path"] for item in obstore.list(store).collect()] == ["a"]


def test_conditional_reads_and_ranges(s3: Endpoint, connect: Connect) -> None:
    client, bucket = connect(s3), s3.bucket
    etag = client.put_object(Bucket=bucket, Key="a", Body=b"0123456789")["ETag"]
    get = client.get_object
    assert code_of(lambda: get(Bucket=bucket, Key="a", IfNoneMatch=etag))[0] == 304
    assert code_of(lambda: get(Bucket=bucket, Key="a", IfMatch='"0"'))[0] == 412
    later = datetime.now(UTC) + timedelta(hours=1)
    assert code_of(lambda: get(Bucket=bucket, Key="a", IfModifiedSince=later))[0] == 304
    spans = {"bytes=2-4": b"234", "bytes=7-": b"789", "bytes=-3": b"789", "bytes=8-99": b"89"}
    for span, expected in spans.items():
        reply = get(Bucket=bucket, Key="a", Range=span)
        assert reply["Body"].read() == expected
        assert reply["ContentRange"].endswith("/10")
    assert code_of(lambda: get(Bucket=bucket, Key="a", Range="bytes=10-")) == (416, "InvalidRange")


def test_headers_and_metadata_come_back(s3: Endpoint, connect: Connect) -> None:
    client, bucket = connect(s3), s3.bucket
    client.put_object(
        Bucket=bucket,
        Key="a",
        Body=b"1",
        ContentType="application/x-www-form-urlencoded",
        CacheControl="no-cache",
        ContentDisposition="inline",
        ContentEncoding="gzip",
        Metadata={"revision": "7"},
    )
    source: Any = {"Bucket": bucket, "Key": "a"}
    client.copy_object(Bucket=bucket, Key="b", CopySource=source)
    for key in ("a", "b"):
        head = client.head_object(Bucket=bucket, Key=key)
        assert head["Metadata"] == {"revision": "7"}
        assert head["ContentType"] == "application/x-www-form-urlencoded"
        assert (head["CacheControl"], head["ContentDisposition"]) == ("no-cache", "inline")
        assert (head["ContentEncoding"], head["ContentLength"]) == ("gzip", 1)
    client.copy_object(
        Bucket=bucket, Key="a", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "1"}
    )
    assert client.head_object(Bucket=bucket, Key="a")["Metadata"] == {"n": "1"}


PROPERTIES: Any = {
    "StorageClass": "STANDARD_IA",
    "WebsiteRedirectLocation": "/elsewhere",
    "Tagging": "a=b&c=d%20e",
    "Expires": datetime(2030, 1, 1, tzinfo=UTC),
}
TOLD = (*("StorageClass", "WebsiteRedirectLocation", "TagCount", "ExpiresString"), "ContentType")


def told(client: Any, bucket: str, key: str) -> list[Any]:
    head = client.head_object(Bucket=bucket, Key=key)
    found = client.get_object(Bucket=bucket, Key=key)
    found["Body"].close()
    assert [found.get(name) for name in TOLD] == [head.get(name) for name in TOLD]
    return [head.get(name) for name in TOLD]


def test_properties_are_told_and_only_those_that_there_are(s3: Endpoint, connect: Connect) -> None:
    client, bucket = connect(s3), s3.bucket
    expires = "Tue, 01 Jan 2030 00:00:00 GMT"
    client.put_object(Bucket=bucket, Key="a", Body=b"1", ContentType="x/y", **PROPERTIES)
    assert told(client, bucket, "a") == ["STANDARD_IA", "/elsewhere", 2, expires, "x/y"]
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [item.get("StorageClass") for item in listed] == ["STANDARD_IA"]
    upload = client.create_multipart_upload(Bucket=bucket, Key="m", **PROPERTIES)["UploadId"]
    target: Any = {"Bucket": bucket, "Key": "m", "UploadId": upload}
    etag = client.upload_part(**target, PartNumber=1, Body=b"1")["ETag"]
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    client.complete_multipart_upload(**target, MultipartUpload=parts)
    assert told(client, bucket, "m")[:4] == ["STANDARD_IA", "/elsewhere", 2, expires]
    # A copy has its source's tags; all else it has is its own.
    source = f"{bucket}/a"
    client.copy_object(Bucket=bucket, Key="b", CopySource=source)
    assert told(client, bucket, "b") == [None, None, 2, expires, "x/y"]
    client.copy_object(
        Bucket=bucket,
        Key="b",
        CopySource=source,
        MetadataDirective="REPLACE",
        StorageClass="ONEZONE_IA",
        WebsiteRedirectLocation="https://example.com/",
    )
    assert told(client, bucket, "b")[:4] == ["ONEZONE_IA", "https://example.com/", 2, None]
    client.put_object(Bucket=bucket, Key="a", Body=b"1", StorageClass="STANDARD")
    assert told(client, bucket, "a")[:4] == [None, None, None, None]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"StorageClass": "GOLD"}, "InvalidStorageClass"),
        ({"WebsiteRedirectLocation": "elsewhere"}, "InvalidRedirectLocation"),
        ({"WebsiteRedirectLocation": "/" + "x" * 2048}, "InvalidRedirectLocation"),
        ({"Tagging": "a=1&a=2"}, "InvalidTag"),
        ({"Tagging": "=1"}, "InvalidTag"),
        ({"Tagging": "aws:a=1"}, "InvalidTag"),
        ({"Tagging": "a=" + "x" * 257}, "InvalidTag"),
        ({"Tagging": "&".join(f"t{number}=" for number in range(11))}, "BadRequest"),
    ],
)
def test_properties_that_s3_refuses(
    s3: Endpoint, connect: Connect, given: dict[str, Any], code: str
) -> None:
    client = connect(s3)
    refused = code_of(lambda: client.put_object(Bucket=s3.bucket, Key="a", Body=b"1", **given))
    assert refused == (400, code)
    assert client.list_objects_v2(Bucket=s3.bucket)["KeyCount"] == 0


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_archived_object_can_be_described_and_not_read(
    s3: Endpoint, connect: Connect, storage_class: Any
) -> None:
    client, bucket = connect(s3), s3.bucket
    client.put_object(Bucket=bucket, Key="a", Body=b"1", StorageClass=storage_class)
    assert client.head_object(Bucket=bucket, Key="a").get("StorageClass") == storage_class
    upload = client.create_multipart_upload(Bucket=bucket, Key="b")["UploadId"]
    part: Any = {"Bucket": bucket, "Key": "b", "UploadId": upload, "PartNumber": 1}
    source = f"{bucket}/a"
    for refused in (
        lambda: client.get_object(Bucket=bucket, Key="a"),
        lambda: client.copy_object(Bucket=bucket, Key="b", CopySource=source),
        lambda: client.upload_part_copy(**part, CopySource=source),
    ):
        assert code_of(refused) == (403, "InvalidObjectState")
    client.delete_object(Bucket=bucket, Key="a")
    assert code_of(lambda: client.get_object(Bucket=bucket, Key="a"))[0] == 404


def test_limits_of_keys_and_metadata(s3: Endpoint, connect: Connect) -> None:
    client, bucket = connect(s3), s3.bucket
    put = client.put_object
    assert code_of(lambda: put(Bucket=bucket, Key="\u00e9" * 513)) == (400, "KeyTooLongError")
    put(Bucket=bucket, Key="\u00e9" * 512, Metadata={"a": "x" * 2047})
    refused = code_of(lambda: put(Bucket=bucket, Key="a", Metadata={"a": "x" * 2048}))
    assert refused == (400, "MetadataTooLarge")


def test_a_digest_that_is_wrong_stores_nothing(s3: Endpoint, connect: Connect) -> None:
    client, bucket = connect(s3), s3.bucket
    md5 = base64.b64encode(bytes(16)).decode()
    sha = base64.b64encode(bytes(32)).decode()
    put = client.put_object
    assert code_of(lambda: put(Bucket=bucket, Key="a", Body=b"1", ContentMD5=md5))[1] == "BadDigest"
    assert (
        code_of(lambda: put(Bucket=bucket, Key="a", Body=b"1", ChecksumSHA256=sha))[1]
        == "BadDigest"
    )
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_the_checksums_that_new_sdks_send_by_default_are_understood(
    s3: Endpoint, connect: Connect
) -> None:
    defaults = {"request_checksum_calculation": "when_supported"}
    client = connect(s3, **defaults, response_checksum_validation="when_supported")
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"data", ChecksumAlgorithm="SHA256")
    head = client.head_object(Bucket=s3.bucket, Key="a", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    assert client.get_object(Bucket=s3.bucket, Key="a")["Body"].read() == b"data"


def test_multipart_upload_of_64_mib_is_quick_and_exact(s3: Endpoint, connect: Connect) -> None:
    client, bucket = connect(s3), s3.bucket
    parts = [bytes([number]) * (8 * MIB) for number in range(8)]
    started = time.monotonic()
    upload = client.create_multipart_upload(Bucket=bucket, Key="big", Metadata={"a": "b"})
    upload_id = upload["UploadId"]
    done: Any = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(
                Bucket=bucket, Key="big", UploadId=upload_id, PartNumber=number, Body=part
            )["ETag"],
        }
        for number, part in enumerate(parts, 1)
    ]
    told = client.list_parts(Bucket=bucket, Key="big", UploadId=upload_id, MaxParts=3)
    assert (len(told["Parts"]), told["IsTruncated"]) == (3, True)
    pending = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [item["UploadId"] for item in pending] == [upload_id]
    client.complete_multipart_upload(
        Bucket=bucket, Key="big", UploadId=upload_id, MultipartUpload={"Parts": done}
    )
    body = client.get_object(Bucket=bucket, Key="big")["Body"].read()
    assert time.monotonic() - started < 10
    assert body == b"".join(parts)
    head = client.head_object(Bucket=bucket, Key="big")
    assert (head["Metadata"], head["ETag"].endswith('-8"')) == ({"a": "b"}, True)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_multipart_uploads_that_are_refused(s3: Endpoint, connect: Connect) -> None:
    client, bucket = connect(s3), s3.bucket
    target: Any = {"Bucket": bucket, "Key": "m"}
    target["UploadId"] = client.create_multipart_upload(**target)["UploadId"]
    tags = [
        client.upload_part(**target, PartNumber=number, Body=b"small")["ETag"] for number in (1, 2)
    ]

    def complete(*chosen: tuple[int, str], **more: Any) -> Any:
        parts: Any = [{"PartNumber": number, "ETag": tag} for number, tag in chosen]
        return client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, **more)

    assert code_of(lambda: complete((1, tags[0]), (2, tags[1])))[1] == "EntityTooSmall"
    assert code_of(lambda: complete((2, tags[1]), (1, tags[0])))[1] == "InvalidPartOrder"
    assert code_of(lambda: complete((1, '"0"')))[1] == "InvalidPart"
    assert code_of(lambda: complete((3, tags[0])))[1] == "InvalidPart"
    too_high = code_of(lambda: client.upload_part(**target, PartNumber=10_001, Body=b"1"))
    assert too_high == (400, "InvalidArgument")
    client.put_object(Bucket=bucket, Key="m", Body=b"1")
    assert code_of(lambda: complete((1, tags[0]), IfNoneMatch="*"))[0] == 412
    client.abort_multipart_upload(**target)
    assert code_of(lambda: complete((1, tags[0])))[1] == "NoSuchUpload"


def test_features_that_are_not_there_are_refused_and_change_nothing(
    s3: Endpoint, connect: Connect
) -> None:
    client, bucket = connect(s3), s3.bucket
    client.put_object(Bucket=bucket, Key="a", Body=b"1")
    refusals = [
        lambda: client.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": []}),
        lambda: client.put_object(Bucket=bucket, Key="a", Body=b"2", ACL="public-read"),
        lambda: client.put_object(
            Bucket=bucket, Key="a", Body=b"2", ObjectLockLegalHoldStatus="ON"
        ),
        lambda: client.copy_object(
            Bucket=bucket, Key="a", CopySource=f"{bucket}/a", TaggingDirective="REPLACE"
        ),
        lambda: client.delete_object(Bucket=bucket, Key="a", VersionId="1"),
        lambda: client.get_bucket_policy(Bucket=bucket),
    ]
    for refused in refusals:
        assert code_of(refused) == (501, "NotImplemented")
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"


def test_buckets(s3_server: S3Server, connect: Connect) -> None:
    endpoint = s3_server.new_bucket(1)
    client = connect(endpoint)
    client.put_object(Bucket=endpoint.bucket, Key="a")
    assert code_of(lambda: client.delete_bucket(Bucket=endpoint.bucket))[1] == "BucketNotEmpty"
    client.delete_object(Bucket=endpoint.bucket, Key="a")
    client.delete_bucket(Bucket=endpoint.bucket)
    assert code_of(lambda: client.head_bucket(Bucket=endpoint.bucket))[0] == 404
    assert code_of(lambda: client.create_bucket(Bucket="UPPER"))[1] == "InvalidBucketName"


def test_one_connection_serves_many_requests(s3: Endpoint) -> None:
    parts = urlsplit(s3.url)
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=5) as connection:
        replies = connection.makefile("rb")
        for _ in range(3):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert replies.readline() == b"HTTP/1.1 403 Forbidden\r\n"
            length = 0
            while (line := replies.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert b"AccessDenied" in replies.read(length)
        replies.close()


def test_an_upload_that_breaks_off_stores_nothing(s3: Endpoint, connect: Connect) -> None:
    client = connect(s3)
    url = client.generate_presigned_url("put_object", Params={"Bucket": s3.bucket, "Key": "half"})
    parts = urlsplit(url)
    target = url.removeprefix(s3.url)
    head = f"PUT {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=5) as connection:
        connection.sendall(head.encode() + b"only half")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert client.list_objects_v2(Bucket=s3.bucket)["KeyCount"] == 0
