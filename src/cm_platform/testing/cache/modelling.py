"""The suite of properties: Hypothesis looks for what nobody thought of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cm_platform.cache.backend import CacheCapability
from cm_platform.errors import PreconditionFailedError

from .harness import OTHER, CacheFace, CacheHarness

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache

# Surrogates and control characters are no part of a key.
LEGAL_KEYS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("~!:/{}*?[]."),
    min_size=1,
    max_size=40,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)
VALUES = JSON | st.binary(max_size=100)

_FEW_KEYS = st.sampled_from(["a", "b", "c"])
_FEW_TAGS = st.lists(st.sampled_from(["red", "blue"]), max_size=2, unique=True)
_FEW_VALUES = st.integers(-5, 5) | st.sampled_from(["text", b"bytes", None])


class CacheModel(RuleBasedStateMachine):
    """A cache beside a dictionary: key to value, tags and when it ends."""

    def __init__(self, face: CacheFace) -> None:
        super().__init__()
        self.face = face
        self.cache: Cache = face.cache()
        self.other = self.cache.namespace(OTHER)
        self.other.set("a", "untouched", ttl=None)
        self.known: dict[str, tuple[Any, frozenset[str], float | None]] = {}

    @rule(key=_FEW_KEYS, value=_FEW_VALUES, tags=_FEW_TAGS, ttl=st.sampled_from([None, 50, 500]))
    def set(self, key: str, value: Any, tags: list[str], ttl: float | None) -> None:
        """A value."""
        self.cache.set(key, value, tags=tags, ttl=ttl)
        self._note(key, value, tags, ttl)

    @rule(
        values=st.dictionaries(_FEW_KEYS, _FEW_VALUES, max_size=3),
        tags=_FEW_TAGS,
        ttl=st.sampled_from([None, 500]),
    )
    def set_many(self, values: dict[str, Any], tags: list[str], ttl: float | None) -> None:
        """Several."""
        assert self.cache.set_many(values, tags=tags, ttl=ttl) == dict.fromkeys(values)
        for key, value in values.items():
            self._note(key, value, tags, ttl)

    @precondition(lambda self: CacheCapability.COMPARE_AND_SET in self.face.capabilities)
    @rule(key=_FEW_KEYS, value=_FEW_VALUES, only_if=st.sampled_from(["absent", "present"]))
    def set_if(self, key: str, value: Any, only_if: Any) -> None:
        """A conditional write."""
        stored = self.cache.set(key, value, only_if=only_if, ttl=500)
        assert stored == ((key in self.known) == (only_if == "present"))
        if stored:
            self._note(key, value, [], 500)

    @rule(key=_FEW_KEYS, value=st.integers(-5, 5), tags=_FEW_TAGS)
    def get_or_set(self, key: str, value: int, tags: list[str]) -> None:
        """A computation, if it is needed."""
        found = self.cache.get_or_set(key, lambda: value, tags=tags, ttl=500)
        if key in self.known:
            assert found == self.known[key][0]
        else:
            assert found == value
            self._note(key, value, tags, 500)

    @precondition(lambda self: CacheCapability.ATOMIC_INCREMENT in self.face.capabilities)
    @rule(key=_FEW_KEYS, amount=st.integers(-3, 3))
    def increment(self, key: str, amount: int) -> None:
        """A count. Values with tags are left alone, the outdated ones too."""
        value, tags, ends = self.known.get(key, (0, frozenset(), 0.0))
        if key not in self.known:
            self.cache.delete(key)
        if type(value) is not int or tags:
            try:
                self.cache.increment(key, amount, ttl=500)
            except PreconditionFailedError:
                return
            raise AssertionError("it counted what is no counter")
        assert self.cache.increment(key, amount, ttl=500) == value + amount
        if key in self.known:
            self.known[key] = (value + amount, frozenset(), ends)
        else:
            self._note(key, amount, [], 500)

    @precondition(lambda self: CacheCapability.COMPARE_AND_SET in self.face.capabilities)
    @rule(key=_FEW_KEYS, ttl=st.sampled_from([None, 50, 500]))
    def touch(self, key: str, ttl: float | None) -> None:
        """Another time."""
        assert self.cache.touch(key, ttl) == (key in self.known)
        if key in self.known:
            value, tags, _ = self.known[key]
            self._note(key, value, tags, ttl)

    @rule(key=_FEW_KEYS)
    def delete(self, key: str) -> None:
        """One gone."""
        self.cache.delete(key)
        self.known.pop(key, None)

    @rule()
    def clear(self) -> None:
        """All gone."""
        self.cache.clear()
        self.known.clear()

    @rule(tag=st.sampled_from(["red", "blue"]))
    def invalidate(self, tag: str) -> None:
        """Some gone."""
        self.cache.invalidate_tag(tag)
        self.known = {key: found for key, found in self.known.items() if tag not in found[1]}

    @invariant()
    def has_what_is_known(self) -> None:
        """All of it, at any time."""
        expected = {key: value for key, (value, _, _) in self.known.items()}
        assert self.cache.get_many(["a", "b", "c"]) == expected
        assert self.other.get("a") == "untouched"

    @invariant()
    def tells_how_long(self) -> None:
        """Within a second and what the machine takes."""
        for key, (_, _, ends) in self.known.items():
            left = self.cache.ttl(key)
            assert (left is None) == (ends is None)
            if left is not None and ends is not None:
                assert abs(self.face.clock.wall() + left - ends) < 5

    def _note(self, key: str, value: Any, tags: Any, ttl: float | None) -> None:
        ends = None if ttl is None else self.face.clock.wall() + ttl
        self.known[key] = (value, frozenset(tags), ends)


class ModelConformance(CacheHarness):
    """What holds for any keys, any values, any order of operations."""

    def _settings(self, share: float = 1.0) -> settings:
        return settings(
            max_examples=max(1, int(self.examples * share)),
            stateful_step_count=15,
            deadline=None,
            # A store has no seed: an example that failed is no rule for the next run.
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )

    def test_any_legal_keys_are_kept_apart(self, face: CacheFace) -> None:
        @self._settings()
        @given(st.dictionaries(LEGAL_KEYS, st.binary(max_size=20), min_size=1, max_size=5))
        def check(values: dict[str, bytes]) -> None:
            cache: Cache = face.cache()
            first, *rest = values
            cache.set(first, values[first])
            assert cache.get_many(values) == {first: values[first]}
            cache.set_many({key: values[key] for key in rest})
            assert cache.get_many(values) == values
            for key, value in values.items():
                assert cache.get(key) == value
            cache.delete(first)
            assert cache.get_many(values) == {key: values[key] for key in rest}
            assert cache.delete_many(rest) == dict.fromkeys(rest)
            assert cache.get_many(values) == {}

        check()

    def test_any_value_comes_back_as_what_it_was(self, face: CacheFace) -> None:
        cache: Cache = face.cache()

        @self._settings(2.0)
        @given(VALUES)
        def check(value: Any) -> None:
            cache.set("key", value)
            found = cache.get("key", "absent")
            assert (type(found), found) == (type(value), value)

        check()

    def test_any_order_of_operations_leaves_what_a_dictionary_has(self, face: CacheFace) -> None:
        # Any callable will do, whatever the annotation says.
        model: Any = lambda: CacheModel(face)  # noqa: E731
        run_state_machine_as_test(model, settings=self._settings(0.5))


__all__ = ["JSON", "LEGAL_KEYS", "VALUES", "CacheModel", "ModelConformance"]
