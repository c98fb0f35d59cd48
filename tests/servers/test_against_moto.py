"""S3Server against moto, an S3 of other authors: the same calls must give the same answers.

Only what moto does right is compared; where it differs from Amazon S3 the other tests decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from cm_platform.testing.servers import Endpoint

from .conftest import Connect

_VOLATILE = ("ResponseMetadata", "LastModified", "UploadId", "Location", "VersionId", "Initiated")


def answer(call: Callable[[], Any]) -> Any:
    """The reply without what must differ: times, ids and transport."""
    try:
        reply = call()
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return _stable(reply)


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return [_stable(item) for item in value]
    return value.read() if hasattr(value, "read") else value


def script(client: Any, bucket: str) -> list[Any]:
    """What an application does with a bucket."""
    told: list[Any] = []

    def do(operation: str, *fields: str, **arguments: Any) -> None:
        reply = answer(lambda: getattr(client, operation)(Bucket=bucket, **arguments))
        if isinstance(reply, dict) and fields:
            reply = {name: reply.get(name) for name in fields}
        told.append((operation, arguments, reply))

    for key in ("a", "dir/x", "dir/y z", "dir/sub/\N{GRINNING FACE}", "e"):
        do("put_object", "ETag", Key=key, Body=key.encode(), Metadata={"k": key[:1]})
    known = ("Body", "ETag", "ContentLength", "Metadata", "ContentType", "ContentRange")
    do("get_object", *known, Key="dir/y z")
    do("get_object", *known, Key="a", Range="bytes=0-0")
    do("head_object", *known, Key="e")
    for operation in ("get_object", "head_object", "delete_object"):
        do(operation, Key="none")
    listed = ("CommonPrefixes", "IsTruncated", "KeyCount")
    for prefix, delimiter in (("", ""), ("", "/"), ("dir/", "/"), ("none", "")):
        reply = _stable(client.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter=delimiter))
        contents = [(item["Key"], item["Size"], item["ETag"]) for item in reply.get("Contents", [])]
        told.append((contents, [reply.get(name) for name in listed]))
    etag = client.head_object(Bucket=bucket, Key="a")["ETag"]
    do("put_object", "ETag", Key="a", Body=b"new", IfMatch=etag)
    do("put_object", "ETag", Key="a", Body=b"no", IfMatch=etag)
    do("put_object", "ETag", Key="a", Body=b"no", IfNoneMatch="*")
    do("put_object", "ETag", Key="none", Body=b"no", IfMatch=etag)
    told.append(
        client.copy_object(Bucket=bucket, Key="c", CopySource=f"{bucket}/a")["CopyObjectResult"][
            "ETag"
        ]
    )
    do("get_object", *known, Key="c")
    upload = client.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(
                Bucket=bucket, Key="m", UploadId=upload, PartNumber=number, Body=bytes(size)
            )["ETag"],
        }
        for number, size in ((1, 5 << 20), (2, 3))
    ]
    told.append(
        answer(
            lambda: client.complete_multipart_upload(
                Bucket=bucket, Key="m", UploadId=upload, MultipartUpload={"Parts": parts}
            )["ETag"]
        )
    )
    do("head_object", "ContentLength", "ETag", Key="m")
    told.append(
        answer(
            lambda: client.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "none"}]}
            )["Deleted"]
        )
    )
    return told


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_same_calls_give_the_same_answers(s3: Endpoint, connect: Connect) -> None:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        theirs = connect(replace(s3, url=f"http://{host}:{port}"))
        theirs.create_bucket(Bucket=s3.bucket)
        expected = script(theirs, s3.bucket)
    finally:
        moto.stop()
    assert script(connect(s3), s3.bucket) == expected
