"""Object storage on S3 and what speaks like it: which request goes which way, and what it means.

Bytes go through obstore, everything else through boto3. Two clients of one service, one identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from cm_platform.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    PlatformError,
    PreconditionFailedError,
    UnsupportedError,
)
from cm_platform.runtime import Runtime
from cm_platform.storage.backend import (
    Attributes,
    BackendPage,
    ObjectInfo,
    ObjectReply,
    Part,
    Presigned,
    StorageCapability,
    StorageLimits,
    Written,
)

from .batch import Batch
from .complete import CompletePath
from .connection import Connection
from .errors import Fault, error_of, unmet
from .fast import MAX_BODY, FastPath, is_unreadable
from .faults import fault_of
from .listing import Listing
from .parameters import (
    attribute_parameters,
    condition_parameters,
    get_request,
    in_utc,
    put_request,
    quoted,
    sayable,
    written_etag,
)
from .sayable import says_metadata

# What S3 may still take to execute a request that it has received whole: it promises nothing;
# its own servers give up on a silent client after about 20 s, and 60 is generous.
_EXECUTION: Final = 60.0


class S3Storage:
    """One bucket. See `StorageBackend` for what each method promises."""

    def __init__(
        self,
        connection: Connection,
        runtime: Runtime,
        *,
        fast: FastPath | None,
        complete: CompletePath,
        capabilities: frozenset[StorageCapability],
        limits: StorageLimits,
    ) -> None:
        self.capabilities = capabilities
        self.limits = limits
        # A timeout closes the connection, so nothing more is sent; what arrived may be executed.
        # A cancelled call in a worker thread goes on until its own timeouts end it.
        self.max_request_lifetime = (
            connection.connect_timeout + connection.read_timeout + _EXECUTION
        )
        self._bucket = connection.bucket
        self._where = f"{connection.endpoint}/{connection.bucket}"
        self._runtime = runtime
        self._fast = fast
        self._complete = complete

    async def head(self, key: str, *, uncarried: bool = False) -> ObjectInfo:
        """See `StorageBackend.head`."""
        fast = self._fast_for(key)
        if uncarried:
            # obstore hands on none of the headers that tell it.
            return await self._complete.head(key, uncarried=True)
        if fast is not None:
            try:
                return await fast.head(key)
            except Exception as error:
                if not is_unreadable(error):
                    raise
        return await self._complete.head(key)

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None, if_match: str | None = None
    ) -> ObjectReply:
        """See `StorageBackend.get`."""
        if end is not None and end <= max(start, 0):
            raise InvalidArgumentError("a range [start, end) must have at least one byte")
        condition = quoted(if_match) if if_match is not None else None
        if (fast := self._fast_for(key)) is not None:
            try:
                return await fast.get(key, start=start, end=end, if_match=condition)
            except Exception as error:
                if not is_unreadable(error):
                    raise
        return await self._complete.get(key, start=start, end=end, if_match=condition)

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        attributes: Attributes,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """See `StorageBackend.put`."""
        self._check_conditions(if_none_match, if_match)
        fast = self._fast_for(key)
        try:
            if fast is not None and len(data) <= MAX_BODY and says_metadata(attributes.metadata):
                if if_none_match:
                    return await fast.put(key, data, attributes, "create")
                if if_match is not None:
                    return await fast.put(key, data, attributes, {"e_tag": quoted(if_match)})
                return await fast.put(key, data, attributes, "overwrite")
            answer = await self._complete.call(
                "put_object",
                Key=key,
                Body=bytes(data),
                **attribute_parameters(attributes),
                **condition_parameters(if_none_match=if_none_match, if_match=if_match),
            )
        except Exception as error:
            if (failure := self._failure(error, if_none_match, if_match)) is None:
                raise
            raise failure from error
        return Written(written_etag(answer.get("ETag")))

    async def create_multipart(self, key: str, attributes: Attributes) -> str:
        """See `StorageBackend.create_multipart`."""
        return await self._complete.begin_upload(sayable(key), attribute_parameters(attributes))

    async def put_part(
        self, key: str, upload_id: str, number: int, data: bytes | memoryview
    ) -> Part:
        """See `StorageBackend.put_part`."""
        answer = await self._complete.call(
            "upload_part",
            Key=sayable(key),
            UploadId=upload_id,
            PartNumber=number,
            Body=bytes(data),
        )
        return Part(number, written_etag(answer.get("ETag")))

    async def copy_part(
        self, key: str, upload_id: str, number: int, source: str, start: int, end: int, etag: str
    ) -> Part:
        """See `StorageBackend.copy_part`."""
        answer = await self._complete.call(
            "upload_part_copy",
            Key=sayable(key),
            UploadId=upload_id,
            PartNumber=number,
            CopySource={"Bucket": self._bucket, "Key": sayable(source)},
            CopySourceRange=f"bytes={start}-{end - 1}",
            CopySourceIfMatch=quoted(etag),
        )
        return Part(number, written_etag(answer.get("CopyPartResult", {}).get("ETag")))

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[Part],
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> Written:
        """See `StorageBackend.complete_multipart`."""
        self._check_conditions(if_none_match, if_match)
        try:
            answer = await self._complete.call(
                "complete_multipart_upload",
                Key=sayable(key),
                UploadId=upload_id,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": part.number, "ETag": quoted(part.etag)} for part in parts
                    ]
                },
                **condition_parameters(if_none_match=if_none_match, if_match=if_match),
            )
        except Exception as error:
            if (failure := self._failure(error, if_none_match, if_match)) is None:
                raise
            raise failure from error
        return Written(written_etag(answer.get("ETag")))

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """See `StorageBackend.abort_multipart`."""
        try:
            await self._complete.call(
                "abort_multipart_upload", Key=sayable(key), UploadId=upload_id
            )
        except Exception as error:
            if (fault := fault_of(error)) is None:
                raise
            # Swift's answer for an upload that is gone is that there is no such key.
            if fault.status != 404 or fault.code == "NoSuchBucket":
                raise error_of(fault, self._bucket) from error

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """See `StorageBackend.delete`."""
        if if_match is None:
            if (fast := self._fast_for(key)) is not None:
                await fast.delete(key)
            else:
                await self._complete.call("delete_object", Key=key)
            return
        self._require(StorageCapability.CONDITIONAL_DELETE)
        try:
            await self._complete.call("delete_object", Key=sayable(key), IfMatch=quoted(if_match))
        except Exception as error:
            if (failure := self._failure(error, False, if_match)) is None:
                raise
            raise failure from error

    async def delete_many(self, keys: Sequence[str]) -> Mapping[str, PlatformError]:
        """See `StorageBackend.delete_many`."""
        batch = Batch([sayable(key) for key in keys])
        for key in batch.alone:
            try:
                await self.delete(key)
            except Exception as error:
                failure = error if isinstance(error, PlatformError) else self.translate(error)
                if failure is None:
                    raise
                batch.failures[key] = failure
        if batch.together:
            batch.take(await self._complete.call("delete_objects", Delete=batch.request()))
        return batch.failures

    async def copy(
        self,
        source: str,
        target: str,
        attributes: Attributes,
        *,
        etag: str,
        if_none_match: bool = False,
    ) -> Written:
        """See `StorageBackend.copy`."""
        if if_none_match:
            self._require(StorageCapability.CONDITIONAL_COPY)
        try:
            answer = await self._complete.call(
                "copy_object",
                Key=sayable(target),
                CopySource={"Bucket": self._bucket, "Key": sayable(source)},
                CopySourceIfMatch=quoted(etag),
                MetadataDirective="REPLACE",
                **attribute_parameters(attributes),
                **condition_parameters(if_none_match=if_none_match, if_match=None),
            )
        except Exception as error:
            if (fault := fault_of(error)) is None:
                raise
            if fault.status == 412 and if_none_match:
                raise await self._which_condition(fault, source, etag) from error
            failure = unmet(fault, creating=False) if fault.status == 412 else None
            raise failure or error_of(fault, self._bucket) from error
        result = answer.get("CopyObjectResult", {})
        return Written(written_etag(result.get("ETag")), in_utc(result.get("LastModified")))

    async def list(
        self, prefix: str, *, delimiter: Literal["/"] | None, cursor: str | None, limit: int
    ) -> BackendPage:
        """See `StorageBackend.list`."""
        listing = Listing(self._where, prefix, delimiter)
        answer = await self._complete.call(
            "list_objects_v2", MaxKeys=limit, **listing.parameters(cursor)
        )
        return listing.page(answer)

    async def presign(
        self, key: str, method: Literal["GET", "PUT"], *, expires_in: int, attributes: Attributes
    ) -> Presigned:
        """See `StorageBackend.presign`."""
        self._require(StorageCapability.PRESIGN)
        request = (get_request if method == "GET" else put_request)(attributes)
        url = await self._complete.sign(
            request.operation, {"Key": sayable(key), **request.parameters}, expires_in
        )
        return Presigned(method, url, request.headers)

    def translate(self, error: Exception) -> PlatformError | None:
        """See `StorageBackend.translate`."""
        fault = fault_of(error)
        return error_of(fault, self._bucket) if fault is not None else None

    async def ping(self) -> None:
        """See `StorageBackend.ping`."""
        try:
            await self._complete.call("head_bucket")
        except Exception as error:
            if (fault := fault_of(error)) is None:
                raise
            if fault.status == 404:
                fault = replace(fault, code="NoSuchBucket")
            if fault.status not in (403, 405, 501):
                raise error_of(fault, self._bucket) from error
        else:
            return
        # Credentials that may read and write objects need not be allowed to ask for the bucket.
        await self._complete.call("list_objects_v2", MaxKeys=1)

    def native(self) -> Any:
        """The boto3 client. Making it takes 0.2 s, once."""
        return self._complete.client()

    async def close(self) -> None:
        """See `StorageBackend.close`."""
        self._fast = None
        await self._complete.close()

    def _fast_for(self, key: str) -> FastPath | None:
        if self._fast is not None and self._fast.takes(key):
            return self._fast
        sayable(key)
        return None

    def _check_conditions(self, if_none_match: bool, if_match: str | None) -> None:
        if if_none_match:
            self._require(StorageCapability.CONDITIONAL_CREATE)
        elif if_match is not None:
            self._require(StorageCapability.CONDITIONAL_REPLACE)

    def _require(self, capability: StorageCapability) -> None:
        # A store that lacks it may ignore the header, and do what must not be done.
        if capability not in self.capabilities:
            raise UnsupportedError(f"this store lacks the capability {capability}", not_sent=True)

    def _failure(
        self, error: Exception, if_none_match: bool, if_match: str | None
    ) -> PlatformError | None:
        """What a conditional write's failure means; None when it is not the SDK's."""
        if (fault := fault_of(error)) is None:
            return None
        failure: PlatformError | None = None
        if if_none_match or if_match is not None:
            failure = unmet(fault, creating=if_none_match)
        return failure or error_of(fault, self._bucket)

    async def _which_condition(self, fault: Fault, source: str, etag: str) -> PlatformError:
        """Of a copy with two: the source's etag, or that the target is not there."""
        changed = PreconditionFailedError("the source has another version than `etag`")
        taken = AlreadyExistsError("the target is taken")
        if fault.condition:
            return changed if "source" in fault.condition.lower() else taken
        return taken if (await self.head(source)).etag == etag else changed


__all__ = ["S3Storage"]
