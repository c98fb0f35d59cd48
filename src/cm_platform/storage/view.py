"""The tenant's view of a store: its keys, its cursors, and its own words for what comes back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from cm_platform.errors import InvalidArgumentError
from cm_platform.executor import Endpoint
from cm_platform.signing import Signer
from cm_platform.tenant import Scope

from .backend import BackendPage, ListedObject, ObjectInfo, StorageLimits
from .keys import check_key, check_prefix, decode_metadata

logger = logging.getLogger("cm_platform.storage")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, in order of the keys' UTF-8 bytes.

    prefixes: with a delimiter, the "folders": key beginnings up to and including it.
    cursor: give it to `list_page`, with the same arguments, for the next page; None at the end.
        Signed, and bound to the tenant and the arguments.
    """

    objects: Sequence[ListedObject]
    prefixes: Sequence[str] = ()
    cursor: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PresignedUrl:
    """A request that anybody who holds it may make until `expires_at`.

    Send `headers` with it, exactly; `url` is a credential and stays out of repr and logs.
    """

    method: Literal["GET", "PUT"]
    url: str = field(repr=False)
    headers: Mapping[str, str]
    expires_at: datetime


class View:
    """Turns a tenant's keys into the store's and back. What lacks the scope raises `integrity`."""

    __slots__ = ("_signer", "scope")

    def __init__(self, scope: Scope, signer: Signer) -> None:
        self.scope = scope
        self._signer = signer

    def key(self, key: str, endpoint: Endpoint) -> str:
        """The physical key; `invalid_argument` names the rule that the key breaks."""
        limits: StorageLimits = endpoint.backend.limits
        return check_key(key, self.scope.prefix, limits.max_key)

    def prefix(self, prefix: str, endpoint: Endpoint) -> str:
        """The physical prefix of a listing."""
        limits: StorageLimits = endpoint.backend.limits
        return check_prefix(prefix, self.scope.prefix, limits.max_key)

    def info(self, info: ObjectInfo) -> ObjectInfo:
        """What the tenant is told of an object."""
        metadata, revision, sha256 = decode_metadata(info.metadata)
        return ObjectInfo(
            self.scope.unscope(info.key),
            info.size,
            info.etag,
            info.last_modified,
            info.content_type,
            info.cache_control,
            info.content_disposition,
            info.content_encoding,
            info.content_language,
            metadata,
            sha256,
            revision,
            info.uncarried,
        )

    def listed(self, listed: ListedObject) -> ListedObject:
        """What the tenant is told of an object in a listing."""
        return ListedObject(
            self.scope.unscope(listed.key), listed.size, listed.etag, listed.last_modified
        )

    def page(
        self, page: BackendPage, endpoint: Endpoint, prefix: str, delimiter: str | None
    ) -> Page:
        """A page with its cursor bound to the tenant, the backend and the arguments.

        Without the keys that no method takes: programs with other rules wrote them.
        """
        raw = page.cursor
        bound = self._bound(endpoint, prefix, delimiter)
        limits: StorageLimits = endpoint.backend.limits
        listed = [self.listed(found) for found in page.objects]
        prefixes = [self.scope.unscope(found) for found in page.prefixes]
        objects = [found for found in listed if _is_legal(check_key, found.key, limits)]
        folders = [found for found in prefixes if _is_legal(check_prefix, found, limits)]
        if left := len(listed) + len(prefixes) - len(objects) - len(folders):
            logger.debug("a listing leaves out %d keys that are not legal here", left)
        return Page(objects, folders, None if raw is None else self._signer.seal(raw, bound))

    def cursor(self, cursor: str, endpoint: Endpoint, prefix: str, delimiter: str | None) -> str:
        """The store's cursor; `invalid_argument` for one that was not made for these."""
        return self._signer.open(cursor, self._bound(endpoint, prefix, delimiter))

    def _bound(self, endpoint: Endpoint, prefix: str, delimiter: str | None) -> list[str]:
        return ["storage", endpoint.name, self.scope.prefix, prefix, delimiter or ""]


def _is_legal(check: Callable[[str, str, int], Any], text: str, limits: StorageLimits) -> bool:
    try:
        check(text, "", limits.max_key)
    except InvalidArgumentError:
        return False
    return True


__all__ = ["Page", "PresignedUrl", "View"]
