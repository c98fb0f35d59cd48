"""The suite of what only the backend itself shows: uploads, pinned copies, foreign cursors."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.errors import PlatformError
from cm_platform.storage.backend import Attributes, Part, StorageCapability

from .harness import StorageFace, StorageHarness, need, pattern

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage

_PLAIN = Attributes(content_type="text/plain", metadata={"cm-rev": "0" * 32})


@contextmanager
def limited(face: StorageFace, **limits: Any) -> Generator[None, None, None]:
    """Let the backend declare other limits for a while."""
    backend: Any = face.backend
    backend.limits = replace(face.limits, **limits)
    try:
        yield
    finally:
        # What is set on the watched backend hides what the backend itself says.
        del backend.limits


class ContractConformance(StorageHarness):
    """Below the service; keys are physical here."""

    def _failure(self, face: StorageFace, coroutine: Coroutine[Any, Any, Any]) -> str:
        """The code of what a call raises, as the executor would see it."""
        with pytest.raises(Exception) as caught:
            face.run(coroutine)
        error = caught.value
        if not isinstance(error, PlatformError):
            error = face.backend.translate(error)
        assert isinstance(error, PlatformError), caught.value
        return error.code

    def test_an_upload_is_seen_only_when_it_is_complete(
        self, storage: Storage, face: StorageFace
    ) -> None:
        backend, key = face.backend, face.physical(storage, "key")
        first, last = pattern(face.part_size), b"last"
        upload = face.run(backend.create_multipart(key, _PLAIN))
        # The second is a repetition, as after a lost reply; parts need not come in order.
        parts = [face.run(backend.put_part(key, upload, 2, last)) for _ in range(2)][1:]
        face.run(backend.put_part(key, upload, 1, bytes(face.part_size)))
        parts.insert(0, face.run(backend.put_part(key, upload, 1, first)))
        assert [part.number for part in parts] == [1, 2]
        assert not storage.exists("key")
        assert list(storage.list()) == []
        written = face.run(backend.complete_multipart(key, upload, parts))
        stored = storage.get("key")
        assert (stored.info.etag, stored.info.content_type) == (written.etag, "text/plain")
        assert stored.read() == first + last

    def test_an_aborted_upload_leaves_nothing(self, storage: Storage, face: StorageFace) -> None:
        backend, key = face.backend, face.physical(storage, "key")
        upload = face.run(backend.create_multipart(key, _PLAIN))
        part = face.run(backend.put_part(key, upload, 1, b"part"))
        face.run(backend.abort_multipart(key, upload))
        face.run(backend.abort_multipart(key, upload))
        assert self._failure(face, backend.put_part(key, upload, 1, b"part")) == "not_found"
        failure = self._failure(face, backend.complete_multipart(key, upload, [part]))
        assert failure == "not_found"
        assert not storage.exists("key")

    def test_an_upload_that_was_completed_is_unknown(
        self, storage: Storage, face: StorageFace
    ) -> None:
        backend, key = face.backend, face.physical(storage, "key")
        upload = face.run(backend.create_multipart(key, _PLAIN))
        part: Part = face.run(backend.put_part(key, upload, 1, b"part"))
        face.run(backend.complete_multipart(key, upload, [part]))
        # A second one could otherwise undo what was written after the first.
        storage.put("key", b"later")
        face.run(backend.abort_multipart(key, upload))
        assert self._failure(face, backend.put_part(key, upload, 1, b"part")) == "not_found"
        assert storage.get("key").read() == b"later"

    def test_a_copy_is_pinned_to_its_source(self, storage: Storage, face: StorageFace) -> None:
        backend = face.backend
        source, target = face.physical(storage, "from"), face.physical(storage, "to")
        old = storage.put("from", b"old").etag
        new = storage.put("from", b"new").etag
        failure = self._failure(face, backend.copy(source, target, _PLAIN, etag=old))
        assert failure == "precondition_failed"
        assert not storage.exists("to")
        face.run(backend.copy(source, target, _PLAIN, etag=new))
        assert storage.get("to").read() == b"new"
        storage.delete("from")
        assert self._failure(face, backend.copy(source, target, _PLAIN, etag=new)) == "not_found"

    def test_a_copied_part_is_pinned_to_its_source(
        self, storage: Storage, face: StorageFace
    ) -> None:
        backend = face.backend
        source, target = face.physical(storage, "from"), face.physical(storage, "to")
        old = storage.put("from", b"old").etag
        storage.put("from", b"new")
        upload = face.run(backend.create_multipart(target, _PLAIN))
        failure = self._failure(face, backend.copy_part(target, upload, 1, source, 0, 3, old))
        assert failure == "precondition_failed"
        face.run(backend.abort_multipart(target, upload))

    def test_what_is_too_large_for_one_copy_is_copied_in_parts(
        self, storage: Storage, face: StorageFace
    ) -> None:
        body = pattern(2 * face.part_size + 77)
        put = storage.put("from", body, content_type="text/plain", metadata={"a": "é"})
        with limited(face, max_copy=face.part_size):
            face.calls.clear()
            copied = storage.copy("from", "to")
        assert face.calls.count("copy_part") == 3
        assert storage.get("to").read() == body
        head = storage.head("to")
        assert (head.content_type, head.metadata, head.sha256) == (
            "text/plain",
            {"a": "é"},
            put.sha256,
        )
        assert head.revision == copied.revision != put.revision

    def test_a_copy_in_parts_keeps_its_condition(self, storage: Storage, face: StorageFace) -> None:
        need(storage, StorageCapability.CONDITIONAL_COPY)
        storage.put("from", bytes(face.part_size + 1))
        storage.put("to", b"taken")
        with limited(face, max_copy=face.part_size), pytest.raises(PlatformError) as caught:
            storage.copy("from", "to", if_none_match="*")
        assert caught.value.code == "already_exists"
        assert storage.get("to").read() == b"taken"

    def test_asked_for_what_it_cannot_carry_head_says_it_and_no_less(
        self, storage: Storage, face: StorageFace
    ) -> None:
        backend, key = face.backend, face.physical(storage, "key")
        storage.put("key", b"body", content_type="text/plain", metadata={"a": "é"})
        quick = face.run(backend.head(key))
        assert quick.uncarried is None
        asked = face.run(backend.head(key, uncarried=True))
        # What every object of the bucket has may be among it: a storage class, a key.
        assert isinstance(asked.uncarried, frozenset)
        assert replace(asked, uncarried=None) == quick
        storage.delete("key")
        assert self._failure(face, backend.head(key, uncarried=True)) == "not_found"

    def test_a_cursor_that_it_did_not_make_is_an_invalid_argument(
        self, storage: Storage, face: StorageFace
    ) -> None:
        prefix = face.physical(storage, "")
        storage.put("a", b"")
        for cursor in ("nonsense", "", "\x00"):
            listing = face.backend.list(prefix, delimiter=None, cursor=cursor, limit=10)
            assert self._failure(face, listing) == "invalid_argument", repr(cursor)

    def test_what_it_cannot_classify_is_not_its_own(self, face: StorageFace) -> None:
        assert face.backend.translate(ZeroDivisionError()) is None
        assert face.backend.max_request_lifetime >= 0


__all__ = ["ContractConformance"]
