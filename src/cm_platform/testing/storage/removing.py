"""The suite of removing and copying."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.errors import InternalError, NotFoundError, PlatformError

from .harness import StorageFace, StorageHarness, pattern, refused

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage


class RemovingConformance(StorageHarness):
    """Every test has a store of its own."""

    def test_what_was_deleted_is_gone(self, storage: Storage) -> None:
        storage.put("key", b"body")
        storage.put("key2", b"body")
        storage.delete("key")
        assert not storage.exists("key")
        with pytest.raises(NotFoundError):
            storage.get("key")
        assert [listed.key for listed in storage.list()] == ["key2"]

    def test_delete_may_be_repeated(self, storage: Storage) -> None:
        storage.delete("never/there")
        storage.put("key", b"body")
        storage.delete("key")
        storage.delete("key")

    def test_deleting_a_beginning_deletes_nothing(self, storage: Storage) -> None:
        storage.put("folder/key", b"body")
        for key in ("folder", "folder/", "fold", "folder/key/"):
            storage.delete(key)
        assert storage.exists("folder/key")

    def test_delete_many_has_an_outcome_for_each_key(self, storage: Storage) -> None:
        for key in ("a", "b", "c/d", "kept"):
            storage.put(key, b"body")
        outcomes = storage.delete_many(["a", "missing", "c/d", "a", "b", "c/"])
        assert outcomes == dict.fromkeys(["a", "missing", "c/d", "b", "c/"])
        assert [listed.key for listed in storage.list()] == ["kept"]

    def test_delete_many_takes_any_iterable(self, storage: Storage) -> None:
        assert storage.delete_many([]) == {}
        storage.put("a", b"body")
        assert storage.delete_many(key for key in ("a", "b")) == {"a": None, "b": None}
        assert list(storage.list()) == []

    @pytest.mark.parametrize("keys", [None, 5, "key", b"key"])
    def test_what_is_not_several_keys_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, keys: Any
    ) -> None:
        refused(face, storage.delete_many, keys)

    def test_delete_many_goes_in_batches(self, storage: Storage, face: StorageFace) -> None:
        present = [f"present/{n:03}" for n in range(30)]
        for key in present:
            storage.put(key, b"body")
        absent = [f"absent/{n:04}" for n in range(max(0, self.many_keys - len(present)))]
        keys = absent[:-5] + present + absent[-5:]
        face.calls.clear()
        outcomes = storage.delete_many(keys)
        batches = -(-len(keys) // face.limits.max_delete_batch)
        assert face.calls == ["delete_many"] * batches
        assert list(outcomes) == keys
        assert set(outcomes.values()) == {None}
        assert list(storage.list()) == []

    @pytest.mark.parametrize("bad", ["", "/a", "a/../b", "a\x00", "x" * 2000, None, 5])
    def test_delete_many_checks_all_keys_before_the_first_is_removed(
        self, storage: Storage, face: StorageFace, bad: Any
    ) -> None:
        storage.put("a", b"body")
        refused(face, storage.delete_many, ["a", bad])
        assert storage.exists("a")

    def test_delete_many_takes_no_single_text(self, storage: Storage, face: StorageFace) -> None:
        storage.put("a", b"body")
        keys: Iterable[str] = "a"
        refused(face, storage.delete_many, keys)
        assert storage.exists("a")

    def test_delete_many_tells_which_keys_failed_and_why(
        self, storage: Storage, face: StorageFace
    ) -> None:
        failed = face.physical(storage, "b")

        def one_fails(method: str, answer: Any) -> Any:
            return {failed: InternalError("no")} if method == "delete_many" else answer

        face.backend.lie = one_fails
        try:
            outcomes = storage.delete_many(["a", "b", "c"])
        finally:
            face.backend.lie = None
        assert (outcomes["a"], outcomes["c"]) == (None, None)
        error = outcomes["b"]
        assert isinstance(error, PlatformError)
        assert (error.service, error.operation) == ("storage", "delete_many")


class CopyingConformance(StorageHarness):
    """Every test has a store of its own."""

    @pytest.mark.parametrize("parts", [0, 2], ids=["small", "of parts"])
    def test_a_copy_has_the_bytes_and_the_attributes(
        self, storage: Storage, face: StorageFace, parts: int
    ) -> None:
        body = pattern(parts * face.part_size + 3)
        put = storage.put(
            "from",
            body,
            part_size=face.part_size,
            content_type="text/plain",
            cache_control="no-store",
            metadata={"title": "Été", "empty": ""},
        )
        copied = storage.copy("from", "folder/to")
        head = storage.head("folder/to")
        assert storage.get("folder/to").read() == body
        for info in (copied, head):
            assert (info.key, info.size) == ("folder/to", len(body))
            assert (info.content_type, info.cache_control) == ("text/plain", "no-store")
            assert info.metadata == {"title": "Été", "empty": ""}
            assert info.sha256 == put.sha256
        assert copied.etag == head.etag
        assert copied.revision == head.revision != put.revision
        assert storage.head("from").revision == put.revision

    def test_a_copy_replaces_its_target_whole(self, storage: Storage) -> None:
        storage.put("to", b"target", cache_control="no-store", metadata={"only": "here"})
        storage.put("from", b"source", metadata={"other": "1"})
        storage.copy("from", "to")
        head = storage.head("to")
        assert storage.get("to").read() == b"source"
        assert head.metadata == {"other": "1"}
        assert head.cache_control is None

    def test_a_copy_is_independent(self, storage: Storage) -> None:
        storage.put("from", b"before")
        storage.copy("from", "to")
        storage.put("from", b"after")
        assert storage.get("to").read() == b"before"
        storage.delete("from")
        assert storage.get("to").read() == b"before"

    def test_an_empty_object_can_be_copied(self, storage: Storage) -> None:
        storage.put("from", b"")
        assert storage.copy("from", "to").size == 0
        assert storage.get("to").read() == b""

    def test_copying_onto_itself_keeps_everything_but_the_revision(self, storage: Storage) -> None:
        put = storage.put("key", b"body", content_type="text/plain", metadata={"a": "é"})
        copied = storage.copy("key", "key")
        head = storage.head("key")
        assert storage.get("key").read() == b"body"
        assert (head.content_type, head.metadata) == ("text/plain", {"a": "é"})
        assert head.revision == copied.revision != put.revision

    def test_a_missing_source_is_not_found(self, storage: Storage) -> None:
        storage.put("to", b"target")
        with pytest.raises(NotFoundError):
            storage.copy("from", "to")
        assert storage.get("to").read() == b"target"

    @pytest.mark.parametrize("bad", ["", "/a", "a/../b", "..", "a\x00", "\ud800", None])
    def test_both_keys_are_checked_before_any_io(
        self, storage: Storage, face: StorageFace, bad: Any
    ) -> None:
        storage.put("key", b"body")
        refused(face, storage.copy, bad, "to")
        refused(face, storage.copy, "key", bad)


__all__ = ["CopyingConformance", "RemovingConformance"]
