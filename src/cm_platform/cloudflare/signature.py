"""Signing requests to the gateway: HMAC-SHA256 over a length-prefixed form of what is asked.

The Worker has the same in TypeScript; `gateway/test/vectors.json` holds both to it.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Final, NoReturn
from urllib.parse import quote

from cm_platform.errors import InvalidArgumentError

PROTOCOL: Final = b"cm-gateway-v1"

# With the letters, digits and "_.-~" that `quote` never touches: what encodeURIComponent leaves.
_UNTOUCHED: Final = "!*'()"

Headers = list[tuple[bytes, bytes]]


class RequestSigner:
    """Signs as one key of the gateway."""

    __slots__ = ("_key_id", "_secret")

    def __init__(self, key_id: str, secret: str) -> None:
        self._key_id = key_id.encode()
        self._secret = secret.encode()

    def __repr__(self) -> str:
        return f"RequestSigner(key_id={self._key_id.decode()!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse: in a pickle the secret would be plain text."""
        raise TypeError("a RequestSigner holds a secret and is not pickled")

    def headers(
        self,
        method: bytes,
        path: bytes,
        query: bytes,
        digest: str,
        partition: str,
        *,
        now: float,
        nonce: bytes | None = None,
    ) -> Headers:
        """The headers that authenticate one request.

        digest: SHA-256 of the body, in lower-case hex. partition: who the request is for.
        now: Unix seconds; the gateway accepts 60 s either way. nonce: only tests give one.

        Raises `invalid_argument` for a partition that is no Unicode text or has a NUL.
        """
        stamp = b"%d" % round(now * 1000)
        nonce = new_nonce() if nonce is None else nonce
        try:
            who = partition.encode()
        except UnicodeEncodeError:
            raise InvalidArgumentError(
                "the partition is no Unicode text: it has half of a surrogate pair", not_sent=True
            ) from None
        if b"\0" in who:
            raise InvalidArgumentError("the gateway takes no partition with a NUL", not_sent=True)
        signed = canonical(
            (
                PROTOCOL,
                self._key_id,
                method,
                path,
                sorted_query(query),
                digest.encode(),
                stamp,
                nonce,
                who,
            )
        )
        return [
            (b"cm-key-id", self._key_id),
            (b"cm-timestamp", stamp),
            (b"cm-nonce", nonce),
            (b"cm-partition", quote(who, safe=_UNTOUCHED).encode()),
            (b"cm-signature", _unpadded(hmac.digest(self._secret, signed, "sha256"))),
        ]


def canonical(fields: Iterable[bytes]) -> bytes:
    """The fields, each after its length in 4 bytes: else ("a", "bc") and ("ab", "c") would be
    signed alike."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def sorted_query(query: bytes) -> bytes:
    """The pairs of a raw query string in bytewise order, still percent-encoded."""
    return b"&".join(sorted(query.split(b"&"))) if query else b""


def new_nonce() -> bytes:
    """22 characters that nobody has used before."""
    return _unpadded(secrets.token_bytes(16))


def _unpadded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


__all__ = ["PROTOCOL", "Headers", "RequestSigner", "canonical", "new_nonce", "sorted_query"]
