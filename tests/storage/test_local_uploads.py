"""Uploads in parts on `storage.local`, under both runtimes."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from cm_platform.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidArgumentError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
)
from cm_platform.runtime import AsyncRuntime, BlockingRuntime, Runtime, drive
from cm_platform.storage.backend import Attributes, Part, Written
from cm_platform.storage.local import BACKEND, LocalConfig, LocalStorage

Run = Callable[[Coroutine[Any, Any, Any]], Any]
PLAIN = Attributes()


async def open_store(path: Path, runtime: Runtime) -> LocalStorage:
    store = await BACKEND.open(LocalConfig(path=path), runtime)
    assert isinstance(store, LocalStorage)
    return store


class Uploading:
    """A store, and an upload to "a/b" in it."""

    def __init__(self, store: LocalStorage, run: Run) -> None:
        self.store = store
        self.run = run
        attributes = Attributes(content_type="text/plain", metadata={"a": "1"})
        self.id: str = run(store.create_multipart("a/b", attributes))

    def part(self, number: int, data: bytes) -> Part:
        part = self.run(self.store.put_part("a/b", self.id, number, data))
        assert isinstance(part, Part)
        return part

    def complete(self, *parts: Part, **how: Any) -> Written:
        written = self.run(self.store.complete_multipart("a/b", self.id, parts, **how))
        assert isinstance(written, Written)
        return written

    def read(self, key: str = "a/b") -> bytes:
        async def whole() -> bytes:
            reply = await self.store.get(key)
            data = await reply.read()
            await reply.close()
            return data

        data = self.run(whole())
        assert isinstance(data, bytes)
        return data

    def left(self) -> list[Path]:
        return list((self.store.native() / "uploads").iterdir())


@pytest.fixture(params=["blocking", "async"])
def upload(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Uploading]:
    with asyncio.Runner() as runner:
        runtime: Runtime
        run: Run
        if request.param == "async":
            runtime, run = AsyncRuntime(), runner.run
        else:
            runtime, run = BlockingRuntime(), drive
        yield Uploading(run(open_store(tmp_path, runtime)), run)
        run(runtime.close())


def test_parts_become_one_object_in_order(upload: Uploading) -> None:
    pieces = [os.urandom(1024**2 + 1), b"", b"b" * 10, b"c"]
    parts = [upload.part(number, pieces[number - 1]) for number in (4, 2, 1, 3)]
    written = upload.complete(*sorted(parts, key=lambda part: part.number))
    info = upload.run(upload.store.head("a/b"))
    assert upload.read() == b"".join(pieces)
    assert (info.etag, info.last_modified) == (written.etag, written.last_modified)
    assert (info.content_type, info.metadata) == ("text/plain", {"a": "1"})
    assert upload.left() == []


def test_nothing_is_visible_before_it_is_completed(upload: Uploading) -> None:
    upload.part(1, b"data")
    page = upload.run(upload.store.list("", delimiter=None, cursor=None, limit=10))
    assert (page.objects, page.prefixes, page.cursor) == ([], [], None)
    with pytest.raises(NotFoundError):
        upload.run(upload.store.head("a/b"))


def test_a_part_replaces_the_earlier_one_of_its_number(upload: Uploading) -> None:
    old = upload.part(1, b"old")
    new = upload.part(1, b"new")
    with pytest.raises(InvalidArgumentError, match="etag"):
        upload.complete(old)
    upload.complete(new)
    assert upload.read() == b"new"


def test_complete_may_leave_parts_out(upload: Uploading) -> None:
    one, _, three = (upload.part(number, str(number).encode()) for number in (1, 2, 3))
    upload.complete(one, three)
    assert upload.read() == b"13"


@pytest.mark.parametrize("order", [[], [2, 1], [1, 1], [1, 9]])
def test_complete_refuses_parts_that_make_no_order(upload: Uploading, order: list[int]) -> None:
    known = {number: upload.part(number, b"x") for number in (1, 2)}
    with pytest.raises(InvalidArgumentError):
        upload.complete(*(known.get(number, Part(number, "0" * 24)) for number in order))
    upload.complete(known[1], known[2])


def test_an_upload_is_completed_once(upload: Uploading) -> None:
    part = upload.part(1, b"x")
    upload.complete(part)
    with pytest.raises(NotFoundError):
        upload.complete(part)
    with pytest.raises(NotFoundError):
        upload.part(1, b"y")


@pytest.mark.parametrize("upload_id", ["0" * 24, "../objects", "", "x/y", "\0"])
def test_an_unknown_upload_is_not_found(upload: Uploading, upload_id: str) -> None:
    with pytest.raises(NotFoundError):
        upload.run(upload.store.put_part("a/b", upload_id, 1, b"x"))
    with pytest.raises(NotFoundError):
        upload.run(upload.store.complete_multipart("a/b", upload_id, [Part(1, "x")]))
    upload.run(upload.store.abort_multipart("a/b", upload_id))


def test_an_upload_belongs_to_its_key(upload: Uploading) -> None:
    part = upload.part(1, b"x")
    with pytest.raises(NotFoundError):
        upload.run(upload.store.put_part("other", upload.id, 1, b"y"))
    with pytest.raises(NotFoundError):
        upload.run(upload.store.complete_multipart("other", upload.id, [part]))
    upload.run(upload.store.abort_multipart("other", upload.id))
    upload.complete(part)
    assert upload.read() == b"x"


def test_abort_forgets_the_parts_and_can_be_repeated(upload: Uploading) -> None:
    part = upload.part(1, b"x")
    for _ in range(2):
        upload.run(upload.store.abort_multipart("a/b", upload.id))
    assert upload.left() == []
    with pytest.raises(NotFoundError):
        upload.complete(part)


def test_complete_if_none_match_refuses_an_existing_key(upload: Uploading) -> None:
    part = upload.part(1, b"upload")
    taken = upload.run(upload.store.put("a/b", b"taken", PLAIN))
    with pytest.raises(AlreadyExistsError):
        upload.complete(part, if_none_match=True)
    assert upload.read() == b"taken"
    upload.run(upload.store.delete("a/b", if_match=taken.etag))
    upload.complete(part, if_none_match=True)
    assert upload.read() == b"upload"


def test_complete_if_match_replaces_that_version_only(upload: Uploading) -> None:
    part = upload.part(1, b"upload")
    with pytest.raises(PreconditionFailedError):
        upload.complete(part, if_match="0" * 24)
    written = upload.run(upload.store.put("a/b", b"old", PLAIN))
    upload.complete(part, if_match=written.etag)
    assert upload.read() == b"upload"


@pytest.mark.parametrize("kernel_copies", [True, False])
def test_copy_part_takes_a_range_of_an_object(
    upload: Uploading, kernel_copies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSYS, "not on this kernel")

    if not kernel_copies:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    data = os.urandom(3 * 1024**2)
    etag = upload.run(upload.store.put("source", data, PLAIN)).etag
    copied = upload.run(
        upload.store.copy_part("a/b", upload.id, 1, "source", 7, 2 * 1024**2 + 9, etag)
    )
    upload.complete(copied, upload.part(2, b"end"))
    assert upload.read() == data[7 : 2 * 1024**2 + 9] + b"end"


def test_copy_part_checks_its_source(upload: Uploading) -> None:
    etag = upload.run(upload.store.put("source", b"12345", PLAIN)).etag

    def copy(source: str, start: int, end: int, etag: str) -> None:
        upload.run(upload.store.copy_part("a/b", upload.id, 1, source, start, end, etag))

    with pytest.raises(PreconditionFailedError):
        copy("source", 0, 5, "0" * 24)
    with pytest.raises(NotFoundError):
        copy("nothing", 0, 5, etag)
    for start, end in ((0, 6), (5, 5), (-1, 3), (4, 2)):
        with pytest.raises(InvalidArgumentError):
            copy("source", start, end, etag)
    with pytest.raises(NotFoundError):
        upload.run(upload.store.copy_part("a/b", "0" * 24, 1, "source", 0, 5, etag))


def test_of_many_who_complete_an_upload_one_wins(tmp_path: Path) -> None:
    store = drive(open_store(tmp_path, BlockingRuntime()))
    for _ in range(10):
        upload_id = drive(store.create_multipart("k", PLAIN))
        part = drive(store.put_part("k", upload_id, 1, b"x"))
        together = threading.Barrier(6)
        outcomes: list[str] = []

        def complete(
            upload_id: str = upload_id,
            part: Part = part,
            together: threading.Barrier = together,
            outcomes: list[str] = outcomes,
        ) -> None:
            together.wait()
            try:
                drive(store.complete_multipart("k", upload_id, [part]))
            except PlatformError as error:
                outcomes.append(error.code)
            else:
                outcomes.append("won")

        threads = [threading.Thread(target=complete) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["not_found"] * 5 + ["won"]


def test_an_abort_that_another_one_overtook_is_no_error(
    upload: Uploading, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def overtaken(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        rename(source, f"{source}-taken")
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtaken)
    upload.run(upload.store.abort_multipart("a/b", upload.id))


def test_a_damaged_upload_is_told(upload: Uploading) -> None:
    about = upload.store.native() / "uploads" / upload.id / "upload.json"
    for text in ("", "[]", '{"key": "a/b", "metadata": [1]}'):
        about.write_text(text)
        with pytest.raises(IntegrityError):
            upload.part(1, b"x")
