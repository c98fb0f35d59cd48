"""SwiftServer: a real Swift answers, keeps accounts apart, and leaves nothing behind."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
import pytest

from cm_platform.testing.servers import SwiftServer
from cm_platform.testing.servers.swift import require_xattr

from .clients import code_of, obstore_client, send
from .conftest import Connect


def test_objects_listings_and_multipart(swift_server: SwiftServer, connect: Connect) -> None:
    endpoint = swift_server.new_bucket()
    client, bucket = connect(endpoint), endpoint.bucket
    for key in ("a//b", "folder/", "caf\u00e9 +%23"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"k": "v"})
        reply = client.get_object(Bucket=bucket, Key=key)
        assert (reply["Body"].read(), reply["Metadata"]) == (key.encode(), {"k": "v"})
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["Key"] for item in listed] == ["a//b", "caf\u00e9 +%23", "folder/"]
    upload: Any = {"Bucket": bucket, "Key": "m"}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    parts: Any = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(**upload, PartNumber=number, Body=bytes(size))["ETag"],
        }
        for number, size in enumerate((5 << 20, 10), 1)
    ]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert client.head_object(Bucket=bucket, Key="m")["ContentLength"] == (5 << 20) + 10
    store = obstore_client(endpoint)
    assert obstore.head(store, "m")["size"] == (5 << 20) + 10


def test_wrong_secrets_and_tampered_urls_are_403(
    swift_server: SwiftServer, connect: Connect
) -> None:
    endpoint = swift_server.new_bucket()
    client = connect(endpoint)
    client.put_object(Bucket=endpoint.bucket, Key="a", Body=b"1")
    forged = connect(replace(endpoint, secret_access_key="other"))
    assert code_of(lambda: forged.get_object(Bucket=endpoint.bucket, Key="a"))[0] == 403
    url = client.generate_presigned_url(
        "get_object", Params={"Bucket": endpoint.bucket, "Key": "a"}, ExpiresIn=60
    )
    assert send("GET", url) == (200, b"1")
    assert send("GET", url.replace("/a?", "/b?"))[0] == 403


def test_accounts_are_apart(swift_server: SwiftServer, connect: Connect) -> None:
    mine, yours = swift_server.endpoint_for(0), swift_server.endpoint_for(1)
    refused = code_of(lambda: connect(yours).list_objects_v2(Bucket=mine.bucket))
    assert refused in [(403, "AccessDenied"), (404, "NoSuchBucket")]


def test_all_servers_are_members_of_the_process_group_that_is_killed(
    swift_server: SwiftServer,
) -> None:
    members = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and _group(int(path.name)) == swift_server.pid
    ]
    assert len(members) == 5


def test_a_filesystem_without_extended_attributes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(RuntimeError, match="no user extended attributes"):
        require_xattr(tmp_path)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
