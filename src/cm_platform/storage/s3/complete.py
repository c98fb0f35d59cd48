"""The complete path: everything that S3 can do, through boto3.

boto3 costs about ten times what obstore does, so it moves what obstore cannot: listings, copies,
parts, conditional deletes, large bodies, and keys that obstore would alter.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cm_platform.errors import IntegrityError, InvalidArgumentError, UnavailableError
from cm_platform.runtime import Runtime
from cm_platform.storage.backend import NO_METADATA, ObjectInfo

from .client import new_client, new_session
from .connection import Connection
from .handover import Handover
from .parameters import bare_etag, in_utc, unclear
from .reply import CompleteReply
from .uncarried import uncarried_in

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Credential

logger = logging.getLogger("cm_platform.storage")

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
        self._closed = False

    def client(self) -> S3Client:
        """The client; `unavailable` after `close`. Blocks while it is made."""
        if self._client is not None and self._pid == os.getpid():
            return self._client
        self._check_fork()
        with self._guard:
            self._check_open()
            if self._client is None:
                client = self._client = new_client(self._open_session(), self._connection)
                try:
                    # Again, now that it is where `close` finds it: one of the two closes it.
                    self._check_open()
                except UnavailableError:
                    self._client = None
                    client.close()
                    raise
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

    async def head(self, key: str, *, uncarried: bool = False) -> ObjectInfo:
        """Describe an object. uncarried: with what the answer tells of that."""
        answer = await self.call("head_object", Key=key)
        info = _info(key, answer)
        if not uncarried:
            return info
        return replace(info, uncarried=uncarried_in(answer["ResponseMetadata"]["HTTPHeaders"]))

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
        opening: Handover[Any] = Handover(_close_body, _close_body)
        answer = await opening.taken(
            self._runtime.call(lambda: opening.done(self._call("get_object", parameters)))
        )
        reply = CompleteReply(_info(key, answer), answer, self._runtime)
        if "Range" in parameters and "ContentRange" not in answer:
            await reply.close()
            if reply.info.size == 0:
                raise InvalidArgumentError("an empty object has no range of bytes")
            raise IntegrityError("the store answered with the whole object instead of a range")
        return reply

    async def begin_upload(self, key: str, attributes: Mapping[str, Any]) -> str:
        """Begin an upload in parts; its id. Nobody else knows it, so that one whose caller was
        cancelled meanwhile is aborted here."""

        def begin() -> str:
            answer = self._call("create_multipart_upload", {"Key": key, **attributes})
            if not (upload_id := answer.get("UploadId")):
                raise unclear()
            return beginning.done(upload_id)

        def abort(upload_id: str) -> None:
            try:
                self._call("abort_multipart_upload", {"Key": key, "UploadId": upload_id})
            except Exception as error:  # noqa: BLE001 - there is nobody left to raise it to
                _warn_of_orphan(type(error).__name__)

        def abort_elsewhere(upload_id: str) -> None:
            if not self._runtime.spawn(self._runtime.call(abort, upload_id)):
                _warn_of_orphan("too much background work")

        beginning: Handover[str] = Handover(abort, abort_elsewhere)
        return await beginning.taken(self._runtime.call(begin))

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
        """Close the client's connections, if it was made in this process; none is made after."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            await self._runtime.call(client.close)

    def _call(self, operation: str, parameters: Mapping[str, Any]) -> Any:
        method = getattr(self.client(), operation)
        return method(Bucket=self._connection.bucket, **parameters)

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the platform was closed", not_sent=True)

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


def _close_body(answer: Mapping[str, Any]) -> None:
    answer["Body"].close()


def _warn_of_orphan(why: str) -> None:
    logger.warning(
        "an upload whose caller was cancelled could not be aborted (%s); it stays until a "
        "lifecycle rule removes it",
        why,
    )


def _info(key: str, answer: Mapping[str, Any]) -> ObjectInfo:
    size = answer["ContentLength"]
    if (content_range := answer.get("ContentRange")) is not None:
        size = int(content_range.rpartition("/")[2])
    metadata = {name.lower(): _text(value) for name, value in answer.get("Metadata", {}).items()}
    return ObjectInfo(
        key=key,
        size=size,
        etag=bare_etag(answer),
        last_modified=in_utc(answer.get("LastModified")),
        content_type=_told(answer, "ContentType"),
        cache_control=_told(answer, "CacheControl"),
        content_disposition=_told(answer, "ContentDisposition"),
        content_encoding=_told(answer, "ContentEncoding"),
        content_language=_told(answer, "ContentLanguage"),
        metadata=metadata or NO_METADATA,
    )


def _told(answer: Mapping[str, Any], name: str) -> str | None:
    value: str | None = answer.get(name)
    return _text(value) if value is not None else None


def _text(value: str) -> str:
    # Bytes that are not ASCII come as Latin-1, which is what HTTP once was. Who sends such bytes
    # today means UTF-8; where they are none, Latin-1 it is.
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


__all__ = ["CompletePath"]
