"""The fast path: ordinary keys and bodies through obstore, at a fraction of boto3's cost.

obstore is native on both faces, so there is no thread to hop to. What it cannot say exactly (see
`sayable`), and what is larger than `MAX_BODY`, goes the complete way.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from cm_platform.errors import UnavailableError
from cm_platform.runtime import settle
from cm_platform.storage.backend import NO_METADATA, Attributes, ObjectInfo, Written

from .connection import Connection
from .parameters import written_etag
from .sayable import says_key

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ClientConfig, S3Credential, S3Store

MAX_BODY: Final = 1024 * 1024
"""Bytes that are put this way. Its read timeout runs from the first byte sent, not from the last,
so that a large body on a slow line would time out while it is still moving."""

CHUNK: Final = 1024 * 1024

# obstore reads these variables whatever its caller says, and boto3 does not know them: the two
# paths would store differently.
_ONLY_OBSTORE_READS: Final = (
    "AWS_CHECKSUM_ALGORITHM",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_BUCKET_KEY_ENABLED",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AWS_SSE_KMS_KEY_ID",
)

_HEADERS: Final = frozenset(
    {
        "Cache-Control",
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
        "Content-Type",
        "Storage-Class",
    }
)

# Headers that are not ASCII; and the whole object where a range was asked for, which is how some
# servers answer for the end of an empty object.
_UNREADABLE: Final = re.compile(
    r"Generic S3 error: (?:.* contained non UTF-8 characters"
    r"|Received non-partial response when range requested)\n\nDebug"
)

_used_in: int | None = None  # the process that started obstore's threads


def why_unusable() -> str | None:
    """Why obstore must not be used in this process; None when it may."""
    if _used_in is not None and _used_in != os.getpid():
        # Its threads are the parent's: the first call here would wait for them for ever.
        return "it was used before this process was forked"
    if found := [name for name in _ONLY_OBSTORE_READS if name in os.environ]:
        return f"it would follow {', '.join(found)}, and boto3 does not"
    return None


def is_unreadable(error: Exception) -> bool:
    """Whether obstore got an answer that it cannot hand on, and boto3 can."""
    return _UNREADABLE.match(str(error)) is not None


class FastPath:
    """Get, head, put and delete of what obstore can say. One request a call, no retries."""

    def __init__(
        self, connection: Connection, credentials: Callable[[], S3Credential], *, is_async: bool
    ) -> None:
        import obstore

        self._store = _store(connection, credentials)
        self._is_async = is_async
        self._pid = os.getpid()
        self._get: Callable[..., Any] = obstore.get_async if is_async else obstore.get
        self._put: Callable[..., Any] = obstore.put_async if is_async else obstore.put
        self._delete: Callable[..., Any] = obstore.delete_async if is_async else obstore.delete

    def takes(self, key: str) -> bool:
        """Whether this key can go this way, in this process."""
        return says_key(key) and self._pid == os.getpid()

    async def head(self, key: str) -> ObjectInfo:
        """Describe an object. (obstore's own `head` leaves out the attributes.)"""
        _mark_used()
        result = await settle(self._get(self._store, key, options=_HEAD))
        return _info(key, result)

    async def get(
        self, key: str, *, start: int, end: int | None, if_match: str | None
    ) -> FastReply:
        """Open an object. if_match: with quotes."""
        _mark_used()
        if if_match is None and start == 0 and end is None:
            result = await settle(self._get(self._store, key))
        else:
            options: dict[str, Any] = {}
            if if_match is not None:
                options["if_match"] = if_match
            if start < 0:
                options["range"] = {"suffix": -start}
            elif end is not None:
                options["range"] = (start, end)
            elif start > 0:
                options["range"] = {"offset": start}
            result = await settle(self._get(self._store, key, options=options))
        return FastReply(_info(key, result), result, is_async=self._is_async)

    async def put(
        self,
        key: str,
        data: bytes | memoryview,
        attributes: Attributes,
        mode: Literal["overwrite", "create"] | dict[str, str],
    ) -> Written:
        """Store an object. mode: or {"e_tag": etag with quotes}."""
        _mark_used()
        reply = await settle(
            self._put(
                self._store,
                key,
                data,
                attributes=_attributes(attributes),
                mode=mode,
                use_multipart=False,
            )
        )
        return Written(written_etag(reply["e_tag"]))

    async def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        _mark_used()
        await settle(self._delete(self._store, key))


class FastReply:
    """An object under way through obstore."""

    __slots__ = ("_is_async", "_left", "_result", "_stream", "info")

    def __init__(self, info: ObjectInfo, result: GetResult, *, is_async: bool) -> None:
        self.info = info
        self._result: GetResult | None = result
        self._stream: Any = None
        self._is_async = is_async
        start, end = result.range
        self._left = end - start

    async def read(self) -> bytes:
        """See `ObjectReply.read`."""
        if self._stream is not None:
            return b"".join([chunk async for chunk in self.chunks()])
        if self._result is None:
            return b""
        result, self._result = self._result, None
        body = await settle(result.bytes_async() if self._is_async else result.bytes())
        self._count(len(body))
        self._check_complete()
        return body.to_bytes()

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `ObjectReply.chunks`."""
        if self._result is not None:
            result, self._result = self._result, None
            self._stream = result.stream(min_chunk_size=CHUNK)
        while self._stream is not None:
            try:
                chunk: bytes = await anext(self._stream) if self._is_async else next(self._stream)
            except (StopIteration, StopAsyncIteration):
                break
            self._count(len(chunk))
            yield chunk
        self._check_complete()

    async def close(self) -> None:
        """See `ObjectReply.close`. The connection ends with the last reference to the stream."""
        self._result = self._stream = None
        self._left = 0

    def _count(self, size: int) -> None:
        self._left -= size

    def _check_complete(self) -> None:
        if self._left != 0:
            raise UnavailableError("the body ended before its announced size", retryable=True)


_HEAD: Final = {"head": True}


def _store(connection: Connection, credentials: Callable[[], S3Credential]) -> S3Store:
    from obstore.store import S3Store

    options: ClientConfig = {
        "allow_http": connection.endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=connection.connect_timeout),
        "read_timeout": timedelta(seconds=connection.read_timeout),
        # Of the whole request, its body included: 30 s by default, which ends a long download.
        "timeout": timedelta(days=3650),
        "pool_max_idle_per_host": str(connection.pool_size),
        # Without a proxy of its own it takes the environment's. One that no request uses is the
        # only way to say "none".
        "proxy_url": connection.proxy or "http://127.0.0.1:9",
    }
    if connection.proxy is None:
        options["proxy_excludes"] = connection.host
    if (authorities := connection.read_ca_file()) is not None:
        options["root_certificate"] = authorities
    # Every setting is given that the environment could otherwise set (AWS_ENDPOINT_URL_S3,
    # AWS_SKIP_SIGNATURE, ...): see also `why_unusable`.
    return S3Store(
        connection.bucket,
        config={
            "aws_endpoint_url_s3": connection.bucket_endpoint,
            "region": connection.region,
            "virtual_hosted_style_request": connection.virtual,
            "conditional_put": "etag",
            "disable_bulk_delete": True,
            "disable_tagging": True,
            "request_payer": False,
            "s3_express": False,
            "skip_signature": False,
            "unsigned_payload": False,
        },
        client_options=options,
        retry_config={"max_retries": 0},
        credential_provider=credentials,
    )


def _mark_used() -> None:
    global _used_in
    if _used_in is None:
        _used_in = os.getpid()


def _attributes(attributes: Attributes) -> dict[str, str] | None:
    given = dict(attributes.metadata)
    if attributes.content_type is not None:
        given["Content-Type"] = attributes.content_type
    if attributes.cache_control is not None:
        given["Cache-Control"] = attributes.cache_control
    if attributes.content_disposition is not None:
        given["Content-Disposition"] = attributes.content_disposition
    if attributes.content_encoding is not None:
        given["Content-Encoding"] = attributes.content_encoding
    if attributes.content_language is not None:
        given["Content-Language"] = attributes.content_language
    return given or None


def _info(key: str, result: GetResult) -> ObjectInfo:
    meta: Any = result.meta
    found: Mapping[str, str] = result.attributes
    # A header's name is capitalised, that of user metadata is not.
    metadata = {name: value for name, value in found.items() if name not in _HEADERS}
    modified: datetime = meta["last_modified"]
    return ObjectInfo(
        key=key,
        size=meta["size"],
        etag=(meta["e_tag"] or "").strip('"'),
        # obstore says 1970 where the store says nothing.
        last_modified=modified if modified != _UNTOLD else None,
        content_type=found.get("Content-Type"),
        cache_control=found.get("Cache-Control"),
        content_disposition=found.get("Content-Disposition"),
        content_encoding=found.get("Content-Encoding"),
        content_language=found.get("Content-Language"),
        metadata=metadata or NO_METADATA,
    )


_UNTOLD: Final = datetime(1970, 1, 1, tzinfo=UTC)

__all__ = ["MAX_BODY", "FastPath", "FastReply", "is_unreadable", "why_unusable"]
