"""The contract's keys, etags, attributes, conditions and presigned requests, in boto3's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cm_platform.errors import InternalError, InvalidArgumentError
from cm_platform.storage.backend import Attributes

# No request can name these for certain: a proxy on the way may resolve the segments.
_UNSAYABLE: Final = re.compile(r"\A\Z|(?:\A|/)\.\.?(?:/|\Z)|[\ud800-\udfff]")

_HEADERS: Final = {
    "ContentType": "Content-Type",
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentEncoding": "Content-Encoding",
    "ContentLanguage": "Content-Language",
}


def sayable(key: str) -> str:
    """The key, if a request can name it for certain; `invalid_argument` says what cannot."""
    if _UNSAYABLE.search(key) is not None:
        raise InvalidArgumentError(
            "a key must not be empty, have the segments '.' or '..', or lone surrogates"
        )
    return key


def quoted(etag: str) -> str:
    """An etag as HTTP writes it."""
    return f'"{etag}"'


def bare_etag(answer: Mapping[str, Any]) -> str:
    """The etag of an answer, without quotes."""
    found: str = answer.get("ETag", "")
    return found.strip('"')


def written_etag(etag: str | None) -> str:
    """The etag that answered a write, without quotes.

    `internal` where there is none: something else than the store has answered (a proxy, a login
    page), and what became of the write is not known.
    """
    if etag is None or not (bare := etag.strip('"')):
        raise unclear()
    return bare


def unclear() -> InternalError:
    """Of an answer that lacks what it must have. The request may have had its effect."""
    return InternalError("the store's answer could not be understood")


def in_utc(moment: datetime | None) -> datetime | None:
    """A moment with our UTC in the place of dateutil's."""
    return moment.astimezone(UTC) if moment is not None else None


def attribute_parameters(attributes: Attributes) -> dict[str, Any]:
    """Attributes as puts, copies and uploads take them."""
    given = _header_parameters(attributes)
    if attributes.metadata:
        given["Metadata"] = dict(attributes.metadata)
    return given


def condition_parameters(*, if_none_match: bool, if_match: str | None) -> dict[str, str]:
    """The conditions of a write."""
    if if_none_match:
        return {"IfNoneMatch": "*"}
    return {"IfMatch": quoted(if_match)} if if_match is not None else {}


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request to sign, without its key. headers: those that are bound into the signature."""

    operation: str
    parameters: Mapping[str, Any]
    headers: dict[str, str] = field(default_factory=dict[str, str])


def get_request(attributes: Attributes) -> SignedRequest:
    """A GET whose reply presents itself so."""
    given = _header_parameters(attributes)
    return SignedRequest("get_object", {f"Response{name}": given[name] for name in given})


def put_request(attributes: Attributes) -> SignedRequest:
    """A PUT of an object with these attributes."""
    headers = {_HEADERS[name]: value for name, value in _header_parameters(attributes).items()}
    headers.update({f"x-amz-meta-{name}": value for name, value in attributes.metadata.items()})
    return SignedRequest("put_object", attribute_parameters(attributes), headers)


def _header_parameters(attributes: Attributes) -> dict[str, Any]:
    given = {
        "ContentType": attributes.content_type,
        "CacheControl": attributes.cache_control,
        "ContentDisposition": attributes.content_disposition,
        "ContentEncoding": attributes.content_encoding,
        "ContentLanguage": attributes.content_language,
    }
    return {name: value for name, value in given.items() if value is not None}


__all__ = [
    "SignedRequest",
    "attribute_parameters",
    "bare_etag",
    "condition_parameters",
    "get_request",
    "in_utc",
    "put_request",
    "quoted",
    "sayable",
    "unclear",
    "written_etag",
]
