"""The suite of laws: whatever is done in whatever order, a store behaves as a dictionary does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cm_platform.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
)
from cm_platform.storage.backend import StorageCapability
from cm_platform.storage.keys import check_key

from .harness import StorageFace, StorageHarness
from .listing import expected, pages

if TYPE_CHECKING:
    from cm_platform.storage.sync import Storage


def _is_legal(key: str) -> bool:
    try:
        check_key(key, "", 300)
    except InvalidArgumentError:
        return False
    return True


LEGAL_KEYS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=60),
    # What means something to somebody below: paths, URLs, headers, shells.
    st.text("aA./\\%2Fe~+?#&=;: *é\u0301", min_size=1, max_size=20),
).filter(_is_legal)

METADATA = st.dictionaries(
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True).filter(
        lambda name: not name.startswith("cm-")
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Co"]), max_size=30),
    max_size=4,
)

_FEW_KEYS = st.sampled_from(["a", "a/", "a/b", "a//b", "ab", "A", "é"])
_BODIES = st.binary(max_size=50)


@dataclass
class _Known:
    body: bytes
    metadata: dict[str, str]
    etag: str


class StorageModel(RuleBasedStateMachine):
    """A storage and the dictionary that it must agree with."""

    def __init__(self, face: StorageFace) -> None:
        super().__init__()
        self.storage = face.storage()
        self.can = self.storage.capabilities()
        self.known: dict[str, _Known] = {}

    def _note(self, key: str, body: bytes, metadata: dict[str, str], etag: str) -> None:
        self.known[key] = _Known(body, metadata, etag)

    @rule(key=_FEW_KEYS, body=_BODIES, metadata=METADATA)
    def put(self, key: str, body: bytes, metadata: dict[str, str]) -> None:
        """An unconditional write."""
        self._note(key, body, metadata, self.storage.put(key, body, metadata=metadata).etag)

    @rule(key=_FEW_KEYS, body=_BODIES)
    def create(self, key: str, body: bytes) -> None:
        """A write that wants nothing there."""
        if StorageCapability.CONDITIONAL_CREATE not in self.can:
            return
        if key in self.known:
            with pytest.raises(AlreadyExistsError):
                self.storage.put(key, body, if_none_match="*")
        else:
            self._note(key, body, {}, self.storage.put(key, body, if_none_match="*").etag)

    @rule(key=_FEW_KEYS, other=_FEW_KEYS, body=_BODIES)
    def replace(self, key: str, other: str, body: bytes) -> None:
        """A write over a version: this key's, or another's, which may be the same bytes."""
        if StorageCapability.CONDITIONAL_REPLACE not in self.can or other not in self.known:
            return
        etag = self.known[other].etag
        if key in self.known and self.known[key].etag == etag:
            self._note(key, body, {}, self.storage.put(key, body, if_match=etag).etag)
        else:
            with pytest.raises(PreconditionFailedError):
                self.storage.put(key, body, if_match=etag)

    @rule(key=_FEW_KEYS)
    def delete(self, key: str) -> None:
        """An unconditional removal."""
        self.storage.delete(key)
        self.known.pop(key, None)

    @rule(key=_FEW_KEYS, other=_FEW_KEYS)
    def delete_version(self, key: str, other: str) -> None:
        """A removal of a version."""
        if StorageCapability.CONDITIONAL_DELETE not in self.can or other not in self.known:
            return
        etag = self.known[other].etag
        if key in self.known and self.known[key].etag == etag:
            self.storage.delete(key, if_match=etag)
            del self.known[key]
        else:
            with pytest.raises(PreconditionFailedError):
                self.storage.delete(key, if_match=etag)

    @rule(keys=st.lists(_FEW_KEYS, max_size=4))
    def delete_many(self, keys: list[str]) -> None:
        """A removal of several."""
        assert self.storage.delete_many(keys) == dict.fromkeys(keys)
        for key in keys:
            self.known.pop(key, None)

    @rule(source=_FEW_KEYS, to=_FEW_KEYS, only_new=st.booleans())
    def copy(self, source: str, to: str, only_new: bool) -> None:
        """A copy, also onto itself."""
        if only_new and StorageCapability.CONDITIONAL_COPY not in self.can:
            return
        condition: Literal["*"] | None = "*" if only_new else None
        if source not in self.known:
            with pytest.raises(NotFoundError):
                self.storage.copy(source, to, if_none_match=condition)
        elif only_new and to in self.known:
            with pytest.raises(AlreadyExistsError):
                self.storage.copy(source, to, if_none_match=condition)
        else:
            etag = self.storage.copy(source, to, if_none_match=condition).etag
            was = self.known[source]
            self._note(to, was.body, was.metadata, etag)

    @rule(key=_FEW_KEYS)
    def read(self, key: str) -> None:
        """A look at one object."""
        if key not in self.known:
            assert not self.storage.exists(key)
            return
        known = self.known[key]
        with self.storage.get(key) as stored:
            assert stored.info.etag == known.etag
            assert stored.info.metadata == known.metadata
            assert stored.read() == known.body

    @rule(prefix=st.sampled_from(["", "a", "a/", "é"]), limit=st.integers(1, 9))
    def list_folders(self, prefix: str, limit: int) -> None:
        """A listing with a delimiter, in pages."""
        objects, prefixes = expected(sorted(self.known, key=str.encode), prefix, "/")
        seen = list(pages(self.storage, prefix, "/", limit))
        assert [key for page, _ in seen for key in page] == objects
        assert [found for _, page in seen for found in page] == prefixes

    @invariant()
    def lists_what_is_there(self) -> None:
        """All of it, in order, at any time."""
        assert [(listed.key, listed.size, listed.etag) for listed in self.storage.list()] == [
            (key, len(self.known[key].body), self.known[key].etag)
            for key in sorted(self.known, key=str.encode)
        ]


class ModelConformance(StorageHarness):
    """Hypothesis looks for what nobody thought of."""

    def _settings(self, share: float = 1.0) -> settings:
        return settings(
            max_examples=max(1, int(self.examples * share)),
            stateful_step_count=20,
            deadline=None,
            # A store has no seed: an example that failed is no rule for the next run.
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )

    def test_any_legal_keys_are_kept_apart(self, face: StorageFace) -> None:
        @self._settings()
        @given(st.dictionaries(LEGAL_KEYS, _BODIES, min_size=1, max_size=5))
        def check(objects: dict[str, bytes]) -> None:
            storage: Storage = face.storage()
            for key, body in objects.items():
                storage.put(key, body)
            in_order = sorted(objects, key=str.encode)
            assert [listed.key for listed in storage.list()] == in_order
            for key, body in objects.items():
                assert storage.get(key).read() == body
            found = list(pages(storage, "", "/", 2))
            objects_and_prefixes = expected(in_order, "", "/")
            assert [key for page, _ in found for key in page] == objects_and_prefixes[0]
            assert [key for _, page in found for key in page] == objects_and_prefixes[1]
            assert storage.delete_many(objects) == dict.fromkeys(objects)
            assert list(storage.list()) == []

        check()

    def test_any_metadata_is_kept(self, face: StorageFace) -> None:
        @self._settings()
        @given(METADATA)
        def check(metadata: dict[str, str]) -> None:
            storage: Storage = face.storage()
            storage.put("key", b"body", metadata=metadata)
            assert storage.head("key").metadata == metadata
            assert storage.copy("key", "copy").metadata == metadata

        check()

    def test_any_range_is_a_slice(self, face: StorageFace) -> None:
        storage: Storage = face.storage()

        @self._settings()
        @given(st.binary(min_size=1, max_size=40), st.data())
        def check(body: bytes, data: st.DataObject) -> None:
            storage.put("key", body)
            start = data.draw(st.integers(0, len(body) - 1))
            length = data.draw(st.integers(1, 50))
            assert storage.get_range("key", start, length) == body[start : start + length]
            assert storage.get_range("key", -length) == body[-length:]

        check()

    def test_any_order_of_operations_leaves_what_a_dictionary_has(self, face: StorageFace) -> None:
        # Any callable will do, whatever the annotation says.
        model: Any = lambda: StorageModel(face)  # noqa: E731
        run_state_machine_as_test(model, settings=self._settings(0.5))


__all__ = ["LEGAL_KEYS", "METADATA", "ModelConformance", "StorageModel"]
