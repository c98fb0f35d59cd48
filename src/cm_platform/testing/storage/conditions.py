"""The suite of conditions: atomic where they are declared, `unsupported` where they are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.errors import (
    AlreadyExistsError,
    NotFoundError,
    PreconditionFailedError,
    UnsupportedError,
)
from cm_platform.storage.backend import StorageCapability

from .harness import StorageFace, StorageHarness, need, pattern, refused

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage

_WRITERS = 8

# Given the etag of "key".
_USES: dict[StorageCapability, Callable[[Storage, str], Any]] = {
    StorageCapability.CONDITIONAL_CREATE: lambda s, _: s.put("new", b"x", if_none_match="*"),
    StorageCapability.CONDITIONAL_REPLACE: lambda s, etag: s.put("key", b"x", if_match=etag),
    StorageCapability.CONDITIONAL_DELETE: lambda s, etag: s.delete("key", if_match=etag),
    StorageCapability.CONDITIONAL_COPY: lambda s, _: s.copy("key", "new", if_none_match="*"),
    StorageCapability.PRESIGN: lambda s, _: s.presign("key"),
}


def call(method: str, /, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A call on a service that is given later."""
    return lambda service: getattr(service, method)(*args, **kwargs)


class ConditionsConformance(StorageHarness):
    """Tests of a capability that the backend does not declare are skipped, but for the refusal."""

    @pytest.mark.parametrize("capability", list(StorageCapability))
    def test_a_capability_is_there_or_refused_before_any_io(
        self, storage: Storage, face: StorageFace, capability: StorageCapability
    ) -> None:
        etag = storage.put("key", b"before").etag
        if capability in storage.capabilities():
            _USES[capability](storage, etag)
            return
        face.calls.clear()
        with pytest.raises(UnsupportedError) as caught:
            _USES[capability](storage, etag)
        assert not face.calls
        assert caught.value.not_sent
        assert str(capability) in str(caught.value)
        assert storage.get("key").read() == b"before"
        assert not storage.exists("new")

    @pytest.mark.parametrize("parts", [0, 2], ids=["one request", "parts"])
    def test_put_if_none_match_refuses_an_existing_key(
        self, storage: Storage, face: StorageFace, parts: int
    ) -> None:
        need(storage, StorageCapability.CONDITIONAL_CREATE)
        body = pattern(parts * face.part_size + 1)
        first = storage.put("key", body, if_none_match="*", part_size=face.part_size)
        with pytest.raises(AlreadyExistsError) as caught:
            storage.put("key", body[::-1], if_none_match="*", part_size=face.part_size)
        assert not caught.value.retryable
        assert storage.head("key").revision == first.revision
        assert storage.get("key").read() == body
        storage.delete("key")
        storage.put("key", b"again", if_none_match="*")

    @pytest.mark.parametrize("parts", [0, 2], ids=["one request", "parts"])
    def test_put_if_match_replaces_that_version_only(
        self, storage: Storage, face: StorageFace, parts: int
    ) -> None:
        need(storage, StorageCapability.CONDITIONAL_REPLACE)
        body = pattern(parts * face.part_size + 1)
        first = storage.put("key", b"first")
        second = storage.put("key", body, if_match=first.etag, part_size=face.part_size)
        with pytest.raises(PreconditionFailedError) as caught:
            storage.put("key", body[::-1], if_match=first.etag, part_size=face.part_size)
        assert not caught.value.retryable
        assert storage.head("key").revision == second.revision
        assert storage.get("key").read() == body

    @pytest.mark.parametrize("parts", [0, 2], ids=["one request", "parts"])
    def test_put_if_match_fails_where_there_is_nothing(
        self, storage: Storage, face: StorageFace, parts: int
    ) -> None:
        need(storage, StorageCapability.CONDITIONAL_REPLACE)
        etag = storage.put("other", b"body").etag
        with pytest.raises(PreconditionFailedError):
            storage.put(
                "key", bytes(parts * face.part_size), if_match=etag, part_size=face.part_size
            )
        assert not storage.exists("key")

    @pytest.mark.parametrize("parts", [0, 1], ids=["one request", "parts"])
    def test_of_many_creators_one_wins(
        self, storage: Storage, face: StorageFace, parts: int
    ) -> None:
        need(storage, StorageCapability.CONDITIONAL_CREATE)
        # Parts of a real store are large.
        writers = _WRITERS if parts == 0 or face.part_size < 10**6 else 3
        bodies = [bytes([n]) * (parts * face.part_size + 10) for n in range(writers)]
        calls = [
            call("put", "key", body, if_none_match="*", part_size=face.part_size) for body in bodies
        ]
        outcomes = face.at_once(storage, calls)
        winner = self._the_winner(outcomes, AlreadyExistsError)
        assert storage.get("key").read() == bodies[winner]
        assert storage.head("key").revision == outcomes[winner].revision

    def test_of_many_replacers_one_wins(self, storage: Storage, face: StorageFace) -> None:
        need(storage, StorageCapability.CONDITIONAL_REPLACE)
        etag = storage.put("key", b"before").etag
        bodies = [b"%d" % n for n in range(_WRITERS)]
        calls = [call("put", "key", body, if_match=etag) for body in bodies]
        outcomes = face.at_once(storage, calls)
        winner = self._the_winner(outcomes, PreconditionFailedError)
        assert storage.get("key").read() == bodies[winner]

    def test_of_many_copies_one_wins(self, storage: Storage, face: StorageFace) -> None:
        need(storage, StorageCapability.CONDITIONAL_COPY)
        for n in range(_WRITERS):
            storage.put(f"from/{n}", b"%d" % n)
        calls = [call("copy", f"from/{n}", "key", if_none_match="*") for n in range(_WRITERS)]
        outcomes = face.at_once(storage, calls)
        winner = self._the_winner(outcomes, AlreadyExistsError)
        assert storage.get("key").read() == b"%d" % winner

    @staticmethod
    def _the_winner(outcomes: list[Any], refusal: type[Exception]) -> int:
        winners = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
        assert len(winners) == 1, outcomes
        for n, outcome in enumerate(outcomes):
            assert n in winners or isinstance(outcome, refusal), repr(outcome)
        return winners[0]

    def test_readers_see_one_write_or_another_whole(
        self, storage: Storage, face: StorageFace
    ) -> None:
        bodies = [bytes([n]) * 100_000 for n in range(4)]
        storage.put("key", bodies[0], metadata={"n": "0"})
        writes = [call("put", "key", body, metadata={"n": str(body[0])}) for body in bodies]
        reads = [call("get_range", "key", 0)] * 4
        for outcome in face.at_once(storage, [*writes, *reads])[4:]:
            assert outcome in bodies
        last = storage.get("key")
        assert last.info.metadata["n"] == str(last.read()[0])

    def test_delete_if_match_removes_that_version_only(self, storage: Storage) -> None:
        need(storage, StorageCapability.CONDITIONAL_DELETE)
        first = storage.put("key", b"first")
        second = storage.put("key", b"second")
        with pytest.raises(PreconditionFailedError):
            storage.delete("key", if_match=first.etag)
        assert storage.get("key").read() == b"second"
        storage.delete("key", if_match=second.etag)
        assert not storage.exists("key")
        with pytest.raises(PreconditionFailedError):
            storage.delete("key", if_match=second.etag)

    def test_copy_if_none_match_refuses_an_existing_target(self, storage: Storage) -> None:
        need(storage, StorageCapability.CONDITIONAL_COPY)
        storage.put("from", b"from")
        storage.copy("from", "to", if_none_match="*")
        storage.put("to", b"to")
        with pytest.raises(AlreadyExistsError):
            storage.copy("from", "to", if_none_match="*")
        assert storage.get("to").read() == b"to"
        with pytest.raises(NotFoundError):
            storage.copy("nothing", "new", if_none_match="*")

    @pytest.mark.parametrize(
        "condition",
        [
            {"if_none_match": "*", "if_match": "etag"},
            {"if_none_match": "etag"},
            {"if_none_match": True},
            {"if_none_match": ""},
            {"if_match": ""},
            {"if_match": "*"},
            {"if_match": '"etag"'},
            {"if_match": 'W/"etag"'},
            {"if_match": "etag\r\nx-evil: 1"},
            {"if_match": "etag\n"},
            {"if_match": "é"},
            {"if_match": 5},
        ],
        ids=str,
    )
    def test_what_is_no_condition_is_refused_before_any_io(
        self, storage: Storage, face: StorageFace, condition: dict[str, Any]
    ) -> None:
        refused(face, storage.put, "key", b"body", **condition)
        if "if_none_match" not in condition:
            refused(face, storage.delete, "key", **condition)
        elif "if_match" not in condition:
            refused(face, storage.copy, "key", "copy", **condition)


__all__ = ["ConditionsConformance"]
