"""Presigned requests of a simulated store, and somebody who follows them.

Uploads by URL are the writes that no library sees: no revision, no ledger, at any time until the
URL expires.
"""

from __future__ import annotations

from typing import Literal

from cm_platform.errors import PermissionDeniedError
from cm_platform.storage.backend import Attributes, Presigned

from .store import SimulatedStore


def presigned(
    store: SimulatedStore,
    key: str,
    method: Literal["GET", "PUT"],
    expires_in: float,
    attributes: Attributes,
) -> Presigned:
    """A request that anybody may make until it expires, by the store's clock."""
    until = store.now() + expires_in
    token = len(store.signed)
    store.signed.append((method, key, until, attributes))
    return Presigned(method, f"simulated://{store.name}/{token}")


def follow(store: SimulatedStore, request: Presigned, body: bytes = b"") -> bytes:
    """Make a presigned request as somebody without credentials, at once; what it answers.

    `permission_denied` when it has expired, or is another store's.
    """
    beginning, _, token = request.url.rpartition("/")
    if beginning != f"simulated://{store.name}":
        raise PermissionDeniedError("this store did not sign that")
    method, key, until, attributes = store.signed[int(token)]
    if store.now() > until or method != request.method:
        raise PermissionDeniedError("the URL has expired, or is for another method")
    if method == "GET":
        return store.find(key).body
    store.put(key, body, attributes)
    return b""


__all__ = ["follow", "presigned"]
