"""Text that we hand out and must recognise when it comes back: cursors, envelopes.

HMAC-SHA256 with keys that have ids, so that they rotate: what an older key signed stays valid
until that key is taken out of the configuration.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from .errors import ConfigInvalidError, InvalidArgumentError


class Signer:
    """Signs with the current key, recognises all.

    keys: secrets by id. current: the id that signs.
    """

    __slots__ = ("_current", "_keys")

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        if current not in keys:
            raise ConfigInvalidError(f"no signing key has the id {current!r}")
        self._keys = dict(keys)
        self._current = current

    def __repr__(self) -> str:
        return f"Signer(current={self._current!r})"

    def seal(self, payload: str, context: Sequence[str]) -> str:
        """The payload as URL-safe text, bound to a context that is not carried along.

        context: what must be the same when it is opened: kind, tenant, backend, prefix...
        """
        key_id = self._current
        mac = _mac(self._keys[key_id], [key_id, payload, *context])
        return ".".join((key_id, _encode(payload.encode()), _encode(mac)))

    def open(self, sealed: str, context: Sequence[str]) -> str:
        """The payload of `seal`; `invalid_argument` for anything else.

        One message for every cause: which one it was helps only whoever is guessing.
        """
        try:
            key_id, payload64, mac64 = sealed.split(".")
            payload, mac = _decode(payload64).decode(), _decode(mac64)
            expected = _mac(self._keys[key_id], [key_id, payload, *context])
            genuine = hmac.compare_digest(mac, expected)
        except (ValueError, KeyError, AttributeError, TypeError):
            genuine = False
            payload = ""
        if not genuine:
            raise InvalidArgumentError(
                "this cursor was not made here, for this tenant and these arguments; start again "
                "without it"
            )
        return payload


def _mac(key: bytes, fields: Sequence[str]) -> bytes:
    # Length-prefixed: else ("a", "bc") and ("ab", "c") would sign alike.
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for field in fields:
        data = field.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(decoded) != text:
        raise ValueError("not canonical")
    return decoded


__all__ = ["Signer"]
