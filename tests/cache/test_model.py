"""Any order of operations, of two processes, as time passes: what a plain dictionary would have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cm_platform.cache.sync import Cache
from cm_platform.errors import NotFoundError, PreconditionFailedError
from cm_platform.testing.faces import FACES

from .doubles import World

KEYS = st.sampled_from(["a", "b", "c"])
TAGS = st.sets(st.sampled_from(["red", "blue"])).map(lambda tags: tuple(sorted(tags)))
TIMES = st.none() | st.sampled_from([1.0, 5.0, 30.0])
SPANS = st.sampled_from([0.0, 10.0])
VALUES = st.integers(-5, 5) | st.text(max_size=3) | st.none() | st.lists(st.booleans(), max_size=2)


@dataclass
class Kept:
    """What a dictionary knows of a key."""

    value: Any
    ends: float | None
    stale: float = 0.0
    tags: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether `increment` takes it."""
        return type(self.value) is int and not self.tags and not self.stale


@dataclass
class Model:
    """A cache, as anybody would write it who has one process and no store."""

    now: float = 0.0
    kept: dict[str, Kept] = field(default_factory=dict[str, Kept])

    def get(self, key: str) -> Kept | None:
        found = self.kept.get(key)
        if found is not None and found.ends is not None and found.ends <= self.now:
            return None
        return found

    def put(self, key: str, value: Any, ttl: float | None, **more: Any) -> None:
        self.kept[key] = Kept(value, None if ttl is None else self.now + ttl, **more)


class CacheMachine(RuleBasedStateMachine):
    """Two handles of one tenant, in two processes."""

    face_name = "sync"

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.face_name)
        self.model = Model()
        self.handles = [self.world.cache(), self.world.elsewhere()]

    def teardown(self) -> None:
        self.world.close()

    def cache(self, which: int) -> Cache:
        return self.handles[which]

    @rule(which=st.integers(0, 1), key=KEYS, value=VALUES, ttl=TIMES, stale=SPANS, tags=TAGS)
    def set_one(
        self,
        which: int,
        key: str,
        value: Any,
        ttl: float | None,
        stale: float,
        tags: tuple[str, ...],
    ) -> None:
        stale = 0.0 if ttl is None else stale
        assert self.cache(which).set(key, value, ttl=ttl, stale=stale, tags=tags) is True
        self.model.put(key, value, ttl, stale=stale, tags=tags)

    @rule(which=st.integers(0, 1), keys=st.sets(KEYS), value=VALUES, ttl=TIMES, tags=TAGS)
    def set_many(
        self, which: int, keys: set[str], value: Any, ttl: float | None, tags: tuple[str, ...]
    ) -> None:
        values = dict.fromkeys(keys, value)
        outcomes = self.cache(which).set_many(values, ttl=ttl, tags=tags)
        assert outcomes == dict.fromkeys(keys)
        for key in keys:
            self.model.put(key, value, ttl, tags=tags)

    @rule(
        which=st.integers(0, 1),
        key=KEYS,
        value=VALUES,
        ttl=TIMES,
        tags=TAGS,
        is_there=st.booleans(),
    )
    def set_if(
        self,
        which: int,
        key: str,
        value: Any,
        ttl: float | None,
        tags: tuple[str, ...],
        is_there: bool,
    ) -> None:
        stored = self.cache(which).set(
            key, value, ttl=ttl, tags=tags, only_if="present" if is_there else "absent"
        )
        assert stored == ((self.model.get(key) is not None) == is_there)
        if stored:
            self.model.put(key, value, ttl, tags=tags)

    @rule(which=st.integers(0, 1), key=KEYS)
    def delete(self, which: int, key: str) -> None:
        self.cache(which).delete(key)
        self.model.kept.pop(key, None)

    @rule(which=st.integers(0, 1), keys=st.lists(KEYS))
    def delete_many(self, which: int, keys: list[str]) -> None:
        assert self.cache(which).delete_many(keys) == dict.fromkeys(keys)
        for key in keys:
            self.model.kept.pop(key, None)

    @rule(which=st.integers(0, 1), key=KEYS, ttl=TIMES)
    def touch(self, which: int, key: str, ttl: float | None) -> None:
        found = self.model.get(key)
        assert self.cache(which).touch(key, ttl) == (found is not None)
        if found is not None:
            stale = 0.0 if ttl is None else found.stale
            self.model.put(key, found.value, ttl, stale=stale, tags=found.tags)

    @rule(which=st.integers(0, 1), key=KEYS, amount=st.integers(-3, 3), ttl=TIMES)
    def increment(self, which: int, key: str, amount: int, ttl: float | None) -> None:
        cache = self.cache(which)
        found = self.model.get(key)
        if found is not None and not found.counts:
            with pytest.raises(PreconditionFailedError):
                cache.increment(key, amount, ttl=ttl)
        elif found is None:
            assert cache.increment(key, amount, ttl=ttl) == amount
            self.model.put(key, amount, ttl)
        else:
            found.value += amount
            assert cache.increment(key, amount, ttl=ttl) == found.value

    @rule(which=st.integers(0, 1))
    def clear(self, which: int) -> None:
        self.cache(which).clear()
        self.model.kept.clear()

    @rule(which=st.integers(0, 1), tag=st.sampled_from(["red", "blue", "green"]))
    def invalidate_tag(self, which: int, tag: str) -> None:
        self.cache(which).invalidate_tag(tag)
        kept = self.model.kept
        self.model.kept = {key: one for key, one in kept.items() if tag not in one.tags}

    @rule(which=st.integers(0, 1), key=KEYS, value=VALUES, ttl=TIMES, tags=TAGS)
    def get_or_set(
        self, which: int, key: str, value: Any, ttl: float | None, tags: tuple[str, ...]
    ) -> None:
        found = self.model.get(key)
        expected = value if found is None else found.value
        assert self.cache(which).get_or_set(key, lambda: value, ttl=ttl, tags=tags) == expected
        if found is None and value is not None:
            self.model.put(key, value, ttl, tags=tags)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 29.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.clock.move(seconds)
        self.model.now += seconds

    @rule(seconds=st.sampled_from([-0.0005, 0.001, 60.0]))
    def set_the_clock_of_versions(self, seconds: float) -> None:
        # Nothing that has a time may be there: its time is the wall's.
        if all(one.ends is None for one in self.model.kept.values()):
            self.world.clock.ahead += seconds

    @invariant()
    def both_see_what_a_dictionary_has(self) -> None:
        expected = {key: found.value for key in "abc" if (found := self.model.get(key)) is not None}
        for cache in self.handles:
            assert cache.get_many(["a", "b", "c"]) == expected

    @invariant()
    def both_tell_how_long(self) -> None:
        for key in "abc":
            found = self.model.get(key)
            if found is None:
                with pytest.raises(NotFoundError):
                    self.handles[0].ttl(key)
                continue
            left = self.handles[0].ttl(key)
            if found.ends is None:
                assert left is None
            else:
                assert left == pytest.approx(found.ends - self.model.now, abs=0.01)


@pytest.mark.parametrize("face_name", FACES)
def test_two_processes_see_what_a_dictionary_has(face_name: str) -> None:
    machine = type("Machine", (CacheMachine,), {"face_name": face_name})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
