"""The XML of S3's requests and replies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote_plus
from xml.etree import ElementTree

from cm_platform.testing.servers.wire import Response, S3Error

Node = tuple[str, "str | list[Node]"]

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
# What XML 1.0 cannot hold as it is; S3 writes such characters as references all the same.
_ESCAPED = re.compile(r"[\x00-\x1f&<>\"\x7f]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def document(root: str, children: Iterable[Node], *, status: int = 200) -> Response:
    """A reply with this XML document."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{_NAMESPACE}">'
    text += "".join(_render(node) for node in children) + f"</{root}>"
    return Response(status, (("content-type", "application/xml"),), text.encode())


def timestamp(moment: datetime) -> str:
    """S3's ISO 8601 with milliseconds."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def url_encoded(text: str) -> str:
    """A key under `encoding-type=url`: S3 writes a space as a plus, keeps `/` and `*`."""
    return quote_plus(text, safe="/*").replace("~", "%7E")


class KeyToDelete(NamedTuple):
    """One entry of a DeleteObjects request."""

    key: str
    etag: str | None
    conditional: bool


def parse_delete(body: bytes) -> tuple[list[KeyToDelete], bool]:
    """The entries of a DeleteObjects request, and whether it asks for errors only."""
    root = _parse(body, "Delete")
    entries: list[KeyToDelete] = []
    for item in root.findall("Object"):
        key = item.findtext("Key")
        if not key or item.find("VersionId") is not None:
            raise _malformed()
        dated = item.find("LastModifiedTime") is not None or item.find("Size") is not None
        etag = item.findtext("ETag")
        entries.append(KeyToDelete(key, etag, dated or etag is not None))
    if not 1 <= len(entries) <= 1000:
        raise _malformed()
    return entries, root.findtext("Quiet", "").lower() == "true"


def parse_parts(body: bytes) -> list[tuple[int, str]]:
    """The (part number, ETag) list of a CompleteMultipartUpload request."""
    chosen: list[tuple[int, str]] = []
    for item in _parse(body, "CompleteMultipartUpload").findall("Part"):
        number, etag = item.findtext("PartNumber", ""), item.findtext("ETag", "")
        if not number.isdecimal() or not etag:
            raise _malformed()
        chosen.append((int(number), etag))
    return chosen


def parse_location(body: bytes) -> str | None:
    """The LocationConstraint of a CreateBucket request."""
    if not body:
        return None
    return _parse(body, "CreateBucketConfiguration").findtext("LocationConstraint")


def _render(node: Node) -> str:
    name, content = node
    if isinstance(content, str):
        inner = _ESCAPED.sub(_reference, content)
    else:
        inner = "".join(_render(child) for child in content)
    return f"<{name}>{inner}</{name}>"


def _reference(match: re.Match[str]) -> str:
    character = match[0]
    return _NAMED.get(character, f"&#{ord(character)};")


def _parse(body: bytes, root: str) -> ElementTree.Element:
    try:
        element = ElementTree.fromstring(body)  # noqa: S314 - a test's own client sent it
    except ElementTree.ParseError:
        raise _malformed() from None
    for item in element.iter():
        item.tag = item.tag.rpartition("}")[2]
    if element.tag != root:
        raise _malformed()
    return element


def _malformed() -> S3Error:
    return S3Error(
        400,
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )
