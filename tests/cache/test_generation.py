"""Generations and tags under every interleaving that loses or resurrects values if it is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cm_platform.cache.entry import Encoding, Entry, decode, encode
from cm_platform.cache.generation import parse
from cm_platform.cache.sync import Cache
from cm_platform.errors import IntegrityError, UnavailableError
from cm_platform.tenant import Tenant

from .doubles import FakeClock, World, failing

GENERATION = "acme/~default!g"


def test_what_is_kept_after_a_clear_elsewhere_counts(world: World, cache: Cache) -> None:
    there = world.elsewhere()
    cache.set("before", 1)
    there.clear()
    cache.set("after", 2)
    cache.set_many({"many": 3}, tags=("tag",))
    assert cache.increment("count") == 1
    for reader in (cache, there, world.elsewhere()):
        assert reader.get_many(["before", "after", "many", "count"]) == {
            "after": 2,
            "many": 3,
            "count": 1,
        }


@pytest.mark.parametrize("method", ["set", "set_many"])
def test_a_clear_before_the_write_lands_does_not_take_it(
    world: World, cache: Cache, method: str
) -> None:
    cache.set("key", 0)
    world.once_before(method, world.elsewhere().clear)
    write(cache, method)
    assert cache.get("key") == 1
    assert world.elsewhere().get("key") == 1


@pytest.mark.parametrize("method", ["set", "set_many"])
def test_a_clear_after_the_write_landed_takes_it(world: World, cache: Cache, method: str) -> None:
    cache.set("key", 0)
    world.once_after(method, world.elsewhere().clear)
    write(cache, method)
    assert cache.get("key") is None
    assert world.elsewhere().get("key") is None


def write(cache: Cache, method: str, **options: Any) -> None:
    if method == "set":
        cache.set("key", 1, **options)
    else:
        assert cache.set_many({"key": 1}, **options) == {"key": None}


@pytest.mark.parametrize("method", ["set", "set_many"])
def test_what_others_learn_meanwhile_does_not_take_a_write(
    world: World, cache: Cache, method: str
) -> None:
    """The tag was invalidated before the write began; that another thread of this process hears
    of it while the write is under way makes the write no older."""
    cache.set("seen", 0, tags=("tag",))
    assert cache.get("seen") == 0
    world.elsewhere().invalidate_tag("tag")
    world.once_before(method, lambda: world.reentered(cache, "get", "seen"))
    write(cache, method, tags=("tag",))
    assert cache.get("key") == 1
    assert world.elsewhere().get("key") == 1


def test_a_clear_while_a_counter_is_counted_begins_it_anew(world: World, cache: Cache) -> None:
    there = world.elsewhere()
    assert cache.increment("count", 5) == 5
    world.once_before("increment", there.clear)
    assert cache.increment("count", 2) == 2
    assert there.get("count") == 2
    assert there.increment("count") == 3


def test_two_clears_at_once_are_one(world: World, cache: Cache) -> None:
    there = world.elsewhere()
    cache.set("key", 1)
    world.once_before("compare_and_set", there.clear)
    cache.clear()
    assert cache.get("key") is None
    assert there.get("key") is None
    cache.set("key", 2)
    assert there.get("key") == 2


@pytest.mark.parametrize("tag", [None, "tag"])
def test_a_clear_whose_reply_was_lost_has_cleared(
    world: World, cache: Cache, tag: str | None
) -> None:
    there = world.elsewhere()
    cache.set("key", 1, tags=("tag",))

    def lose() -> None:
        raise_version(there, tag)
        raise UnavailableError("the connection was lost", retryable=True)

    # Ours landed, then another's: what is found is neither what was there nor what we wrote.
    world.once_after("compare_and_set", lose)
    raise_version(cache, tag)
    assert cache.get("key") is None
    cache.set("key", 2, tags=("tag",))
    assert there.get("key") == 2


def raise_version(cache: Cache, tag: str | None) -> None:
    if tag is None:
        cache.clear()
    else:
        cache.invalidate_tag(tag)


@pytest.mark.parametrize("tag", [None, "tag"])
def test_a_clock_that_goes_back_clears_all_the_same(
    world: World, cache: Cache, tag: str | None
) -> None:
    for n in range(3):
        cache.set("key", n, ttl=None, tags=("tag",))
        assert cache.get("key") == n
        raise_version(cache, tag)
        assert cache.get("key") is None
        world.clock.ahead -= 3600


def test_a_process_whose_clock_is_behind_clears_what_others_wrote(
    world: World, cache: Cache
) -> None:
    slow = FakeClock()
    slow.ahead -= 3600
    there = world.elsewhere(clock=slow)
    cache.clear()
    cache.set("key", 1)
    there.clear()
    assert cache.get("key") is None
    assert there.get("key") is None
    there.set("key", 2)
    assert cache.get("key") == 2


class TestAStoreThatLosesVersions:
    """Where a version may have been evicted, its absence proves nothing."""

    @pytest.fixture
    def cache(self, world: World) -> Cache:
        world.shared.evicts = True
        return world.cache()

    def test_nothing_is_a_hit_until_a_new_one_is_set(self, world: World, cache: Cache) -> None:
        cache.set("cleared", 1)
        cache.clear()
        cache.set("key", 1)
        world.clock.move(1)
        del world.shared.kept[GENERATION]
        assert cache.get_many(["cleared", "key"]) == {}
        assert world.elsewhere().get("key") is None
        cache.set("new", 2)
        for reader in (cache, world.elsewhere()):
            assert reader.get_many(["cleared", "key", "new"]) == {"new": 2}

    def test_one_that_is_lost_while_a_value_is_written(self, world: World, cache: Cache) -> None:
        cache.set("key", 1)
        world.clock.move(1)
        world.once_before("set", lambda: world.shared.kept.pop(GENERATION))
        cache.set("key", 2)
        assert cache.get("key") == 2
        assert world.elsewhere().get("key") == 2

    def test_one_that_two_set_at_once(self, world: World, cache: Cache) -> None:
        there = world.elsewhere()

        def meanwhile() -> None:
            there.set("theirs", 1)

        # Our value was written and found no generation; another process sets one before we do.
        world.once_before("set", meanwhile, skip=1)
        cache.set("ours", 2)
        for reader in (cache, there):
            assert reader.get_many(["ours", "theirs"]) == {"ours": 2, "theirs": 1}

    def test_a_tags_version(self, world: World, cache: Cache) -> None:
        cache.set("key", 1, tags=("tag",))
        cache.set("untagged", 1)
        assert cache.get("key") == 1
        world.clock.move(1)
        del world.shared.kept["acme/~default!t:tag"]
        assert cache.get_many(["key", "untagged"]) == {"untagged": 1}
        cache.set("key", 2, tags=("tag",))
        assert world.elsewhere().get("key") == 2

    def test_a_counter(self, world: World, cache: Cache) -> None:
        assert cache.increment("count", 5) == 5
        world.clock.move(1)
        del world.shared.kept[GENERATION]
        assert cache.get("count") is None
        assert cache.increment("count") == 1
        assert world.elsewhere().increment("count") == 2

    def test_a_clear_while_it_is_lost(self, world: World, cache: Cache) -> None:
        cache.set("key", 1)
        world.clock.move(1)
        del world.shared.kept[GENERATION]
        cache.clear()
        assert cache.get("key") is None
        cache.set("key", 2)
        assert world.elsewhere().get("key") == 2


def test_a_store_that_keeps_versions_needs_none(world: World, cache: Cache) -> None:
    cache.set("key", 1, tags=("tag",))
    assert world.shared.names("!g") == []
    assert world.elsewhere().get("key") == 1


@pytest.mark.parametrize(
    "version", [b"", b"x", b"-1", b" 1", b"1_0", b"9" * 20, b"9" * 21, b"18446744073709551615"]
)
def test_a_version_that_is_none_is_an_integrity_error(
    world: World, cache: Cache, version: bytes
) -> None:
    cache.set("key", 1)
    cache.increment("count")
    world.shared.put(GENERATION, version, None)
    for act in (
        lambda: cache.get("key"),
        lambda: cache.get_many(["key"]),
        lambda: cache.set("key", 2),
        lambda: cache.increment("count"),
        lambda: cache.clear(),
        lambda: cache.touch("key", 5),
    ):
        with pytest.raises(IntegrityError) as caught:
            act()
        assert "acme" not in str(caught.value)


def test_versions_fit_into_an_entry() -> None:
    highest = 2**63 - 2
    assert parse(b"%d" % highest) == highest
    # The next clear's, too.
    entry = Entry(Encoding.STR, highest + 1, 0, 0, b"")
    assert decode(encode(entry)) == entry


class TestAStoreWhoseGenerationIsRemembered:
    """`generation_age`: a process goes on with what it knows, and no longer than it may."""

    @pytest.fixture
    def cache(self, world: World) -> Cache:
        world.shared.limits = replace(world.shared.limits, generation_age=30.0)
        return world.cache()

    def test_it_is_not_read_with_every_value(self, world: World, cache: Cache) -> None:
        cache.set("key", 1)
        assert cache.get("key") == 1
        world.here.calls.clear()
        asked: list[Any] = []
        world.here.backend.before = lambda name, args, kwargs: asked.append((args, kwargs))
        assert cache.get("key") == 1
        cache.set("key", 2)
        assert not [one for one in asked if "~default!g" in repr(one)]

    def test_a_clear_elsewhere_is_seen_when_it_is_over(self, world: World, cache: Cache) -> None:
        cache.set("key", 1)
        assert cache.get("key") == 1
        world.elsewhere().clear()
        assert cache.staleness() == 30.0
        world.clock.move(29)
        assert cache.get("key") == 1
        world.clock.move(1)
        assert cache.get("key") is None

    def test_ones_own_clear_is_seen_at_once(self, world: World, cache: Cache) -> None:
        cache.set("key", 1)
        labelled = world.cache(Tenant("acme", user_id="somebody"))
        assert labelled.get("key") == 1
        cache.clear()
        assert cache.get("key") is None
        # Whoever the tenant's user is: it is one process.
        assert labelled.get("key") is None

    def test_a_store_that_lags_does_not_undo_ones_own_clear(
        self, world: World, cache: Cache
    ) -> None:
        cache.set("key", 1)
        kept = dict(world.shared.kept)
        cache.clear()
        world.clock.move(31)
        world.shared.kept = kept
        assert cache.get("key") is None


def test_tenants_and_namespaces_have_versions_of_their_own(world: World) -> None:
    one, other = world.cache(Tenant("one")), world.cache(Tenant("other"))
    for space in (one, other, one.namespace("other")):
        space.set("key", 1, tags=("tag",))
    one.clear()
    one.invalidate_tag("tag")
    assert one.get("key") is None
    assert other.get("key") == 1
    assert one.namespace("other").get("key") == 1


def test_a_read_that_fails_while_versions_are_looked_up_is_told(world: World, cache: Cache) -> None:
    cache.set("key", 1)
    for _ in range(3):
        world.once_before("get_many", failing(UnavailableError("no")))
        with pytest.raises(UnavailableError):
            cache.get("key")
    assert cache.get("key") == 1
