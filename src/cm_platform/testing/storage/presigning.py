"""The suite of presigned requests, made for real and without credentials."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPSConnection
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from cm_platform.errors import NotFoundError, PlatformError
from cm_platform.storage.backend import StorageCapability

from .harness import StorageFace, StorageHarness, need, refused
from .keys import LEGAL

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage
    from cm_platform.storage.view import PresignedUrl

_TIMEOUT = 20.0


class HttpReply(NamedTuple):
    """What a server answered. headers: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def send(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> HttpReply:
    """Make a request as somebody without credentials: no header that is not said here."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    connection = (HTTPSConnection if secure else HTTPConnection)(parts.netloc, timeout=_TIMEOUT)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, dict(headers or {}))
        with connection.getresponse() as reply:
            names = {name.lower(): value for name, value in reply.getheaders()}
            return HttpReply(reply.status, names, reply.read())
    finally:
        connection.close()


def follow(presigned: PresignedUrl, body: bytes | None = None) -> HttpReply:
    """Use a presigned request as it is meant."""
    return send(presigned.method, presigned.url, presigned.headers, body)


class PresigningConformance(StorageHarness):
    """Skipped on a backend that does not declare it."""

    @pytest.fixture
    def signing(self, storage: Storage) -> Storage:
        """The empty storage of a new tenant, if it can presign."""
        need(storage, StorageCapability.PRESIGN)
        return storage

    def test_anybody_may_read_by_a_presigned_get(self, signing: Storage) -> None:
        for name, key in LEGAL.items():
            signing.put(key, name.encode(), content_type="text/plain")
            reply = follow(signing.presign(key))
            assert (reply.status, reply.body) == (200, name.encode()), name
            assert reply.headers["content-type"] == "text/plain", name

    def test_anybody_may_write_by_a_presigned_put(self, signing: Storage) -> None:
        for name, key in LEGAL.items():
            reply = follow(signing.presign(key, "PUT"), name.encode())
            assert reply.status in (200, 201, 204), f"{name}: {reply}"
            assert signing.get(key).read() == name.encode(), name
            head = signing.head(key)
            assert (head.sha256, head.revision) == (None, None), name
        in_order = sorted(LEGAL.values(), key=str.encode)
        assert [listed.key for listed in signing.list()] == in_order

    def test_presign_needs_no_io(self, signing: Storage, face: StorageFace) -> None:
        face.calls.clear()
        signing.presign("nothing/here")
        assert face.calls == ["presign"]
        assert follow(signing.presign("nothing/here")).status == 404

    def test_a_get_says_how_the_reply_presents_itself(self, signing: Storage) -> None:
        signing.put("key", b"body")
        disposition = "attachment; filename*=UTF-8''%C3%89t%C3%A9.txt"
        reply = follow(
            signing.presign("key", content_type="text/plain", content_disposition=disposition)
        )
        assert reply.headers["content-type"] == "text/plain"
        assert reply.headers["content-disposition"] == disposition

    def test_a_put_binds_the_content_type(self, signing: Storage) -> None:
        presigned = signing.presign("key", "PUT", content_type="image/png")
        wrong = {**presigned.headers, "content-type": "text/html"}
        wrong = {
            name: value
            for name, value in wrong.items()
            if name.lower() != "content-type" or value == "text/html"
        }
        assert send("PUT", presigned.url, wrong, b"<script>").status == 403
        assert not signing.exists("key")
        assert follow(presigned, b"png").status in (200, 201, 204)
        assert signing.head("key").content_type == "image/png"

    def test_a_url_is_good_for_its_method_and_key_only(self, signing: Storage) -> None:
        signing.put("key", b"body")
        signing.put("kez", b"other")
        presigned = signing.presign("key")
        assert send("PUT", presigned.url, body=b"new").status == 403
        assert send("DELETE", presigned.url).status == 403
        assert send("GET", presigned.url.replace("/key?", "/kez?")).status == 403
        assert signing.get("key").read() == b"body"

    def test_the_life_of_a_url_is_told_and_cannot_be_stretched(
        self, signing: Storage, face: StorageFace
    ) -> None:
        signing.put("key", b"body")
        for seconds in (60, face.limits.max_presign):
            presigned = signing.presign("key", expires_in=seconds)
            ends = datetime.now(UTC) + timedelta(seconds=seconds)
            assert abs((presigned.expires_at - ends).total_seconds()) < 5
            assert follow(presigned).status == 200
        presigned = signing.presign("key", expires_in=60)
        stretched = presigned.url.replace("Expires=60", "Expires=6000")
        assert stretched != presigned.url
        assert send("GET", stretched).status == 403

    def test_a_wrong_life_is_refused(self, signing: Storage, face: StorageFace) -> None:
        expires_in: Any
        for expires_in in [0, -1, 7 * 24 * 3600 + 1, True, "60", 1.5, None, float("nan")]:
            refused(face, signing.presign, "key", expires_in=expires_in)

    def test_a_wrong_method_is_refused(self, signing: Storage, face: StorageFace) -> None:
        method: Any
        for method in ["DELETE", "get", "", None]:
            refused(face, signing.presign, "key", method)

    def test_a_wrong_header_is_refused(self, signing: Storage, face: StorageFace) -> None:
        for value in ["a\r\nx-evil: 1", "é", "", " a"]:
            refused(face, signing.presign, "key", content_type=value)
            refused(face, signing.presign, "key", content_disposition=value)

    def test_a_url_is_in_no_representation(self, signing: Storage) -> None:
        presigned = signing.presign("key")
        assert urlsplit(presigned.url).query not in repr(presigned)
        assert "ignature" not in repr(presigned)

    def test_a_presigned_upload_can_be_overwritten_and_deleted(self, signing: Storage) -> None:
        follow(signing.presign("key", "PUT"), b"uploaded")
        assert signing.copy("key", "copy").revision is not None
        signing.put("key", b"ours")
        signing.delete_many(["key", "copy"])
        with pytest.raises(NotFoundError) as caught:
            signing.get("key")
        assert isinstance(caught.value, PlatformError)


__all__ = ["HttpReply", "PresigningConformance", "follow", "send"]
