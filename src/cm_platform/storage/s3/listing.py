"""A listing of S3: its parameters, its pages, and cursors that are good for no other listing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cm_platform.errors import InvalidArgumentError
from cm_platform.storage.backend import BackendPage, ListedObject

from .parameters import bare_etag, in_utc


class Listing:
    """The keys of a bucket that begin with a prefix. where: the bucket, among all there are."""

    def __init__(self, where: str, prefix: str, delimiter: str | None) -> None:
        self._where = where
        self._prefix = prefix
        self._delimiter = delimiter

    def parameters(self, cursor: str | None) -> dict[str, Any]:
        """What to ask for; `invalid_argument` for a cursor of another listing."""
        asked: dict[str, Any] = {"Prefix": self._prefix}
        if self._delimiter is not None:
            asked["Delimiter"] = self._delimiter
        if cursor is not None:
            digest, _, token = cursor.partition(".")
            if digest != self._digest(token):
                raise InvalidArgumentError(
                    "this cursor is not from a listing of this prefix and delimiter"
                )
            asked["ContinuationToken"] = token
        # botocore asks for percent-encoded keys, which XML could not carry, and decodes them;
        # that fails if EncodingType is given here.
        return asked

    def page(self, answer: Mapping[str, Any]) -> BackendPage:
        """What was answered."""
        token: str | None = answer.get("NextContinuationToken")
        return BackendPage(
            objects=[
                ListedObject(
                    found["Key"], found["Size"], bare_etag(found), in_utc(found.get("LastModified"))
                )
                for found in answer.get("Contents", ())
            ],
            prefixes=[found["Prefix"] for found in answer.get("CommonPrefixes", ())],
            cursor=f"{self._digest(token)}.{token}"
            if answer.get("IsTruncated") and token
            else None,
        )

    def _digest(self, token: str) -> str:
        # S3 itself does not say what it does with the token of another listing. This is against
        # mix-ups, not against forgery: the service signs what tenants get to see.
        text = "\0".join((self._where, self._prefix, self._delimiter or "", token))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


__all__ = ["Listing"]
