"""Attacks by keys, prefixes, ranges and headers: text that means more than it should."""

from __future__ import annotations

from typing import Any

import pytest

from cm_platform.storage.backend import StorageCapability
from cm_platform.testing.isolation.judging import HARMLESS

from .scene import IsolationHarness, Scene

# "<v>" stands for the victim's tenant id.
REFUSED_KEYS = {
    "up": "../<v>/secret.txt",
    "up twice": "../../<v>/secret.txt",
    "up ten times": "../" * 10 + "<v>/secret.txt",
    "down and up": "x/../../<v>/secret.txt",
    "here and up": "./../<v>/secret.txt",
    "up at the end": "x/..",
    "up in a query": "../<v>/secret.txt?versionId=null",
    "only up": "..",
    "only here": ".",
    "absolute": "/<v>/secret.txt",
    "absolute twice": "//<v>/secret.txt",
    "the root": "/",
    "nothing": "",
    "NUL before up": "\x00../<v>/secret.txt",
    "NUL after a name": "secret.txt\x00/../../<v>/secret.txt",
    "NUL in up": "..\x00/<v>/secret.txt",
    "newline": "\n<v>/secret.txt",
    "header": "secret.txt\r\nx-amz-copy-source: /bucket/<v>/secret.txt",
    "trailing newline": "secret.txt\n",
    "surrogates": "\udc2e\udc2e/<v>/secret.txt",
    "bytes": b"../secret.txt",
    "a list": ["secret.txt"],
}

# Legal keys that somebody below could take for something else.
OWN_KEYS = {
    "encoded slash": "..%2f<v>%2fsecret.txt",
    "encoded dots": "%2e%2e/<v>/secret.txt",
    "all encoded": "%2e%2e%2f<v>%2fsecret.txt",
    "encoded twice": "%252e%252e%252f<v>%252fsecret.txt",
    "overlong encoding": "%c0%ae%c0%ae/<v>/secret.txt",
    "encoded NUL": "%00/../<v>"[:3] + "/<v>/secret.txt",
    "encoded newline": "x%0d%0ax-amz-copy-source:%20<v>",
    "full-width dots": "．．/<v>/secret.txt",
    "full-width slash": "..／<v>／secret.txt",
    "two dot leader": "‥/<v>/secret.txt",
    "dots and nothing": "..\u200b/<v>/secret.txt",
    "dots and an accent": "..\u0301/<v>/secret.txt",
    "dots and a space": ".. /<v>/secret.txt",
    "dots and a semicolon": "..;/<v>/secret.txt",
    "three dots": ".../<v>/secret.txt",
    "backslashes": "..\\<v>\\secret.txt",
    "a drive": "C:\\..\\<v>\\secret.txt",
    "the victim's name": "<v>/secret.txt",
    "an empty segment": "x//<v>/secret.txt",
    "a file URL": "file:///<v>/secret.txt",
    "an S3 URL": "s3://bucket/<v>/secret.txt",
    "an HTTP URL": "http://127.0.0.1/<v>/secret.txt",
    "a version": "secret.txt?versionId=null",
    "a listing": "?list-type=2&prefix=<v>/",
    "a parameter": "x&prefix=<v>/",
    "a fragment": "#/<v>/secret.txt",
    "a placeholder": "{tenant}/{site}/{key}",
    "a format": "%s%(tenant)s{0}{self}",
    "a home": "~<v>/secret.txt",
    "a shell": "$(cat ..;<v>)`id`",
    "markup": "</Key></Object><Object><Key><v>/secret.txt</Key>",
    "a wildcard": "*",
    "the look of a sidecar": "secret.txt~object.json",
}

REFUSED_PREFIXES = {
    "up": "../",
    "up to the victim": "../<v>/",
    "down and up": "x/../../<v>/",
    "here": "./",
    "absolute": "/<v>/",
    "the root": "/",
    "NUL": "\x00",
    "newline": "\n",
    "surrogate": "\ud800",
}

EMPTY_PREFIXES = {
    "the victim": "<v>/",
    "the victim's ending": "b/",
    "dots, not yet a segment": "..",
    "encoded": "%2e%2e/<v>/",
    "a wildcard": "*",
    "a parameter": "&prefix=<v>/",
    "a delimiter": "&delimiter=",
    "full-width": "．．/",
    "backslash": "..\\",
    "the last character": "\U0010fffd",
}

HEADERS = {
    "a header in a value": {"metadata": {"note": "x\r\nx-amz-copy-source: /bucket/<v>/secret.txt"}},
    "a newline in a value": {"metadata": {"note": "x\nx-amz-acl: public-read"}},
    "a header in a name": {"metadata": {"note: x\r\nx-amz-acl": "public-read"}},
    "our revision": {"metadata": {"cm-rev": "0" * 32}},
    "our digest": {"metadata": {"cm-sha256": "0" * 64}},
    "what may be ours": {"metadata": {"cm-anything": "x"}},
    "ours, in capitals": {"metadata": {"CM-REV": "0" * 32}},
    "a header in the content type": {"content_type": "text/plain\r\nx-amz-acl: public-read"},
    "a header in the disposition": {"content_disposition": "inline\r\nx-amz-acl: public-read"},
    "a header in the cache control": {"cache_control": "no-store\nx-amz-acl: public-read"},
    "a header in the language": {"content_language": "fr\r\n\r\n<html>"},
    "a header in the etag": {"if_match": "x\r\nx-amz-copy-source: /bucket/<v>/secret.txt"},
    "a quote in the etag": {"if_match": 'x", "y'},
}


class ReachingIsolation(IsolationHarness):
    """Keys of others cannot be spelled."""

    @pytest.mark.parametrize("trick", list(REFUSED_KEYS.values()), ids=list(REFUSED_KEYS))
    def test_a_key_that_leads_elsewhere_is_refused(self, scene: Scene, trick: Any) -> None:
        key, storage = scene.aimed(trick), scene.attacker
        scene.refused(storage.get, key)
        scene.refused(storage.head, key)
        scene.refused(storage.exists, key)
        scene.refused(storage.verify, key)
        scene.refused(storage.get_range, key, 0)
        scene.refused(storage.get_ranges, key, [(0, 1)])
        scene.refused(storage.put, key, b"mine now")
        scene.refused(storage.put, key, iter([b"mine now"]))
        scene.refused(storage.delete, key)
        scene.refused(storage.delete_many, ["own/1", key])
        scene.refused(storage.copy, key, "stolen")
        scene.refused(storage.copy, "own/1", key)
        scene.refused(storage.presign, key)
        scene.refused(storage.presign, key, "PUT")
        assert storage.exists("own/1")

    @pytest.mark.parametrize("trick", list(OWN_KEYS.values()), ids=list(OWN_KEYS))
    def test_a_key_that_looks_odd_is_the_attackers_own(self, scene: Scene, trick: str) -> None:
        key, storage = scene.aimed(trick), scene.attacker
        scene.expect("not_found", storage.get, key)
        scene.expect("not_found", storage.head, key)
        scene.expect("not_found", storage.copy, key, "stolen")
        assert scene.expect(HARMLESS, storage.exists, key) is False
        scene.expect(HARMLESS, storage.delete, key)
        scene.expect(HARMLESS, storage.delete_many, [key])
        scene.expect(HARMLESS, storage.put, key, b"own")
        scene.expect(HARMLESS, storage.copy, key, "copy")
        assert scene.expect(HARMLESS, storage.get, "copy")[1] == b"own"
        scene.expect(HARMLESS, storage.copy, "own/1", key)
        assert scene.expect(HARMLESS, storage.get, key)[1] == b"own"
        keys = [listed.key for listed in scene.expect(HARMLESS, storage.list)]
        assert sorted(keys) == sorted(["own/1", "own/2", "own/3", "copy", key])

    @pytest.mark.parametrize("trick", list(REFUSED_PREFIXES.values()), ids=list(REFUSED_PREFIXES))
    def test_a_prefix_that_leads_elsewhere_is_refused(self, scene: Scene, trick: str) -> None:
        prefix = scene.aimed(trick)
        scene.refused(scene.attacker.list, prefix)
        scene.refused(scene.attacker.list_page, prefix)
        scene.refused(scene.attacker.list_page, prefix, delimiter="/")

    @pytest.mark.parametrize("trick", list(EMPTY_PREFIXES.values()), ids=list(EMPTY_PREFIXES))
    def test_a_prefix_that_looks_odd_finds_nothing(self, scene: Scene, trick: str) -> None:
        prefix, storage = scene.aimed(trick), scene.attacker
        assert scene.expect(HARMLESS, storage.list, prefix) == []
        page = scene.expect(HARMLESS, storage.list_page, prefix, delimiter="/")
        assert (list(page.objects), list(page.prefixes)) == ([], [])

    def test_a_whole_listing_has_only_what_is_the_attackers(self, scene: Scene) -> None:
        own = ["own/1", "own/2", "own/3"]
        found = scene.expect(HARMLESS, scene.attacker.list)
        assert [listed.key for listed in found] == own
        page = scene.expect(HARMLESS, scene.attacker.list_page, delimiter="/")
        assert list(page.prefixes) == ["own/"]
        assert list(page.objects) == []

    @pytest.mark.parametrize("arguments", list(HEADERS.values()), ids=list(HEADERS))
    def test_nothing_is_smuggled_into_a_header(
        self, scene: Scene, arguments: dict[str, Any]
    ) -> None:
        scene.refused(scene.attacker.put, "own/1", b"body", **arguments)
        if "if_match" in arguments:
            scene.refused(scene.attacker.get, "own/1", **arguments)
            scene.refused(scene.attacker.delete, "own/1", **arguments)

    def test_metadata_with_a_headers_name_stays_metadata(self, scene: Scene) -> None:
        source = scene.aimed("/<v>/secret.txt")
        metadata = {"x-amz-copy-source": source, "host": "x", "content-length": "0"}
        scene.expect(HARMLESS, scene.attacker.put, "own/1", b"own", metadata=metadata)
        info, body = scene.expect(HARMLESS, scene.attacker.get, "own/1")
        assert (info.metadata, body) == (metadata, b"own")

    @pytest.mark.parametrize(
        ("start", "length"),
        [(3, 1), (3, None), (2**61, 1), (10**30, 1)],
        ids=["the end", "from the end on", "2 to the 61st", "beyond any integer"],
    )
    def test_a_range_beyond_the_end_reads_nothing(
        self, scene: Scene, start: int, length: int | None
    ) -> None:
        scene.expect("invalid_argument", scene.attacker.get_range, "own/1", start, length)

    @pytest.mark.parametrize(
        ("start", "length"), [(0, 2**31), (0, 2**61), (-(2**31), None), (-(2**61), None)]
    )
    def test_a_range_too_long_reads_the_object(
        self, scene: Scene, start: int, length: int | None
    ) -> None:
        found = scene.expect(HARMLESS, scene.attacker.get_range, "own/1", start, length)
        assert found == b"own"

    def test_others_etags_open_nothing(self, scene: Scene) -> None:
        etag = scene.stage.victim.head("secret.txt").etag
        scene.expect("precondition_failed", scene.attacker.get, "own/1", if_match=etag)
        scene.expect("not_found", scene.attacker.get, "secret.txt", if_match=etag)
        if StorageCapability.CONDITIONAL_REPLACE in scene.attacker.capabilities():
            scene.expect("precondition_failed", scene.attacker.put, "own/1", b"x", if_match=etag)
            scene.expect(
                "precondition_failed", scene.attacker.put, "secret.txt", b"x", if_match=etag
            )

    def test_a_name_that_a_victim_has_is_free(self, scene: Scene) -> None:
        if StorageCapability.CONDITIONAL_CREATE not in scene.attacker.capabilities():
            pytest.skip("the backend does not declare conditional_create")
        scene.expect(HARMLESS, scene.attacker.put, "secret.txt", b"own", if_none_match="*")


__all__ = ["ReachingIsolation"]
