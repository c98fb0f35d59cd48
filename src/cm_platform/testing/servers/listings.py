"""The S3 operations that list: buckets, objects, uploads and parts."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from cm_platform.testing.servers import s3_xml
from cm_platform.testing.servers.call import Call, not_implemented
from cm_platform.testing.servers.s3_xml import Node, document, timestamp
from cm_platform.testing.servers.store import Store, list_page
from cm_platform.testing.servers.wire import Response, S3Error


def list_buckets(store: Store, call: Call) -> Response:
    """The account's own buckets."""
    with store.lock:
        mine = sorted(
            (name, bucket.created)
            for name, bucket in store.buckets.items()
            if bucket.owner == call.owner
        )
    entries: list[Node] = [
        ("Bucket", [("Name", name), ("CreationDate", timestamp(created))]) for name, created in mine
    ]
    return document("ListAllMyBucketsResult", [("Buckets", entries)])


def list_objects_v2(store: Store, call: Call) -> Response:
    """One page, continued by token."""
    if call.parameter("list-type") != "2" or call.parameter("fetch-owner") == "true":
        raise not_implemented("This kind of listing is")
    token = call.parameter("continuation-token")
    start = call.parameter("start-after") or ""
    extra: list[Node] = []
    if token is not None:
        extra.append(("ContinuationToken", token))
    elif start:
        extra.append(("StartAfter", _told(call)(start)))
    after = start if token is None else _from_token(token)
    return _listing(store, call, after, extra, version_2=True)


def list_objects(store: Store, call: Call) -> Response:
    """One page, continued by marker (version 1)."""
    marker = call.parameter("marker") or ""
    extra: list[Node] = [("Marker", _told(call)(marker))]
    return _listing(store, call, marker, extra, version_2=False)


def list_parts(store: Store, call: Call) -> Response:
    """The parts of an upload that is under way."""
    limit = call.number("max-parts", 1000, maximum=1000)
    marker = call.number("part-number-marker", 0, maximum=10_000)
    with store.lock:
        known = (
            store.bucket(call.bucket, call.owner)
            .upload(call.parameter("uploadid") or "", call.key)
            .parts
        )
        parts = [(number, known[number]) for number in sorted(known) if number > marker]
    page, rest = parts[:limit], parts[limit:]
    nodes: list[Node] = [
        ("Bucket", call.bucket),
        ("Key", call.key),
        ("UploadId", call.parameter("uploadid") or ""),
        ("PartNumberMarker", str(marker)),
        ("MaxParts", str(limit)),
        ("IsTruncated", str(bool(rest)).lower()),
    ]
    if page:
        nodes.append(("NextPartNumberMarker", str(page[-1][0])))
    for number, part in page:
        nodes.append(
            (
                "Part",
                [
                    ("PartNumber", str(number)),
                    ("LastModified", timestamp(part.modified)),
                    ("ETag", f'"{part.etag}"'),
                    ("Size", str(len(part.body))),
                ],
            )
        )
    return document("ListPartsResult", nodes)


def list_multipart_uploads(store: Store, call: Call) -> Response:
    """The uploads that are under way."""
    told = _told(call)
    prefix = call.parameter("prefix") or ""
    after = (call.parameter("key-marker") or "", call.parameter("upload-id-marker") or "")
    limit = call.number("max-uploads", 1000, maximum=1000)
    with store.lock:
        uploads = sorted(
            (upload.key, upload_id, upload.started)
            for upload_id, upload in store.bucket(call.bucket, call.owner).uploads.items()
            if upload.key.startswith(prefix)
        )
    # Without an upload id the marker stands for all uploads of its key.
    remaining = [
        item
        for item in uploads
        if (item[:2] > after if after[1] else item[0] > after[0] or not after[0])
    ]
    page, rest = remaining[:limit], remaining[limit:]
    nodes: list[Node] = [
        ("Bucket", call.bucket),
        ("Prefix", told(prefix)),
        ("MaxUploads", str(limit)),
        ("IsTruncated", str(bool(rest)).lower()),
    ]
    if call.parameter("encoding-type"):
        nodes.append(("EncodingType", "url"))
    if rest and page:
        nodes.append(("NextKeyMarker", told(page[-1][0])))
        nodes.append(("NextUploadIdMarker", page[-1][1]))
    for key, upload_id, started in page:
        nodes.append(
            (
                "Upload",
                [
                    ("Key", told(key)),
                    ("UploadId", upload_id),
                    ("Initiated", timestamp(started)),
                ],
            )
        )
    return document("ListMultipartUploadsResult", nodes)


def _listing(
    store: Store, call: Call, after: str, extra: list[Node], *, version_2: bool
) -> Response:
    told = _told(call)
    prefix, delimiter = call.parameter("prefix") or "", call.parameter("delimiter") or ""
    limit = call.number("max-keys", 1000, maximum=1000)
    with store.lock:
        bucket = store.bucket(call.bucket, call.owner)
        page = list_page(bucket, prefix, delimiter, after, limit)
        found = [(key, bucket.objects[key]) for key in page.keys]
    nodes: list[Node] = [("Name", call.bucket), ("Prefix", told(prefix)), *extra]
    if delimiter:
        nodes.append(("Delimiter", told(delimiter)))
    if call.parameter("encoding-type"):
        nodes.append(("EncodingType", "url"))
    nodes.append(("MaxKeys", str(limit)))
    nodes.append(("IsTruncated", str(page.truncated).lower()))
    if version_2:
        nodes.append(("KeyCount", str(len(page.keys) + len(page.prefixes))))
        if page.truncated:
            nodes.append(("NextContinuationToken", _to_token(page.last)))
    elif page.truncated and delimiter:
        nodes.append(("NextMarker", told(page.last)))
    for key, stored in found:
        nodes.append(
            (
                "Contents",
                [
                    ("Key", told(key)),
                    ("LastModified", timestamp(stored.modified)),
                    ("ETag", f'"{stored.etag}"'),
                    ("Size", str(len(stored.body))),
                    ("StorageClass", stored.properties.storage_class),
                ],
            )
        )
    below: list[Node] = [("CommonPrefixes", [("Prefix", told(item))]) for item in page.prefixes]
    nodes += below
    return document("ListBucketResult", nodes)


def _told(call: Call) -> Callable[[str], str]:
    encoding = call.parameter("encoding-type")
    if encoding not in (None, "", "url"):
        raise S3Error(400, "InvalidArgument", "Invalid Encoding Method specified in Request")
    return s3_xml.url_encoded if encoding == "url" else str


def _to_token(item: str) -> str:
    return base64.urlsafe_b64encode(f"after:{item}".encode()).decode()


def _from_token(token: str) -> str:
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        text = ""
    if not text.startswith("after:"):
        raise S3Error(400, "InvalidArgument", "The continuation token provided is incorrect")
    return text.removeprefix("after:")


LISTINGS: Mapping[str, Callable[[Store, Call], Response]] = {
    "ListBuckets": list_buckets,
    "ListMultipartUploads": list_multipart_uploads,
    "ListObjects": list_objects,
    "ListObjectsV2": list_objects_v2,
    "ListParts": list_parts,
}
