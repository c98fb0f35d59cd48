"""Attacks by presigned URLs, which the server must refuse."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

import pytest

from cm_platform.storage.backend import StorageCapability
from cm_platform.testing.isolation.judging import HARMLESS
from cm_platform.testing.storage.presigning import follow, send

from .scene import IsolationHarness, Scene


def moved(url: str, path: str) -> str:
    """The URL with another path."""
    return urlunsplit(urlsplit(url)._replace(path=path))


class PresignedIsolation(IsolationHarness):
    """Skipped on a backend that does not presign."""

    @pytest.fixture
    def signing(self, scene: Scene) -> Scene:
        """The scene, if its backend can presign."""
        if StorageCapability.PRESIGN not in scene.attacker.capabilities():
            pytest.skip("the backend does not declare presign")
        return scene

    def test_another_path_is_refused(self, signing: Scene) -> None:
        stage = signing.stage
        mine = quote(signing.face.physical(stage.attacker, ""))
        there = quote(signing.face.physical(stage.victim, "secret.txt"))
        for method, body in (("GET", None), ("PUT", b"mine now")):
            presigned = stage.attacker.presign("own/1", "GET" if body is None else "PUT")
            path = urlsplit(presigned.url).path
            assert path.endswith(f"{mine}own/1")
            root = path.removesuffix(f"{mine}own/1")
            up = "../" * mine.count("/")
            for trick in (
                f"{root}{there}",
                f"{root}{mine}{up}{there}",
                f"{root}{mine}{up.replace('/', '%2f')}{there}",
                f"{root}{mine}{up.replace('.', '%2e')}{there}",
                f"{root}{there}/../secret.txt",
                f"/{root}{there}",
                f"{root}/{there}",
                f"{root}{there}%00",
            ):
                url = moved(presigned.url, trick)
                reply = signing.expect(HARMLESS, send, method, url, presigned.headers, body)
                assert reply[0] >= 400, (method, trick, reply)

    def test_a_get_is_no_other_method(self, signing: Scene) -> None:
        presigned = signing.attacker.presign("own/1")
        for method, body in (("PUT", b"new"), ("POST", b"new"), ("DELETE", None)):
            assert send(method, presigned.url, presigned.headers, body).status >= 400, method
        assert signing.attacker.get("own/1").read() == b"own"

    def test_a_put_is_no_delete(self, signing: Scene) -> None:
        presigned = signing.attacker.presign("own/1", "PUT")
        assert send("DELETE", presigned.url, presigned.headers).status >= 400
        assert signing.attacker.get("own/1").read() == b"own"

    def test_a_life_cannot_be_stretched(self, signing: Scene) -> None:
        url = signing.attacker.presign("own/1", expires_in=60).url
        stretched = url.replace("Expires=60", "Expires=604800")
        assert stretched != url
        reply = signing.expect(HARMLESS, send, "GET", stretched)
        assert reply[0] >= 400

    def test_nothing_can_be_added_to_the_query(self, signing: Scene) -> None:
        url = signing.attacker.presign("own/1").url
        for query in ("versionId=null", "list-type=2&prefix=", "uploads", "acl", "x=y"):
            reply = signing.expect(HARMLESS, send, "GET", f"{url}&{query}")
            assert reply[0] >= 400, (query, reply)

    def test_a_signature_of_another_key_is_refused(self, signing: Scene) -> None:
        storage = signing.attacker
        first = urlsplit(storage.presign("own/1").url)
        second = urlsplit(storage.presign("own/2").url)
        url = urlunsplit(first._replace(query=second.query))
        assert signing.expect(HARMLESS, send, "GET", url)[0] >= 400

    def test_a_put_cannot_be_made_a_copy(self, signing: Scene) -> None:
        stage = signing.stage
        presigned = stage.attacker.presign("own/1", "PUT")
        victims = signing.face.physical(stage.victim, "secret.txt")
        root = urlsplit(presigned.url).path.removesuffix(
            quote(signing.face.physical(stage.attacker, "own/1"))
        )
        headers = {**presigned.headers, "x-amz-copy-source": root + quote(victims)}
        signing.expect(HARMLESS, send, "PUT", presigned.url, headers, b"")
        # Refused, or stored as the bytes that were sent: at any rate, nothing was copied.
        _, body = signing.expect(HARMLESS, stage.attacker.get, "own/1")
        assert body in (b"own", b"")

    def test_a_url_shows_only_its_own_object(self, signing: Scene) -> None:
        reply = signing.expect(HARMLESS, follow, signing.attacker.presign("own/1"))
        assert (reply[0], reply[2]) == (200, b"own")
        missing = signing.expect(HARMLESS, follow, signing.attacker.presign("secret.txt"))
        assert missing[0] == 404


__all__ = ["PresignedIsolation"]
