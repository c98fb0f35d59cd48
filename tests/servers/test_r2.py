"""What R2Server refuses and what it has of its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import obstore
import pytest
from botocore.exceptions import ClientError

from cm_platform.testing.servers import Endpoint

from .clients import code_of, obstore_client
from .conftest import Connect

MIB = 1 << 20
REFUSED = (501, "NotImplemented")


def with_headers(client: Any, operation: str, headers: dict[str, str]) -> None:
    """Send more headers with one operation of this client; they are signed."""

    def add(request: Any, **_: object) -> None:
        for name, value in headers.items():
            request.headers[name] = value

    client.meta.events.register(f"before-sign.s3.{operation}", add)


@pytest.mark.parametrize("region", ["auto", "us-east-1"])
def test_the_region_is_auto_or_its_alias(r2: Endpoint, connect: Connect, region: str) -> None:
    connect(replace(r2, region=region)).put_object(Bucket=r2.bucket, Key="a", Body=b"1")


def test_another_region_is_refused(r2: Endpoint, connect: Connect) -> None:
    client = connect(replace(r2, region="eu-west-1"))
    assert code_of(lambda: client.list_objects_v2(Bucket=r2.bucket)) == (400, "InvalidRegionName")


def test_the_checksums_that_new_sdks_send_by_default_are_refused(
    r2: Endpoint, connect: Connect
) -> None:
    client = connect(r2, request_checksum_calculation="when_supported")
    assert code_of(lambda: client.put_object(Bucket=r2.bucket, Key="a", Body=b"1")) == REFUSED
    upload: Any = {"Bucket": r2.bucket, "Key": "a"}
    upload["UploadId"] = connect(r2).create_multipart_upload(**upload)["UploadId"]
    assert code_of(lambda: client.upload_part(**upload, PartNumber=1, Body=b"1")) == REFUSED


def test_a_trailer_is_refused(r2: Endpoint, connect: Connect) -> None:
    client = connect(r2)
    with_headers(client, "PutObject", {"x-amz-trailer": "x-amz-checksum-sha256"})
    assert code_of(lambda: client.put_object(Bucket=r2.bucket, Key="a", Body=b"1")) == REFUSED


def test_an_explicit_sha256_is_checked(r2: Endpoint, connect: Connect) -> None:
    client = connect(r2)
    right = "a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s="
    client.put_object(Bucket=r2.bucket, Key="a", Body=b"1", ChecksumSHA256=right)
    wrong = code_of(
        lambda: client.put_object(Bucket=r2.bucket, Key="a", Body=b"2", ChecksumSHA256=right)
    )
    assert wrong == (400, "BadDigest")


def test_delete_many_works_with_the_checksum_that_boto3_adds(
    r2: Endpoint, connect: Connect
) -> None:
    client = connect(r2)
    client.put_object(Bucket=r2.bucket, Key="a", Body=b"1")
    client.delete_objects(Bucket=r2.bucket, Delete={"Objects": [{"Key": "a"}]})
    assert client.list_objects_v2(Bucket=r2.bucket)["KeyCount"] == 0


@pytest.mark.parametrize(
    ("sizes", "code"),
    [
        ((5 * MIB, 5 * MIB, 1), None),
        ((6 * MIB, 6 * MIB, 6 * MIB), None),
        ((6 * MIB, 5 * MIB, 1), "InvalidPart"),
        ((5 * MIB, 6 * MIB), "InvalidPart"),
        ((5 * MIB - 1, 5 * MIB - 1, 1), "EntityTooSmall"),
    ],
)
def test_parts_must_be_equal_but_for_the_last(
    r2: Endpoint, connect: Connect, sizes: tuple[int, ...], code: str | None
) -> None:
    client = connect(r2)
    upload: Any = {"Bucket": r2.bucket, "Key": "m"}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    parts: Any = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(**upload, PartNumber=number, Body=bytes(size))["ETag"],
        }
        for number, size in enumerate(sizes, 1)
    ]

    def complete() -> object:
        return client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    if code is None:
        complete()
        head = client.head_object(Bucket=r2.bucket, Key="m")
        assert head["ContentLength"] == sum(sizes)
    else:
        assert code_of(complete) == (400, code)


def test_features_that_r2_does_not_have(r2: Endpoint, connect: Connect) -> None:
    client, bucket = connect(r2), r2.bucket
    client.put_object(Bucket=bucket, Key="a", Body=b"1")
    target: Any = {"Bucket": bucket, "Key": "a"}
    calls = [
        lambda: client.put_object(**target, ACL="private"),
        lambda: client.put_object(**target, Tagging="a=b"),
        lambda: client.put_object(**target, ObjectLockLegalHoldStatus="ON"),
        lambda: client.put_object(**target, WebsiteRedirectLocation="/b"),
        lambda: client.create_multipart_upload(**target, Tagging="a=b"),
        lambda: client.get_object(**target, RequestPayer="requester"),
        lambda: client.get_object(**target, VersionId="1"),
        lambda: client.get_object_acl(**target),
        lambda: client.get_object_tagging(**target),
        lambda: client.list_object_versions(Bucket=bucket),
        lambda: client.get_bucket_versioning(Bucket=bucket),
        lambda: client.get_bucket_acl(Bucket=bucket),
        lambda: client.get_bucket_policy(Bucket=bucket),
        lambda: client.get_bucket_website(Bucket=bucket),
        lambda: client.get_object_lock_configuration(Bucket=bucket),
        lambda: client.delete_object(**target, IfMatch="*"),
        lambda: client.copy_object(
            Bucket=bucket, Key="b", CopySource=f"{bucket}/a", IfNoneMatch="*"
        ),
    ]
    assert [code_of(call) for call in calls] == [REFUSED] * len(calls)
    assert client.get_object(**target)["Body"].read() == b"1"


def test_r2_has_two_storage_classes(r2: Endpoint, connect: Connect) -> None:
    client, bucket = connect(r2), r2.bucket
    client.put_object(Bucket=bucket, Key="a", Body=b"1", StorageClass="STANDARD_IA")
    assert client.head_object(Bucket=bucket, Key="a").get("StorageClass") == "STANDARD_IA"
    client.put_object(Bucket=bucket, Key="a", Body=b"1", StorageClass="STANDARD")
    assert "StorageClass" not in client.head_object(Bucket=bucket, Key="a")
    refused = code_of(
        lambda: client.put_object(Bucket=bucket, Key="a", Body=b"2", StorageClass="ONEZONE_IA")
    )
    assert refused == (400, "InvalidStorageClass")


def test_conditions_on_put_and_multipart(r2: Endpoint, connect: Connect) -> None:
    client, bucket = connect(r2), r2.bucket
    etag = client.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")["ETag"]
    failed = (412, "PreconditionFailed")
    assert code_of(lambda: client.put_object(Bucket=bucket, Key="a", IfNoneMatch="*")) == failed
    assert code_of(lambda: client.put_object(Bucket=bucket, Key="b", IfMatch=etag)) == failed
    conditional = connect(r2)
    with_headers(conditional, "CreateMultipartUpload", {"If-None-Match": "*"})
    create = conditional.create_multipart_upload
    assert code_of(lambda: create(Bucket=bucket, Key="a")) == failed
    upload: Any = {"Bucket": bucket, "Key": "new"}
    upload["UploadId"] = create(**upload)["UploadId"]
    part = client.upload_part(**upload, PartNumber=1, Body=b"1")["ETag"]
    client.put_object(Bucket=bucket, Key="new", Body=b"first")
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    complete = client.complete_multipart_upload
    assert code_of(lambda: complete(**upload, MultipartUpload=parts, IfNoneMatch="*")) == failed
    complete(**upload, MultipartUpload=parts, IfMatch="*")


def test_16_copies_at_once_have_one_winner(r2: Endpoint, connect: Connect) -> None:
    client, bucket = connect(r2), r2.bucket
    client.put_object(Bucket=bucket, Key="source", Body=b"1")
    with_headers(client, "CopyObject", {"cf-copy-destination-if-none-match": "*"})
    start = threading.Barrier(16)

    def copy(_: int) -> bool:
        start.wait()
        try:
            client.copy_object(Bucket=bucket, Key="target", CopySource=f"{bucket}/source")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed"
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(copy, range(16))) == 1


def test_copy_only_over_the_expected_etag(r2: Endpoint, connect: Connect) -> None:
    client, bucket = connect(r2), r2.bucket
    client.put_object(Bucket=bucket, Key="source", Body=b"new")
    etag = client.put_object(Bucket=bucket, Key="target", Body=b"old")["ETag"]
    with_headers(client, "CopyObject", {"cf-copy-destination-if-match": etag})
    client.copy_object(Bucket=bucket, Key="target", CopySource=f"{bucket}/source")
    again = code_of(
        lambda: client.copy_object(Bucket=bucket, Key="target", CopySource=f"{bucket}/source")
    )
    assert again == (412, "PreconditionFailed")


def test_limits_of_keys_and_metadata(r2: Endpoint, connect: Connect) -> None:
    client, bucket = connect(r2), r2.bucket
    client.put_object(Bucket=bucket, Key="k" * 1024, Metadata={"a": "x" * 8191})
    too_large = code_of(
        lambda: client.put_object(Bucket=bucket, Key="a", Metadata={"a": "x" * 8192})
    )
    assert too_large == (400, "MetadataTooLarge")
    assert code_of(lambda: client.put_object(Bucket=bucket, Key="k" * 1025))[1] == "KeyTooLongError"


def test_obstore_writes_reads_and_copies_if_absent(r2: Endpoint) -> None:
    store = obstore_client(
        r2, copy_if_not_exists="header-with-status: cf-copy-destination-if-none-match: *: 412"
    )
    obstore.put(store, "big", bytes(12 * MIB), use_multipart=True, chunk_size=5 * MIB)
    assert obstore.head(store, "big")["size"] == 12 * MIB
    obstore.copy(store, "big", "copy", overwrite=False)
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.copy(store, "big", "copy", overwrite=False)
