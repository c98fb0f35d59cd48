"""The complete path: everything that S3 can do, through boto3.

boto3 costs about ten times what obstore does, so it moves what obstore cannot: listings, copies,
parts, conditional deletes, large bodies, and keys that obstore would alter.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cm_platform.errors import IntegrityError, InvalidArgumentError, UnavailableError
from cm_platform.runtime import Runtime
from cm_platform.storage.backend import NO_METADATA, ObjectInfo

from .client import new_client, new_session
from .connection import Connection
from .parameters import bare_etag, in_utc

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Credential

CHUNK: Final = 1024 * 1024

# Seconds. botocore replaces credentials that expire in 10 minutes or less; obstore asks again
# 5 minutes before the expiry that it is told, so what it holds is never about to expire.
_CREDENTIALS_LIVE: Final = 600


class CompletePath:
    """boto3's client, made on first use: the first of a process takes 0.5 s, with the imports, and
    a backend may never need it."""

    def __init__(self, connection: Connection, runtime: Runtime) -> None:
        self._connection = connection
        self._runtime = runtime
        self._guard = threading.Lock()
        self._pid = os.getpid()
        # Untyped: the stubs list each of Amazon's services, installed or not.
        self._session: Any = None
        self._client: S3Client | None = None

    def client(self) -> S3Client:
        """The client. Blocks while it is made."""
        if self._client is not None and self._pid == os.getpid():
            return self._client
        self._check_fork()
        with self._guard:
            if self._client is None:
                self._client = new_client(self._open_session(), self._connection)
            return self._client

    def credentials(self) -> S3Credential:
        """The identity as obstore wants it, from boto3's chain. May ask a metadata service."""
        from botocore.exceptions import NoCredentialsError

        self._check_fork()
        with self._guard:
            found = self._open_session().get_credentials()
        if found is None:
            raise NoCredentialsError
        frozen = found.get_frozen_credentials()
        if frozen.access_key is None or frozen.secret_key is None:
            raise NoCredentialsError
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(seconds=_CREDENTIALS_LIVE),
        }

    async def call(self, operation: str, /, **parameters: Any) -> Any:
        """Make one request; `Bucket` is added."""
        return await self._runtime.call(self._call, operation, parameters)

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object."""
        return _info(key, await self.call("head_object", Key=key))

    async def get(
        self, key: str, *, start: int, end: int | None, if_match: str | None
    ) -> CompleteReply:
        """Open an object. if_match: with quotes."""
        parameters: dict[str, Any] = {"Key": key}
        if if_match is not None:
            parameters["IfMatch"] = if_match
        if start < 0:
            parameters["Range"] = f"bytes={start}"
        elif end is not None:
            parameters["Range"] = f"bytes={start}-{end - 1}"
        elif start > 0:
            parameters["Range"] = f"bytes={start}-"
        opening = _Opening()
        try:
            answer = await self._runtime.call(
                lambda: opening.done(self._call("get_object", parameters))
            )
        except BaseException:
            opening.abandon()
            raise
        reply = CompleteReply(_info(key, answer), answer, self._runtime)
        if "Range" in parameters and "ContentRange" not in answer:
            await reply.close()
            if reply.info.size == 0:
                raise InvalidArgumentError("an empty object has no range of bytes")
            raise IntegrityError("the store answered with the whole object instead of a range")
        return reply

    async def sign(self, operation: str, parameters: Mapping[str, Any], expires_in: int) -> str:
        """The URL of a request for somebody else to make."""
        return await self._runtime.call(
            lambda: self.client().generate_presigned_url(
                operation,
                Params={"Bucket": self._connection.bucket, **parameters},
                ExpiresIn=expires_in,
            )
        )

    async def close(self) -> None:
        """Close the client's connections, if it was made in this process."""
        client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            await self._runtime.call(client.close)

    def _call(self, operation: str, parameters: Mapping[str, Any]) -> Any:
        method = getattr(self.client(), operation)
        return method(Bucket=self._connection.bucket, **parameters)

    def _check_fork(self) -> None:
        if self._pid != os.getpid():
            # The parent's connections are not ours to use, nor is a lock that a thread of its
            # may have held.
            self._pid = os.getpid()
            self._guard = threading.Lock()
            self._session = self._client = None

    def _open_session(self) -> Any:
        if self._session is None:
            self._session = new_session(self._connection)
        return self._session


class CompleteReply:
    """An object under way through boto3."""

    __slots__ = ("_body", "_left", "_runtime", "info")

    def __init__(self, info: ObjectInfo, answer: Mapping[str, Any], runtime: Runtime) -> None:
        self.info = info
        self._body: Any = answer["Body"]
        self._left: int = answer["ContentLength"]
        self._runtime = runtime

    async def read(self) -> bytes:
        """See `ObjectReply.read`."""
        if self._body is None or self._left == 0:
            return b""
        return self._counted(await self._runtime.call(self._body.read))

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `ObjectReply.chunks`."""
        while self._body is not None and self._left > 0:
            chunk = await self._runtime.call(self._body.read, min(CHUNK, self._left))
            yield self._counted(chunk, at_least=1)

    async def close(self) -> None:
        """See `ObjectReply.close`."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _counted(self, data: bytes, *, at_least: int | None = None) -> bytes:
        if len(data) < (self._left if at_least is None else at_least):
            raise UnavailableError("the body ended before its announced size", retryable=True)
        self._left -= len(data)
        return data


class _Opening:
    """A get under way in a thread. Whoever waits may be cancelled; the answer is then closed."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._abandoned = False
        self._answer: Any = None

    def done(self, answer: Any) -> Any:
        with self._guard:
            self._answer = answer
            if self._abandoned:
                answer["Body"].close()
        return answer

    def abandon(self) -> None:
        with self._guard:
            self._abandoned = True
            if self._answer is not None:
                self._answer["Body"].close()


def _info(key: str, answer: Mapping[str, Any]) -> ObjectInfo:
    size = answer["ContentLength"]
    if (content_range := answer.get("ContentRange")) is not None:
        size = int(content_range.rpartition("/")[2])
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    return ObjectInfo(
        key=key,
        size=size,
        etag=bare_etag(answer),
        last_modified=in_utc(answer.get("LastModified")),
        content_type=answer.get("ContentType"),
        cache_control=answer.get("CacheControl"),
        content_disposition=answer.get("ContentDisposition"),
        content_encoding=answer.get("ContentEncoding"),
        content_language=answer.get("ContentLanguage"),
        metadata=metadata or NO_METADATA,
    )


__all__ = ["CompletePath", "CompleteReply"]
