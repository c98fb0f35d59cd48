"""The suite of `clear` and `invalidate_tag`: what was kept before is no hit any more, ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cm_platform.cache.backend import CacheCapability

from .harness import OTHER, CacheFace, CacheHarness, call, need, refused

if TYPE_CHECKING:
    from cm_platform.cache.sync import Cache

NO_TAGS: dict[str, Any] = {
    "text": "tag",
    "an empty tag": ("",),
    "a number": (5,),
    "nothing": (None,),
    "bytes": (b"tag",),
    "a newline": ("a\n",),
    "NUL": ("a\x00",),
    "a lone surrogate": ("\ud800",),
    "too long": ("é" * 65,),
    "too many": tuple(f"tag-{n}" for n in range(65)),
}


class ClearingConformance(CacheHarness):
    """What the process that cleared sees. Others may see it later, as the backend declares."""

    def test_clear_makes_everything_absent(self, cache: Cache) -> None:
        cache.set_many({"a": 1, "b": 2})
        cache.set("c", 3, ttl=None)
        cache.clear()
        assert cache.get_many(["a", "b", "c"]) == {}
        assert cache.get("a", "default") == "default"

    def test_what_is_kept_after_a_clear_is_seen(self, cache: Cache) -> None:
        cache.set("key", "before")
        cache.clear()
        cache.set("key", "after")
        cache.set_many({"many": "after"})
        assert cache.get_many(["key", "many"]) == {"key": "after", "many": "after"}

    def test_clear_of_what_is_empty(self, cache: Cache) -> None:
        cache.clear()
        cache.clear()
        assert cache.get("key") is None
        cache.set("key", "value")
        assert cache.get("key") == "value"

    def test_many_clears_in_a_row(self, cache: Cache) -> None:
        for n in range(5):
            cache.set("key", n)
            assert cache.get("key") == n
            cache.clear()
            assert cache.get("key") is None

    def test_clear_leaves_other_namespaces_and_tenants_alone(
        self, cache: Cache, face: CacheFace
    ) -> None:
        neighbour, other = face.cache(), cache.namespace(OTHER)
        for space in (cache, neighbour, other):
            space.set("key", "value", tags=("tag",))
        cache.clear()
        assert cache.get("key") is None
        assert neighbour.get("key") == "value"
        assert other.get("key") == "value"
        cache.set("key", "value", tags=("tag",))
        other.clear()
        assert other.get("key") is None
        assert cache.get("key") == "value"

    def test_clear_reaches_a_handle_that_was_held(self, cache: Cache, face: CacheFace) -> None:
        held = face.cache(cache.tenant).namespace(OTHER)
        held.set("key", "value")
        assert held.get("key") == "value"
        cache.namespace(OTHER).clear()
        assert held.get("key") is None

    def test_a_clear_is_seen_from_elsewhere(
        self, cache: Cache, face: CacheFace, other: CacheFace
    ) -> None:
        there = other.cache(cache.tenant)
        cache.set_many({"a": 1, "b": 2})
        assert there.get_many(["a", "b"]) == {"a": 1, "b": 2}
        there.clear()
        self._later(face)
        assert cache.get_many(["a", "b"]) == {}
        cache.set("a", 3)
        self._later(face)
        assert there.get_many(["a", "b"]) == {"a": 3}

    def test_what_is_written_without_knowing_of_a_clear_is_kept(
        self, cache: Cache, face: CacheFace, other: CacheFace
    ) -> None:
        need(face, CacheCapability.READ_YOUR_WRITES)
        there = other.cache(cache.tenant)
        cache.set("key", "before")
        there.clear()
        # It did not see the clear before it wrote; its value is one of afterwards.
        cache.set("key", "after")
        cache.set_many({"many": "after"}, tags=("tag",))
        there.invalidate_tag("tag")
        cache.set("tagged", "after", tags=("tag",))
        for reader in (cache, there):
            assert reader.get("key") == "after"
            assert reader.get_many(["many", "tagged"]) == {"tagged": "after"}

    def test_an_invalidated_tag_takes_its_values_along(self, cache: Cache) -> None:
        cache.set("red", 1, tags=("red",))
        cache.set("both", 2, tags=("red", "blue"))
        cache.set_many({"blue": 3, "blue too": 3}, tags=["blue"])
        cache.set("none", 4)
        keys = ["red", "both", "blue", "blue too", "none"]
        assert list(cache.get_many(keys)) == keys
        cache.invalidate_tag("red")
        assert cache.get_many(keys) == {"blue": 3, "blue too": 3, "none": 4}
        assert cache.get("both", "absent") == "absent"
        cache.invalidate_tag("blue")
        assert cache.get_many(keys) == {"none": 4}

    def test_what_is_kept_after_an_invalidation_is_seen(self, cache: Cache) -> None:
        for n in range(4):
            cache.set("key", n, tags=("tag",))
            assert cache.get("key") == n
            cache.invalidate_tag("tag")
            assert cache.get("key") is None
        cache.set_many({"key": "after"}, tags=("tag",))
        assert cache.get_many(["key"]) == {"key": "after"}

    def test_a_later_set_replaces_the_tags(self, cache: Cache) -> None:
        cache.set("key", 1, tags=("old",))
        cache.set("key", 2, tags=("new",))
        cache.invalidate_tag("old")
        assert cache.get("key") == 2
        cache.invalidate_tag("new")
        assert cache.get("key") is None
        cache.set("key", 3)
        cache.invalidate_tag("new")
        assert cache.get("key") == 3

    def test_an_invalidation_of_a_tag_that_nothing_has(self, cache: Cache) -> None:
        cache.set("key", "value", tags=("tag",))
        cache.invalidate_tag("another")
        assert cache.get("key") == "value"

    def test_a_tag_belongs_to_its_namespace_and_tenant(self, cache: Cache, face: CacheFace) -> None:
        neighbour, other = face.cache(), cache.namespace(OTHER)
        for space in (cache, neighbour, other):
            space.set("key", "value", tags=("tag",))
        cache.invalidate_tag("tag")
        assert cache.get("key") is None
        assert neighbour.get("key") == "value"
        assert other.get("key") == "value"

    def test_an_invalidation_is_seen_from_elsewhere(
        self, cache: Cache, face: CacheFace, other: CacheFace
    ) -> None:
        there = other.cache(cache.tenant)
        cache.set("key", 1, tags=("tag",))
        cache.set("untagged", 1)
        assert there.get_many(["key", "untagged"]) == {"key": 1, "untagged": 1}
        there.invalidate_tag("tag")
        self._later(face)
        assert cache.get_many(["key", "untagged"]) == {"untagged": 1}
        cache.set("key", 2, tags=("tag",))
        self._later(face)
        assert there.get("key") == 2

    def test_clear_and_tags_together(self, cache: Cache) -> None:
        cache.set("key", 1, tags=("tag",))
        cache.clear()
        cache.invalidate_tag("tag")
        assert cache.get("key") is None
        cache.set("key", 2, tags=("tag",))
        assert cache.get("key") == 2
        cache.clear()
        assert cache.get("key") is None

    def test_a_value_may_have_64_tags_of_128_bytes(self, cache: Cache) -> None:
        tags = [f"{n:02}" + "é" * 63 for n in range(64)]
        cache.set("key", "value", tags=tags)
        assert cache.get("key") == "value"
        cache.invalidate_tag(tags[40])
        assert cache.get("key") is None

    @pytest.mark.parametrize("tag", ["a b", "a:b", "~", "!g", "*", "{x}", "é🏖️", "..", "default"])
    def test_a_tag_may_be_any_text(self, cache: Cache, tag: str) -> None:
        cache.set("key", 1, tags=(tag,))
        cache.set("other", 2, tags=(tag + "x", "x" + tag))
        assert cache.get_many(["key", "other"]) == {"key": 1, "other": 2}
        cache.invalidate_tag(tag)
        assert cache.get_many(["key", "other"]) == {"other": 2}

    def test_no_value_of_before_comes_back_while_others_write(
        self, cache: Cache, face: CacheFace
    ) -> None:
        cache.set_many({f"key-{n}": "before" for n in range(8)}, tags=("tag",))
        writes = [call("set", f"key-{n}", "meanwhile", tags=("tag",)) for n in range(4)]
        face.at_once(cache, [*writes, call("clear"), call("invalidate_tag", "tag"), *writes])
        found = cache.get_many([f"key-{n}" for n in range(8)])
        assert set(found.values()) <= {"meanwhile"}
        cache.set_many(dict.fromkeys(found, "after"), tags=("tag",))
        assert cache.get_many(found) == dict.fromkeys(found, "after")

    def test_a_generation_that_the_store_lost_brings_nothing_back(
        self, cache: Cache, face: CacheFace
    ) -> None:
        self._needs_eviction(face)
        for n in range(3):
            cache.set_many({"cleared": n, "tagged": n}, tags=("tag",))
            cache.clear()
            cache.set("kept", n)
            face.lose(cache, "~default!g")
            # It cannot tell any more what is of before the clear.
            assert cache.get_many(["cleared", "tagged", "kept"]) == {}
            cache.set("new", n)
            assert cache.get_many(["cleared", "tagged", "kept", "new"]) == {"new": n}
            assert cache.get("cleared") is None

    def test_a_generation_that_the_store_lost_is_agreed_upon_again(
        self, cache: Cache, face: CacheFace, other: CacheFace
    ) -> None:
        self._needs_eviction(face)
        there = other.cache(cache.tenant)
        cache.set("key", "before")
        cache.clear()
        assert there.get("key") is None
        face.lose(cache, "~default!g")
        there.set("theirs", 1)
        cache.set("ours", 2)
        for reader in (cache, there):
            assert reader.get_many(["key", "theirs", "ours"]) == {"theirs": 1, "ours": 2}

    def test_a_tag_that_the_store_lost_brings_nothing_back(
        self, cache: Cache, face: CacheFace
    ) -> None:
        self._needs_eviction(face)
        cache.set("invalidated", 1, tags=("tag", "other"))
        cache.set("untagged", 1)
        cache.invalidate_tag("tag")
        face.lose(cache, "~default!t:tag")
        assert cache.get_many(["invalidated", "untagged"]) == {"untagged": 1}
        cache.set("new", 2, tags=("tag",))
        assert cache.get_many(["invalidated", "untagged", "new"]) == {"untagged": 1, "new": 2}

    def test_a_counter_after_a_lost_generation_is_one_that_counts(
        self, cache: Cache, face: CacheFace
    ) -> None:
        self._needs_eviction(face)
        need(face, CacheCapability.ATOMIC_INCREMENT)
        cache.increment("key", 10)
        face.lose(cache, "~default!g")
        assert cache.get("key") is None
        assert cache.increment("key") == 1
        assert cache.get("key") == 1

    @pytest.mark.parametrize("tags", list(NO_TAGS.values()), ids=list(NO_TAGS))
    def test_what_is_no_tag_is_refused_before_any_io(
        self, cache: Cache, face: CacheFace, tags: Any
    ) -> None:
        assert "tag" in str(refused(face, cache.set, "key", 1, tags=tags))
        assert "tag" in str(refused(face, cache.set_many, {"key": 1}, tags=tags))
        assert "tag" in str(refused(face, cache.get_or_set, "key", int, tags=tags))
        if not isinstance(tags, str) and len(tags) == 1:
            assert "tag" in str(refused(face, cache.invalidate_tag, tags[0]))

    def test_tags_are_an_iterable(self, cache: Cache, face: CacheFace) -> None:
        cache.set("key", 1, tags=(tag for tag in ("a", "a", "b")))
        cache.invalidate_tag("b")
        assert cache.get("key") is None
        tags: Any
        for tags in (5, None, object()):
            refused(face, cache.set, "key", 1, tags=tags)

    @staticmethod
    def _needs_eviction(face: CacheFace) -> None:
        if not face.backend.evicts:
            pytest.skip("the store loses nothing")

    def _later(self, face: CacheFace) -> None:
        limits = face.limits
        if limits.staleness or limits.generation_age:
            self.pass_time(face, limits.staleness + limits.generation_age + 0.1)


__all__ = ["ClearingConformance"]
