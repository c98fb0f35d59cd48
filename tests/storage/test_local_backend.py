"""`storage.local` keeps the contract of `StorageBackend`, under both runtimes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cm_platform.errors import (
    AlreadyExistsError,
    IntegrityError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedError,
)
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Runtime, drive
from cm_platform.storage.backend import Attributes, ObjectReply, StorageBackend
from cm_platform.storage.local import BACKEND, LocalConfig, LocalStorage

PLAIN = Attributes()
FULL = Attributes(
    content_type="text/plain; charset=utf-8",
    cache_control="max-age=60",
    content_disposition='attachment; filename="a.txt"',
    content_encoding="gzip",
    content_language="fr",
    metadata={"author": "somebody", "x-1": "a b"},
)
# The same in every process: pieces of it are part of test names.
BIG = b"".join(n.to_bytes(4, "big") for n in range(786_437))[: 3 * 1024**2 + 17]


@dataclass
class Face:
    """A store and how its coroutines are run."""

    store: LocalStorage
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def put(self, key: str, data: bytes = b"x", attributes: Attributes = PLAIN, **how: Any) -> str:
        written = self.run(self.store.put(key, data, attributes, **how))
        assert isinstance(written.etag, str)
        return written.etag

    def read(self, key: str, **how: Any) -> bytes:
        reply: ObjectReply = self.run(self.store.get(key, **how))
        try:
            data = self.run(reply.read())
            assert isinstance(data, bytes)
            return data
        finally:
            self.run(reply.close())


async def open_store(config: LocalConfig, runtime: Runtime) -> LocalStorage:
    store = await BACKEND.open(config, runtime)
    assert isinstance(store, LocalStorage)
    return store


@pytest.fixture(params=["blocking", "async"])
def face(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Face]:
    config = LocalConfig(path=tmp_path / "store")
    with asyncio.Runner() as runner:
        runtime: Runtime
        run: Callable[[Coroutine[Any, Any, Any]], Any]
        if request.param == "async":
            runtime, run = AsyncRuntime(), runner.run
        else:
            runtime, run = BlockingRuntime(), drive
        store = run(open_store(config, runtime))
        yield Face(store, run)
        run(store.close())
        run(store.close())
        run(runtime.close())


def test_it_is_a_storage_backend(face: Face) -> None:
    backend: StorageBackend = face.store
    assert backend.capabilities == BACKEND.capabilities


@pytest.mark.parametrize("data", [b"", b"hello", BIG], ids=["empty", "small", "big"])
def test_get_returns_what_put_stored(face: Face, data: bytes) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    etag = face.put("a/b.txt", data, FULL)
    reply = face.run(face.store.get("a/b.txt"))
    info = face.run(face.store.head("a/b.txt"))
    assert reply.info == info
    assert face.run(reply.read()) == data
    face.run(reply.close())
    assert (info.key, info.size, info.etag) == ("a/b.txt", len(data), etag)
    assert before <= info.last_modified <= datetime.now(UTC)
    assert info.last_modified.utcoffset() == timedelta(0)
    assert info.content_type == FULL.content_type
    assert info.cache_control == FULL.cache_control
    assert info.content_disposition == FULL.content_disposition
    assert info.content_encoding == FULL.content_encoding
    assert info.content_language == FULL.content_language
    assert info.metadata == FULL.metadata
    assert info.sha256 is None
    assert info.revision is None


def test_put_takes_a_memoryview_of_any_layout(face: Face) -> None:
    face.run(face.store.put("a", memoryview(b"abcdef")[::2], PLAIN))
    assert face.read("a") == b"ace"


def test_put_replaces_bytes_and_attributes_together(face: Face) -> None:
    face.put("a", b"one", FULL)
    face.put("a", b"three")
    info = face.run(face.store.head("a"))
    assert (info.size, info.content_type, info.metadata) == (5, None, {})
    assert face.read("a") == b"three"


def test_every_write_has_another_etag_also_of_the_same_bytes(face: Face) -> None:
    assert len({face.put("a", b"same") for _ in range(5)}) == 5


def test_a_replaced_or_deleted_object_leaves_no_file(face: Face) -> None:
    for data in (b"1", b"2"):
        face.put("a/b/c", data)
    face.run(face.store.delete("a/b/c"))
    objects = face.store.native() / "objects"
    assert list(objects.iterdir()) == []


def test_a_key_and_keys_below_it_live_side_by_side(face: Face) -> None:
    keys = ["a", "a/", "a//", "a/b", "a/b/c", "A", "a~object.json", ".", "..", "../a", "/"]
    for key in keys:
        face.put(key, key.encode())
    assert [face.read(key) for key in keys] == [key.encode() for key in keys]
    for key in keys:
        face.run(face.store.delete(key))
        with pytest.raises(NotFoundError):
            face.run(face.store.head(key))


def test_what_is_not_there_is_not_found(face: Face) -> None:
    face.put("a/b")
    for key in ("a", "a/b/c", "b", "a/b~object.json"):
        with pytest.raises(NotFoundError):
            face.run(face.store.head(key))
        with pytest.raises(NotFoundError):
            face.run(face.store.get(key))


def test_a_key_that_utf8_cannot_say_is_refused(face: Face) -> None:
    with pytest.raises(InvalidArgumentError):
        face.put("\ud800")
    with pytest.raises(InvalidArgumentError):
        face.run(face.store.list("\ud800", delimiter=None, cursor=None, limit=1))
    with pytest.raises(InvalidArgumentError):
        face.run(face.store.create_multipart("\ud800", PLAIN))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, BIG),
        (0, 1, BIG[:1]),
        (5, 2 * 1024**2, BIG[5 : 2 * 1024**2]),
        (len(BIG) - 1, None, BIG[-1:]),
        (10, len(BIG) + 5, BIG[10:]),
        (-7, None, BIG[-7:]),
        (-len(BIG) - 1, None, BIG),
    ],
)
def test_get_reads_a_range(face: Face, start: int, end: int | None, expected: bytes) -> None:
    face.put("a", BIG)
    reply = face.run(face.store.get("a", start=start, end=end))
    assert reply.info.size == len(BIG)
    assert face.run(reply.read()) == expected
    assert face.run(reply.read()) == b""
    face.run(reply.close())


@pytest.mark.parametrize(
    ("size", "start", "end"),
    [(3, 3, None), (3, 4, 9), (0, 1, None), (0, 0, 1), (0, -1, None)],
)
def test_get_refuses_a_start_at_or_beyond_the_end(
    face: Face, size: int, start: int, end: int | None
) -> None:
    face.put("a", b"x" * size)
    with pytest.raises(InvalidArgumentError):
        face.run(face.store.get("a", start=start, end=end))


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (2, 2), (2, 1), (0, 0), (0, -1)])
def test_get_refuses_what_is_no_range(face: Face, start: int, end: int) -> None:
    with pytest.raises(InvalidArgumentError, match="range"):
        face.run(face.store.get("nothing there", start=start, end=end))


def test_get_if_match_refuses_another_etag(face: Face) -> None:
    old = face.put("a", b"old")
    new = face.put("a", b"new")
    assert face.read("a", if_match=new) == b"new"
    with pytest.raises(PreconditionFailedError):
        face.run(face.store.get("a", if_match=old))
    with pytest.raises(NotFoundError):
        face.run(face.store.get("b", if_match=old))


def test_chunks_are_small_and_make_the_whole(face: Face) -> None:
    face.put("a", BIG)

    async def collect() -> list[bytes]:
        reply = await face.store.get("a", start=1)
        pieces = [piece async for piece in reply.chunks()]
        await reply.close()
        return pieces

    pieces = face.run(collect())
    assert b"".join(pieces) == BIG[1:]
    assert max(map(len, pieces)) <= 4 * 1024**2


def test_read_after_some_chunks_reads_the_rest(face: Face) -> None:
    face.put("a", BIG)

    async def collect() -> tuple[bytes, bytes]:
        reply = await face.store.get("a")
        async for piece in reply.chunks():
            rest = await reply.read()
            await reply.close()
            return piece, rest
        raise AssertionError("no chunk came")

    first, rest = face.run(collect())
    assert first + rest == BIG
    assert rest


@pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
def test_a_reader_keeps_the_version_that_it_opened(face: Face, data: bytes) -> None:
    face.put("a", data)
    replaced = face.run(face.store.get("a"))
    face.put("a", b"new")
    deleted = face.run(face.store.get("a"))
    face.run(face.store.delete("a"))
    assert face.run(replaced.read()) == data
    assert face.run(deleted.read()) == b"new"
    face.run(replaced.close())
    face.run(deleted.close())


@pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
def test_a_reply_can_be_closed_twice_and_is_not_read_again(face: Face, data: bytes) -> None:
    face.put("a", data)
    reply = face.run(face.store.get("a"))
    face.run(reply.close())
    face.run(reply.close())
    with pytest.raises(InternalError):
        face.run(reply.read())


def test_put_if_none_match_refuses_an_existing_key(face: Face) -> None:
    etag = face.put("a", b"first", if_none_match=True)
    with pytest.raises(AlreadyExistsError):
        face.put("a", b"second", if_none_match=True)
    assert face.run(face.store.head("a")).etag == etag
    assert face.read("a") == b"first"


def test_put_if_match_replaces_that_version_only(face: Face) -> None:
    old = face.put("a", b"1")
    face.put("a", b"2", if_match=old)
    with pytest.raises(PreconditionFailedError):
        face.put("a", b"3", if_match=old)
    with pytest.raises(PreconditionFailedError):
        face.put("b", b"3", if_match=old)
    assert face.read("a") == b"2"


def test_a_refused_write_leaves_no_file(face: Face) -> None:
    with pytest.raises(PreconditionFailedError):
        face.put("a/b", b"3", if_match="0" * 24)
    assert list((face.store.native() / "objects").rglob("*")) == []


def test_delete_of_nothing_is_no_error(face: Face) -> None:
    face.run(face.store.delete("a/b"))
    face.put("a/b")
    face.run(face.store.delete("a/b"))
    face.run(face.store.delete("a/b"))


def test_delete_if_match_removes_that_version_only(face: Face) -> None:
    old = face.put("a")
    new = face.put("a")
    with pytest.raises(PreconditionFailedError):
        face.run(face.store.delete("a", if_match=old))
    face.run(face.store.delete("a", if_match=new))
    with pytest.raises(PreconditionFailedError):
        face.run(face.store.delete("a", if_match=new))


def test_delete_many_accounts_for_every_key(face: Face) -> None:
    face.put("a/1")
    face.put("a/2")
    failures = face.run(face.store.delete_many(["a/1", "a/2", "nothing", "\ud800"]))
    assert list(failures) == ["\ud800"]
    assert isinstance(failures["\ud800"], InvalidArgumentError)
    assert face.run(face.store.list("", delimiter=None, cursor=None, limit=9)).objects == []


def test_copy_takes_the_bytes_and_new_attributes(face: Face) -> None:
    etag = face.put("a", BIG, PLAIN)
    written = face.run(face.store.copy("a", "b/c", FULL, etag=etag))
    face.run(face.store.delete("a"))
    info = face.run(face.store.head("b/c"))
    assert (info.etag, info.content_type) == (written.etag, FULL.content_type)
    assert written.etag != etag
    assert face.read("b/c") == BIG


def test_copy_onto_itself_replaces_the_attributes(face: Face) -> None:
    etag = face.put("a", b"data")
    face.run(face.store.copy("a", "a", FULL, etag=etag))
    assert face.read("a") == b"data"
    assert face.run(face.store.head("a")).metadata == FULL.metadata


def test_copy_without_links_copies(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "no links on this file system")

    monkeypatch.setattr(os, "link", refuse)
    etag = face.put("a", BIG)
    face.run(face.store.copy("a", "b", PLAIN, etag=etag))
    assert face.read("b") == BIG


def test_copy_checks_source_and_target(face: Face) -> None:
    etag = face.put("a", b"source")
    face.put("b", b"target")
    with pytest.raises(NotFoundError):
        face.run(face.store.copy("c", "d", PLAIN, etag=etag))
    with pytest.raises(PreconditionFailedError):
        face.run(face.store.copy("a", "d", PLAIN, etag="0" * 24))
    with pytest.raises(AlreadyExistsError):
        face.run(face.store.copy("a", "b", PLAIN, etag=etag, if_none_match=True))
    assert face.read("b") == b"target"
    face.run(face.store.copy("a", "e", PLAIN, etag=etag, if_none_match=True))
    assert face.read("e") == b"source"


def test_presign_is_unsupported(face: Face) -> None:
    with pytest.raises(UnsupportedError):
        face.run(face.store.presign("a", "GET", expires_in=60, attributes=PLAIN))


def test_ping_says_when_the_directory_is_gone(face: Face) -> None:
    face.run(face.store.ping())
    root = face.store.native()
    root.rename(root.with_name("unmounted"))
    with pytest.raises(UnavailableError) as failure:
        face.run(face.store.ping())
    assert failure.value.retryable


def test_a_store_that_is_gone_is_not_an_empty_one(face: Face) -> None:
    face.put("a")
    root = face.store.native()
    root.rename(root.with_name("unmounted"))
    with pytest.raises(UnavailableError):
        face.run(face.store.head("a"))
    with pytest.raises(UnavailableError):
        face.run(face.store.get("a"))
    with pytest.raises(UnavailableError):
        face.run(face.store.list("", delimiter=None, cursor=None, limit=1))
    with pytest.raises(UnavailableError):
        face.put("a")
    with pytest.raises((PlatformError, OSError)) as failure:
        face.run(face.store.delete("a"))
    error = failure.value
    if not isinstance(error, PlatformError):
        translated = face.store.translate(error)
        assert translated is not None
        error = translated
    assert error.code == "unavailable"
    assert not root.exists()


def test_damage_is_told_and_mended_by_a_put(face: Face) -> None:
    face.put("a", b"12345")
    objects = face.store.native() / "objects"
    (data,) = objects.glob("*.data")
    data.write_bytes(b"123")
    with pytest.raises(IntegrityError):
        face.run(face.store.get("a"))
    data.unlink()
    with pytest.raises(IntegrityError):
        face.run(face.store.get("a"))
    (objects / "a~object.json").write_bytes(b"{}")
    with pytest.raises(IntegrityError):
        face.run(face.store.head("a"))
    face.put("a", b"mended")
    assert face.read("a") == b"mended"


def test_a_sidecar_cannot_lend_its_bytes_to_another_key(face: Face) -> None:
    face.put("a", b"secret")
    objects = face.store.native() / "objects"
    (objects / "a~object.json").rename(objects / "b~object.json")
    with pytest.raises(IntegrityError):
        face.run(face.store.get("b"))
