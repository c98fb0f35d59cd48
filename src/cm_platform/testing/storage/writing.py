"""The suite of writing: bodies of every form and size, in one request and in parts."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.errors import IntegrityError, NotFoundError

from .harness import Seen, StorageFace, StorageHarness, pattern, refused

if TYPE_CHECKING:
    from cm_platform.storage.body import Body
    from cm_platform.storage.sync import Storage

BODY = pattern(10_007)


class BodyError(Exception):
    """What a body of the tests raises."""


class Pipe(io.RawIOBase):
    """A file that cannot be rewound, and returns less than it is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most 1,000 bytes."""
        return self._data.read(min(size, 1000) if size >= 0 else 1000)


class Changing(io.BytesIO):
    """A file that somebody writes to while it is uploaded."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Changes what was read already."""
        self.getbuffer()[0] ^= 1
        return super().seek(offset, whence)


def in_chunks(data: bytes, size: int) -> Iterator[bytes]:
    """The data, in chunks that fit no part."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def in_chunks_later(data: bytes, size: int) -> AsyncIterator[bytes]:
    """The same, as an async program makes it."""
    for chunk in in_chunks(data, size):
        yield chunk


def broken(data: bytes, error: Exception) -> Iterator[bytes]:
    """A body that fails when all but its end has come."""
    yield data
    raise error


def make_body(form: str, data: bytes, folder: Path) -> Any:
    """A body of that form."""
    file = folder / "body.bin"
    file.write_bytes(data)
    made: dict[str, Callable[[], Any]] = {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "strided memoryview": lambda: memoryview(bytes(b for byte in data for b in (byte, 0)))[::2],
        "path": lambda: file,
        "BytesIO": lambda: io.BytesIO(data),
        "file without seek": lambda: Pipe(data),
        "list": lambda: list(in_chunks(data, 999)),
        "generator": lambda: in_chunks(data, 1001),
        "empty chunks": lambda: iter([b"", data, b""]),
        "mixed chunks": lambda: iter([bytearray(data[:9]), memoryview(data)[9:]]),
        "async generator": lambda: in_chunks_later(data, 1003),
    }
    return made[form]()


FORMS = (
    "bytes",
    "bytearray",
    "memoryview",
    "strided memoryview",
    "path",
    "BytesIO",
    "file without seek",
    "list",
    "generator",
    "empty chunks",
    "mixed chunks",
    "async generator",
)
KNOWN = {"bytes", "bytearray", "memoryview", "strided memoryview", "path", "BytesIO"}


class WritingConformance(StorageHarness):
    """Every test writes to a store of its own."""

    @pytest.mark.parametrize("size", [0, 1, len(BODY)])
    @pytest.mark.parametrize("form", FORMS)
    def test_a_body_may_have_any_form(
        self, storage: Storage, tmp_path: Path, form: str, size: int
    ) -> None:
        data = BODY[:size]
        info = storage.put("key", make_body(form, data, tmp_path))
        assert storage.get("key").read() == data
        assert info.size == size
        assert info.sha256 == hashlib.sha256(data).hexdigest()
        assert storage.head("key").sha256 == (info.sha256 if form in KNOWN else None)

    def test_a_file_is_sent_from_its_position(self, storage: Storage, tmp_path: Path) -> None:
        path = tmp_path / "body.bin"
        path.write_bytes(BODY)
        with path.open("rb") as file:
            file.seek(7)
            storage.put("key", file)
            assert not file.closed
        assert storage.get("key").read() == BODY[7:]

    def test_put_describes_as_head_does(self, storage: Storage) -> None:
        put = storage.put("key", b"body", content_type="text/plain", metadata={"a": "é"})
        head = storage.head("key")
        for name in ("key", "size", "etag", "content_type", "metadata", "sha256", "revision"):
            assert getattr(put, name) == getattr(head, name), name
        assert head.last_modified is not None
        assert head.last_modified.utcoffset() is not None
        assert not head.etag.startswith(('"', "W/"))

    def test_a_later_put_replaces_bytes_and_attributes(self, storage: Storage) -> None:
        first = storage.put(
            "key",
            b"a longer body than the next",
            content_type="text/plain",
            cache_control="no-store",
            content_disposition="inline",
            content_language="fr",
            metadata={"a": "1", "b": "2"},
        )
        second = storage.put("key", b"next", metadata={"b": "3"})
        head = storage.head("key")
        assert storage.get("key").read() == b"next"
        assert head.metadata == {"b": "3"}
        assert head.content_type == "application/octet-stream"
        assert (head.cache_control, head.content_disposition) == (None, None)
        assert head.content_language is None
        assert first.revision != second.revision == head.revision

    def test_every_write_has_a_revision_of_its_own(self, storage: Storage) -> None:
        revisions = {storage.put("key", b"same").revision for _ in range(5)}
        revisions.add(storage.copy("key", "copy").revision)
        assert len(revisions) == 6
        assert None not in revisions

    @pytest.mark.parametrize("known", [True, False], ids=["bytes", "iterable"])
    @pytest.mark.parametrize("more", [-1, 0, 1])
    def test_bodies_about_as_long_as_a_part(
        self, storage: Storage, face: StorageFace, more: int, known: bool
    ) -> None:
        data = pattern(face.part_size + more)
        face.calls.clear()
        info = storage.put("key", data if known else iter([data]), part_size=face.part_size)
        assert ("complete_multipart" in face.calls) == (more > 0)
        assert info.size == len(data)
        assert storage.get("key").read() == data

    @pytest.mark.parametrize("form", ["bytes", "path", "generator", "async generator"])
    def test_many_parts_become_one_object(
        self, storage: Storage, face: StorageFace, tmp_path: Path, form: str
    ) -> None:
        data = pattern(3 * face.part_size + 12_345)
        body: Any = make_body(form, data, tmp_path)
        if form.endswith("generator"):
            chunks = in_chunks if form == "generator" else in_chunks_later
            body = chunks(data, face.part_size // 3 + 1)
        face.calls.clear()
        info = storage.put(
            "key",
            body,
            part_size=face.part_size,
            content_type="video/mp4",
            metadata={"title": "Été"},
            verify=True,
        )
        assert face.calls.count("put_part") == 4
        assert info.sha256 == hashlib.sha256(data).hexdigest()
        head = storage.head("key")
        assert (head.size, head.etag) == (len(data), info.etag)
        assert (head.content_type, head.metadata) == ("video/mp4", {"title": "Été"})
        assert head.revision == info.revision
        assert storage.get("key").read() == data
        at = 2 * face.part_size - 5
        assert storage.get_range("key", at, 10) == data[at : at + 10]

    @pytest.mark.parametrize("before", [None, b"what was there"])
    @pytest.mark.parametrize("parts", [0, 2])
    def test_a_body_that_fails_changes_nothing(
        self, storage: Storage, face: StorageFace, parts: int, before: bytes | None
    ) -> None:
        if before is not None:
            storage.put("key", before)
        error = BodyError("on the way")
        face.calls.clear()
        with pytest.raises(BodyError) as caught:
            storage.put(
                "key", broken(pattern(parts * face.part_size + 9), error), part_size=face.part_size
            )
        assert caught.value is error
        assert face.calls.count("abort_multipart") == face.calls.count("create_multipart")
        if before is None:
            with pytest.raises(NotFoundError):
                storage.head("key")
            assert list(storage.list()) == []
        else:
            assert storage.get("key").read() == before

    @pytest.mark.parametrize("parts", [1, 3])
    def test_a_file_that_changes_meanwhile_is_an_integrity_error(
        self, storage: Storage, face: StorageFace, parts: int
    ) -> None:
        with pytest.raises(IntegrityError):
            storage.put("key", Changing(bytes(parts * face.part_size)), part_size=face.part_size)
        assert not storage.exists("key")

    def test_the_progress_of_a_put_rises_to_the_whole(
        self, storage: Storage, face: StorageFace
    ) -> None:
        small, large = b"small", pattern(2 * face.part_size + 1)
        for data in (small, large):
            for known in (True, False):
                seen = Seen()
                storage.put(
                    "key",
                    data if known else iter([data]),
                    part_size=face.part_size,
                    progress=seen,
                )
                seen.check(len(data))
                assert {total for _, total in seen} <= {len(data), None}
                if known:
                    assert seen[-1][1] == len(data)

    @pytest.mark.parametrize("body", ["text", 5, None, object(), ["text"], [1, 2], [None]])
    def test_what_is_no_body_is_an_invalid_argument(
        self, storage: Storage, face: StorageFace, body: Body
    ) -> None:
        refused(face, storage.put, "key", body)

    def test_a_file_that_is_not_there_or_is_text_is_an_invalid_argument(
        self, storage: Storage, face: StorageFace, tmp_path: Path
    ) -> None:
        refused(face, storage.put, "key", tmp_path / "nothing")
        refused(face, storage.put, "key", tmp_path)
        text: Any = io.StringIO("text")
        refused(face, storage.put, "key", text)

    def test_a_part_size_that_the_store_refuses_is_an_invalid_argument(
        self, storage: Storage, face: StorageFace
    ) -> None:
        low, high = face.limits.min_part - 1, face.limits.max_part + 1
        part_size: Any
        for part_size in (low, high, 0, -1, "1", float(low + 1), True, None):
            refused(face, storage.put, "key", b"x", part_size=part_size)


__all__ = ["WritingConformance"]
