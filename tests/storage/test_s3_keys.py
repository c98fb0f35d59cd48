"""Which keys go through obstore, and that every key is stored and found byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import obstore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from cm_platform.runtime import drive
from cm_platform.storage.s3 import S3Storage
from cm_platform.storage.s3.sayable import says_key
from cm_platform.testing.servers import S3Server

from .s3_faces import FACES, PLAIN, Face, body, failure, keys, on, opened, s3_config

# What clients, URL libraries and servers like to change on their way.
AWKWARD = "/.%\\~#?*[]+ &=;:,<>'\"`|^{}!$()@_-\t\n\r\x00\x1f\x7f\x85\u00e9\u0301\u2028\ufeff\ufffe"
SEGMENTS = ["", ".", "..", "...", "%2e%2e", "%2F", "%", "a", "~", "*", "\U0001f600", "e\u0301"]

any_key = st.one_of(
    st.text(st.one_of(st.sampled_from(AWKWARD), st.characters()), min_size=1, max_size=20),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=5).map("/".join),
)
sayable_key = any_key.filter(
    lambda key: (
        key.encode("utf-8", "surrogatepass").decode("utf-8", "ignore") == key
        and not {".", ".."} & set(key.split("/"))
        and key.strip("/") != ""
        and "\x00" not in key
    )
)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@contextmanager
def _opened(server: S3Server) -> Iterator[S3Storage]:
    storage = opened(s3_config(server.new_bucket()))
    yield storage
    drive(storage.close())


def _stored_by_obstore(key: str) -> str | None:
    """The key under which obstore stores, None where it refuses."""
    store = MemoryStore()
    try:
        obstore.put(store, key, b"")
    except (ValueError, TypeError):
        return None
    stored = [meta["path"] for page in obstore.list(store) for meta in page]
    return stored[0] if stored else None


@settings(max_examples=500, deadline=None)
@given(any_key)
def test_obstore_is_given_exactly_the_keys_that_it_does_not_change(key: str) -> None:
    assert says_key(key) == (_stored_by_obstore(key) == key)


@pytest.mark.parametrize("key", ["", "/", "//", "a/", "/a", "a//b", ".", "a/..", "a\n", "\ud800"])
def test_keys_that_obstore_would_change_do_not_go_there(key: str) -> None:
    assert not says_key(key)


@pytest.mark.parametrize(
    "key", ["a", "a/b", "...", "a/.b", "%2e%2e/x", "~*[]#?%\\", "\u0085", "caf\u00e9", "x" * 1024]
)
def test_ordinary_keys_go_through_obstore(key: str) -> None:
    assert says_key(key)


def test_every_key_is_stored_and_found_byte_for_byte(server: S3Server) -> None:
    with _opened(server) as storage:

        @settings(
            max_examples=80, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
        )
        @given(sayable_key)
        def holds(key: str) -> None:
            drive(storage.put(key, key.encode(), PLAIN))
            # boto3 lists what obstore stored, and finds it; then the way that belongs to the key.
            assert drive(keys(storage)) == [key]
            assert storage.native().head_object(Bucket=storage._bucket, Key=key)["ETag"]
            assert drive(body(storage, key)) == key.encode()
            assert drive(storage.head(key)).key == key
            drive(storage.delete(key))
            assert drive(keys(storage)) == []

        holds()


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("key", ["", ".", "..", "a/../b", "./a", "a/.", "\ud800"])
def test_a_key_that_cannot_be_said_is_refused(face: Face, key: str, server: S3Server) -> None:
    async def scenario(storage: S3Storage) -> None:
        for call in (
            storage.head(key),
            storage.get(key),
            storage.put(key, b"x", PLAIN),
            storage.delete(key),
            storage.delete(key, if_match="0"),
            storage.delete_many(["fine", key]),
            storage.copy("a", key, PLAIN, etag="0"),
            storage.copy(key, "a", PLAIN, etag="0"),
            storage.create_multipart(key, PLAIN),
            storage.presign(key, "GET", expires_in=1, attributes=PLAIN),
        ):
            assert (await failure(storage, call)).code == "invalid_argument"

    on(face, s3_config(server.endpoint), scenario)


@pytest.mark.parametrize("face", FACES)
def test_a_backend_that_moves_ordinary_bytes_never_makes_boto3s_client(
    face: Face, server: S3Server
) -> None:
    async def scenario(storage: S3Storage) -> None:
        await storage.put("ordinary", b"x", PLAIN)
        assert await body(storage, "ordinary") == b"x"
        await storage.head("ordinary")
        await storage.delete("ordinary")
        assert storage._complete._client is None

    on(face, s3_config(server.new_bucket()), scenario)
