"""The S3 operations of the test servers. A refusal is as the provider words it; see `dialect`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import format_datetime

from cm_platform.testing.servers import conditions, s3_xml
from cm_platform.testing.servers.body import received
from cm_platform.testing.servers.call import (
    RESPONSE_PARAMETERS,
    Call,
    not_implemented,
    take_apart,
)
from cm_platform.testing.servers.dialect import Dialect
from cm_platform.testing.servers.listings import LISTINGS
from cm_platform.testing.servers.properties import properties_of
from cm_platform.testing.servers.s3_xml import Node, document, timestamp
from cm_platform.testing.servers.sigv4 import SignatureVerifier
from cm_platform.testing.servers.store import (
    Bucket,
    Part,
    Store,
    StoredObject,
    Upload,
    assemble,
    md5,
    new_upload_id,
    now,
)
from cm_platform.testing.servers.wire import Headers, Request, Response, S3Error

_ALL_CHECKSUMS = frozenset({"crc32", "sha1", "sha256"})
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class S3Service:
    """Answers S3 requests of the accounts in `secrets` (access key id to secret)."""

    def __init__(self, secrets: Mapping[str, str], dialect: Dialect) -> None:
        self._dialect = dialect
        self._verifier = SignatureVerifier(secrets, streaming=dialect.streaming)
        self._store = Store()

    def __call__(self, request: Request) -> Response:
        """Verify who asks, then do what is asked."""
        signer = self._verifier.verify(request)
        self._dialect.check_region(signer.region)
        call = take_apart(request, signer.access_key_id)
        if call.operation in LISTINGS:
            return LISTINGS[call.operation](self._store, call)
        operation: Callable[[Call], Response] = getattr(self, f"_{_snake(call.operation)}")
        return operation(call)

    # Buckets

    def _create_bucket(self, call: Call) -> Response:
        if not _BUCKET_NAME.fullmatch(call.bucket):
            raise S3Error(400, "InvalidBucketName", "The specified bucket is not valid.")
        location = s3_xml.parse_location(received(call.request, _ALL_CHECKSUMS)[0])
        if location and location not in self._dialect.regions:
            raise S3Error(
                400,
                "InvalidLocationConstraint",
                "The specified location-constraint is not valid",
            )
        with self._store.lock:
            self._store.create(call.bucket, call.owner)
        return Response(200, (("location", f"/{call.bucket}"),))

    def _head_bucket(self, call: Call) -> Response:
        self._bucket(call)
        return Response(200, (("x-amz-bucket-region", self._dialect.region),))

    def _delete_bucket(self, call: Call) -> Response:
        with self._store.lock:
            if self._bucket(call).objects:
                raise S3Error(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
            del self._store.buckets[call.bucket]
        return Response(204)

    def _get_bucket_location(self, call: Call) -> Response:
        self._bucket(call)
        # Amazon's us-east-1 is told as an empty constraint.
        region = "" if self._dialect.region == "us-east-1" else self._dialect.region
        response = document("LocationConstraint", [])
        text = response.body.decode().replace("></Loc", f">{region}</Loc")
        return Response(200, response.headers, text.encode())

    # Objects

    def _put_object(self, call: Call) -> Response:
        body, checksum = received(call.request, self._dialect.upload_checksums)
        stored = StoredObject(
            body,
            md5(body),
            now(),
            call.kept_headers(),
            call.metadata(self._dialect.max_metadata_bytes),
            checksum,
            properties_of(call, self._dialect),
        )
        with self._store.lock:
            bucket = self._bucket(call)
            self._check_write(call, bucket)
            bucket.put(call.key, stored)
        headers = (("etag", f'"{stored.etag}"'), *([checksum] if checksum else ()))
        return Response(200, headers)

    def _get_object(self, call: Call) -> Response:
        return self._read(call, archived=False)

    def _head_object(self, call: Call) -> Response:
        response = self._read(call, archived=True)
        length = ("content-length", str(len(response.body)))
        return Response(response.status, (*response.headers, length))

    def _read(self, call: Call, *, archived: bool) -> Response:
        stored = self._stored(call)
        headers = self._object_headers(call, stored)
        unchanged = conditions.check_read(call.header, stored, headers)
        if unchanged is not None:
            return unchanged
        if not archived:
            stored.properties.check_readable()
        span = _range(call.header("range"), len(stored.body))
        if span is None:
            return Response(200, headers, stored.body)
        first, last = span
        told = (*headers, ("content-range", f"bytes {first}-{last}/{len(stored.body)}"))
        return Response(206, told, stored.body[first : last + 1])

    def _delete_object(self, call: Call) -> Response:
        conditional = conditions.given(call.header)
        if conditional and not self._dialect.conditional_delete:
            raise not_implemented("Conditional DeleteObject is")
        with self._store.lock:
            bucket = self._bucket(call)
            self._check_write(call, bucket)
            bucket.remove(call.key)
        return Response(204)

    def _delete_objects(self, call: Call) -> Response:
        checked = any(
            name == "content-md5" or name.startswith("x-amz-checksum-")
            for name, _ in call.request.headers
        )
        if not checked:
            raise S3Error(
                400, "InvalidRequest", "Missing required header for this request: Content-MD5"
            )
        body, _ = received(call.request, _ALL_CHECKSUMS)
        entries, quiet = s3_xml.parse_delete(body)
        if any(entry.conditional for entry in entries):
            raise not_implemented("Conditional DeleteObjects is")
        with self._store.lock:
            bucket = self._bucket(call)
            for entry in entries:
                bucket.remove(entry.key)
        deleted: list[Node] = [("Deleted", [("Key", entry.key)]) for entry in entries]
        return document("DeleteResult", [] if quiet else deleted)

    def _copy_object(self, call: Call) -> Response:
        source_bucket, source_key = call.copy_source()
        directive = call.header("x-amz-metadata-directive") or "COPY"
        if directive not in ("COPY", "REPLACE"):
            raise S3Error(400, "InvalidArgument", "Unknown metadata directive.")
        if directive == "COPY" and (source_bucket, source_key) == (call.bucket, call.key):
            raise S3Error(
                400,
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself "
                "without changing the object's metadata.",
            )
        if conditions.given(call.header) and self._dialect.copy_condition_prefix:
            raise not_implemented(
                f"CopyObject with If-* instead of {self._dialect.copy_condition_prefix}if-* is"
            )
        if self._dialect.name != "r2" and conditions.given(call.header, "cf-copy-destination-"):
            # Amazon S3 does not know these headers: the copy would be unconditional.
            raise not_implemented("CopyObject with cf-copy-destination-if-* is")
        given = properties_of(call, self._dialect)
        with self._store.lock:
            source = _existing(self._store.bucket(source_bucket, call.owner), source_key)
            conditions.check_source(call.header, source)
            source.properties.check_readable()
            bucket = self._bucket(call)
            self._check_write(call, bucket, prefix=self._dialect.copy_condition_prefix)
            if directive == "REPLACE":
                headers = call.kept_headers()
                metadata = call.metadata(self._dialect.max_metadata_bytes)
            else:
                headers, metadata = source.headers, source.metadata
            # Whatever the directive for metadata says: tags are copied, and nothing else is.
            properties = replace(given, tags=source.properties.tags)
            copied = StoredObject(
                source.body, md5(source.body), now(), headers, metadata, source.checksum, properties
            )
            bucket.put(call.key, copied)
        return _copied("CopyObjectResult", copied)

    # Multipart uploads

    def _create_multipart_upload(self, call: Call) -> Response:
        if conditions.given(call.header) and not self._dialect.conditional_create_multipart:
            raise not_implemented("Conditional CreateMultipartUpload is")
        algorithm = (call.header("x-amz-checksum-algorithm") or "").lower()
        if algorithm and algorithm not in self._dialect.upload_checksums:
            raise not_implemented(f"The checksum algorithm {algorithm} is")
        upload = Upload(
            call.key,
            now(),
            call.kept_headers(),
            call.metadata(self._dialect.max_metadata_bytes),
            properties_of(call, self._dialect),
        )
        upload_id = new_upload_id()
        with self._store.lock:
            bucket = self._bucket(call)
            self._check_write(call, bucket)
            bucket.uploads[upload_id] = upload
        return document(
            "InitiateMultipartUploadResult",
            [("Bucket", call.bucket), ("Key", call.key), ("UploadId", upload_id)],
        )

    def _upload_part(self, call: Call) -> Response:
        number = call.part_number()
        body, checksum = received(call.request, self._dialect.upload_checksums)
        part = Part(body, md5(body), now())
        with self._store.lock:
            self._upload(call).parts[number] = part
        return Response(200, (("etag", f'"{part.etag}"'), *([checksum] if checksum else ())))

    def _upload_part_copy(self, call: Call) -> Response:
        number = call.part_number()
        source_bucket, source_key = call.copy_source()
        with self._store.lock:
            source = _existing(self._store.bucket(source_bucket, call.owner), source_key)
            conditions.check_source(call.header, source)
            source.properties.check_readable()
            span = _range(call.header("x-amz-copy-source-range"), len(source.body))
            body = source.body if span is None else source.body[span[0] : span[1] + 1]
            part = Part(body, md5(body), now())
            self._upload(call).parts[number] = part
        return _copied("CopyPartResult", part)

    def _complete_multipart_upload(self, call: Call) -> Response:
        body, _ = received(call.request, _ALL_CHECKSUMS)
        chosen = s3_xml.parse_parts(body)
        with self._store.lock:
            bucket = self._bucket(call)
            upload = self._upload(call)
            self._check_write(call, bucket)
            stored = assemble(upload, chosen, equal_parts=self._dialect.equal_parts)
            bucket.put(call.key, stored)
            del bucket.uploads[call.parameter("uploadid") or ""]
        return document(
            "CompleteMultipartUploadResult",
            [
                ("Location", f"/{call.bucket}"),
                ("Bucket", call.bucket),
                ("Key", call.key),
                ("ETag", f'"{stored.etag}"'),
            ],
        )

    def _abort_multipart_upload(self, call: Call) -> Response:
        with self._store.lock:
            self._upload(call)
            del self._bucket(call).uploads[call.parameter("uploadid") or ""]
        return Response(204)

    # What the operations share

    def _bucket(self, call: Call) -> Bucket:
        return self._store.bucket(call.bucket, call.owner)

    def _stored(self, call: Call) -> StoredObject:
        with self._store.lock:
            return _existing(self._bucket(call), call.key)

    def _upload(self, call: Call) -> Upload:
        return self._bucket(call).upload(call.parameter("uploadid") or "", call.key)

    def _check_write(self, call: Call, bucket: Bucket, *, prefix: str = "") -> None:
        conditions.check_write(
            call.header,
            bucket.objects.get(call.key),
            missing_status=self._dialect.if_match_on_missing_key,
            dates=self._dialect.date_conditions_on_write,
            prefix=prefix,
        )

    def _object_headers(self, call: Call, stored: StoredObject) -> Headers:
        replaced = {
            name: value
            for parameter, name in RESPONSE_PARAMETERS.items()
            if (value := call.parameter(parameter)) is not None
        }
        kept = {**dict(stored.headers), **replaced}
        headers = [
            ("etag", f'"{stored.etag}"'),
            ("last-modified", format_datetime(stored.modified, usegmt=True)),
            ("accept-ranges", "bytes"),
            *kept.items(),
            *((f"x-amz-meta-{name}", value) for name, value in stored.metadata),
            *stored.properties.headers(),
        ]
        wants_checksum = (call.header("x-amz-checksum-mode") or "").upper() == "ENABLED"
        if wants_checksum and stored.checksum and call.header("range") is None:
            headers.append(stored.checksum)
        return tuple(headers)


def _existing(bucket: Bucket, key: str) -> StoredObject:
    found = bucket.objects.get(key)
    if found is None:
        raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
    return found


def _copied(root: str, stored: StoredObject | Part) -> Response:
    return document(
        root, [("LastModified", timestamp(stored.modified)), ("ETag", f'"{stored.etag}"')]
    )


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte, None for the whole. S3 ignores what it cannot read as one range."""
    match = _RANGE.fullmatch(header or "")
    if match is None or match[0] == "bytes=-":
        return None
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
        if match[2] and int(match[2]) < first:
            return None
    else:
        first, last = max(size - int(match[2]), 0), size - 1
    if first >= size or match[0] == "bytes=-0":
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable")
    return first, last


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
