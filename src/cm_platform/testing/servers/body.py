"""Bodies of uploads: the aws-chunked framing with its trailer, and the checksums sent along."""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib
from collections.abc import Collection

from cm_platform.testing.servers.sigv4 import UNSIGNED_TRAILER
from cm_platform.testing.servers.wire import Request, S3Error

_CHECKSUM = "x-amz-checksum-"
_NOT_VALUES = frozenset({f"{_CHECKSUM}{name}" for name in ("algorithm", "mode", "type")})


def received(request: Request, allowed: Collection[str]) -> tuple[bytes, tuple[str, str] | None]:
    """The decoded body, checked against Content-MD5 and its checksum, and that checksum.

    `allowed` names the checksum algorithms of this operation; others are NotImplemented.
    """
    body, trailer = request.body, dict[str, str]()
    if request.header("x-amz-content-sha256") == UNSIGNED_TRAILER:
        body, trailer = _unchunked(request)
    elif request.header("x-amz-trailer") is not None:
        raise S3Error(501, "NotImplemented", "A trailer needs a payload that is decoded here.")
    declared = request.header("content-md5")
    if declared is not None:
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        if not hmac.compare_digest(base64.b64encode(digest), declared.encode("latin-1")):
            raise _bad_digest("Content-MD5")
    algorithm = request.header("x-amz-sdk-checksum-algorithm")
    if algorithm is not None:
        _require(algorithm.lower(), allowed)
    sent = {name: value for name, value in request.headers if _is_checksum(name)}
    sent.update(trailer)
    checksum: tuple[str, str] | None = None
    for name, value in sent.items():
        _require(name.removeprefix(_CHECKSUM), allowed)
        actual = base64.b64encode(_digest(name.removeprefix(_CHECKSUM), body))
        if not hmac.compare_digest(actual, value.encode("latin-1")):
            raise _bad_digest(name)
        checksum = (name, value)
    return body, checksum


def _unchunked(request: Request) -> tuple[bytes, dict[str, str]]:
    """Undo `size CRLF data CRLF ... 0 CRLF name:value CRLF CRLF`."""
    data, position, pieces = request.body, 0, list[bytes]()
    trailer: dict[str, str] = {}
    try:
        while True:
            end = data.index(b"\r\n", position)
            size = int(data[position:end].partition(b";")[0], 16)
            position = end + 2
            if size == 0:
                break
            pieces.append(data[position : position + size])
            if data[position + size : position + size + 2] != b"\r\n":
                raise _incomplete()
            position += size + 2
    except ValueError:
        raise _incomplete() from None
    for line in data[position:].split(b"\r\n"):
        name, _, value = line.decode("latin-1").partition(":")
        if name:
            trailer[name.strip().lower()] = value.strip()
    promised = (request.header("x-amz-trailer") or "").lower()
    if set(trailer) != {name.strip() for name in promised.split(",") if name.strip()}:
        raise S3Error(400, "MalformedTrailerError", "The trailer is not the one that was promised.")
    body = b"".join(pieces)
    if request.header("x-amz-decoded-content-length") != str(len(body)):
        raise _incomplete()
    return body, trailer


def _digest(algorithm: str, body: bytes) -> bytes:
    if algorithm == "crc32":
        return zlib.crc32(body).to_bytes(4, "big")
    return hashlib.new(algorithm, body, usedforsecurity=False).digest()


def _require(algorithm: str, allowed: Collection[str]) -> None:
    if algorithm not in allowed:
        raise S3Error(
            501, "NotImplemented", f"The checksum algorithm {algorithm} is not implemented here."
        )


def _is_checksum(name: str) -> bool:
    return name.startswith(_CHECKSUM) and name not in _NOT_VALUES


def _bad_digest(name: str) -> S3Error:
    return S3Error(400, "BadDigest", f"The {name} you specified did not match what we received.")


def _incomplete() -> S3Error:
    return S3Error(400, "IncompleteBody", "The request body is not well-formed aws-chunked data.")
