"""Writes whose replies are lost, batches that fail in part, and who wins a condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cm_platform.cache.entry import HEADER
from cm_platform.cache.sync import Cache
from cm_platform.errors import (
    AmbiguousError,
    InternalError,
    InvalidArgumentError,
    PlatformError,
    PreconditionFailedError,
    RateLimitedError,
    UnavailableError,
)

from .doubles import World, failing


def lost() -> UnavailableError:
    """A new one each time: what passes the executor is marked."""
    return UnavailableError("the connection was lost", retryable=True)


# Conditions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["absent", "present"])
def test_a_conditional_set_whose_reply_was_lost_knows_its_own(
    world: World, cache: Cache, condition: Any
) -> None:
    if condition == "present":
        cache.set("key", "before")
    world.once_after("compare_and_set", failing(lost()))
    assert cache.set("key", "mine", only_if=condition) is True
    assert cache.get("key") == "mine"


def test_a_conditional_set_that_did_not_land_is_made_again(world: World, cache: Cache) -> None:
    world.once_before("compare_and_set", failing(lost()))
    assert cache.set("key", "mine", only_if="absent") is True
    assert cache.get("key") == "mine"


def test_a_conditional_set_that_another_overwrote_is_in_doubt(world: World, cache: Cache) -> None:
    there = world.elsewhere()

    def lose() -> None:
        there.set("key", "theirs")
        raise lost()

    world.once_after("compare_and_set", lose)
    with pytest.raises(AmbiguousError):
        cache.set("key", "mine", only_if="absent")
    assert cache.get("key") == "theirs"


def test_of_two_who_write_the_same_value_one_wins(world: World, cache: Cache) -> None:
    there = world.elsewhere()
    outcomes: list[bool] = []

    def lose() -> None:
        # Ours did not land; another's, of the same bytes but for its token, did.
        outcomes.append(there.set("key", "same", only_if="absent"))
        raise lost()

    world.once_before("compare_and_set", lose)
    with pytest.raises(AmbiguousError):
        cache.set("key", "same", only_if="absent")
    assert outcomes == [True]


def test_a_number_whose_reply_was_lost_is_in_doubt(world: World, cache: Cache) -> None:
    """A counter has no token, so another's write of the same number looks like ours."""
    world.once_after("compare_and_set", failing(lost()))
    with pytest.raises(AmbiguousError):
        cache.set("key", 5, only_if="absent")
    assert cache.increment("key") == 6


def test_who_is_overtaken_looks_again(world: World, cache: Cache) -> None:
    there = world.elsewhere()
    world.once_before("compare_and_set", lambda: there.set("key", "theirs"))
    assert cache.set("key", "mine", only_if="absent") is False
    world.once_before("compare_and_set", lambda: there.set("key", "theirs again"))
    assert cache.set("key", "mine", only_if="present") is True
    assert there.get("key") == "mine"


def test_a_lost_reply_of_a_raw_conditional_set_is_in_doubt(world: World, cache: Cache) -> None:
    raw = cache.namespace("shared")
    world.once_after("set", failing(lost()))
    with pytest.raises(AmbiguousError):
        raw.set("key", b"mine", only_if="absent")
    assert world.here.calls.count("set") == 1


# Counters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["default", "shared"])
def test_an_increment_is_never_sent_twice(world: World, cache: Cache, namespace: str) -> None:
    counting = cache.namespace(namespace)
    assert counting.increment("count") == 1
    world.here.calls.clear()
    world.once_after("increment", failing(lost()))
    with pytest.raises(AmbiguousError):
        counting.increment("count")
    assert world.here.calls.count("increment") == 1
    assert counting.increment("count") == 3


def test_an_increment_that_was_not_sent_is_sent_again(world: World, cache: Cache) -> None:
    world.once_before("increment", failing(UnavailableError("no", retryable=True, not_sent=True)))
    assert cache.increment("count") == 1


def test_what_counts_no_more_does_not_stand_in_a_counters_way(world: World, cache: Cache) -> None:
    cache.set("invalidated", 5, tags=("tag",))
    cache.set("stale", 5, ttl=1, stale=100)
    cache.set("text", "5", tags=("tag",))
    for key in ("invalidated", "stale", "text"):
        with pytest.raises(PreconditionFailedError):
            cache.increment(key)
    cache.invalidate_tag("tag")
    world.clock.move(2)
    for key in ("invalidated", "stale", "text"):
        assert cache.get(key) is None
        assert cache.increment(key, 2) == 2
        assert cache.get(key) == 2


def test_bytes_of_another_program_are_no_counter(world: World, cache: Cache) -> None:
    world.shared.put("acme/~default:key", b"5", None)
    with pytest.raises(PreconditionFailedError):
        cache.increment("key")
    assert world.shared.get("acme/~default:key") == b"5"


def test_counters_and_conditions_meet(world: World, cache: Cache) -> None:
    assert cache.set("key", 5, only_if="absent") is True
    assert cache.increment("key") == 6
    assert cache.touch("key", 50) is True
    assert cache.increment("key") == 7
    assert world.elsewhere().get("key") == 7


# Batches ----------------------------------------------------------------------------------------

MOST = 50
MANY = {f"key-{n}": n for n in range(MOST + 10)}


@pytest.mark.parametrize("namespace", ["default", "shared"])
@pytest.mark.parametrize("method", ["set_many", "delete_many"])
def test_a_batch_that_fails_is_the_outcome_of_its_keys_and_the_others_go_on(
    world: World, cache: Cache, namespace: str, method: str
) -> None:
    space = cache.namespace(namespace)
    values: dict[str, Any] = {key: b"%d" % value for key, value in MANY.items()}
    argument = values if method == "set_many" else list(values)
    world.once_before(method, failing(InternalError("broken")))
    outcomes = getattr(space, method)(argument)
    assert list(outcomes) == list(MANY)
    failed = {key for key, error in outcomes.items() if error is not None}
    # In doubt: the reply said nothing of it.
    assert failed == set(list(MANY)[:MOST])
    assert {error.code for error in outcomes.values() if error is not None} <= {
        "internal",
        "ambiguous",
    }
    if method == "set_many":
        assert space.get_many(values).keys() == set(MANY) - failed


def test_what_is_too_large_spoils_a_batch_before_any_io(world: World, cache: Cache) -> None:
    values: dict[str, Any] = {**MANY, "large": b"x" * 200_000}
    for space in (cache, cache.namespace("shared")):
        bytes_only = {key: b"%r" % (value,) for key, value in values.items()}
        world.here.calls.clear()
        with pytest.raises(InvalidArgumentError):
            space.set_many(bytes_only if space is not cache else values)
        assert world.here.calls == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateLimitedError("slow down", retryable=True, not_sent=True, retry_after=0.001),
        lambda: UnavailableError("not now", retryable=True),
    ],
)
@pytest.mark.parametrize("namespace", ["default", "shared"])
def test_a_delete_that_a_store_refuses_for_a_while_is_made_again(
    world: World, cache: Cache, make: Callable[[], PlatformError], namespace: str
) -> None:
    space = cache.namespace(namespace)
    space.set("key", b"value")
    left = [1]

    def lie(name: str, answer: Any) -> Any:
        if name != "delete_many" or not left:
            return answer
        left.pop()
        key = "key" if namespace == "shared" else "~default:key"
        return {key: make()}

    world.here.backend.lie = lie
    space.delete("key")
    assert world.here.calls.count("delete_many") == 2


def test_a_delete_that_fails_is_raised(world: World, cache: Cache) -> None:
    world.once_before("delete_many", failing(InternalError("broken")))
    with pytest.raises(PlatformError) as caught:
        cache.delete("key")
    assert caught.value.service == "cache"
    assert caught.value.operation == "delete"


def test_a_write_that_writers_keep_overtaking_gives_up(world: World, cache: Cache) -> None:
    there = world.elsewhere()

    def always(name: str, *_: Any) -> None:
        if name == "set":
            there.clear()

    world.here.backend.before = always
    with pytest.raises(UnavailableError, match="too many writers"):
        cache.set("key", 1)


def test_a_size_is_checked_with_the_header(world: World, cache: Cache) -> None:
    most = world.shared.limits.max_value
    cache.set("key", b"x" * (most - HEADER.size))
    with pytest.raises(InvalidArgumentError, match=str(most)):
        cache.set("key", b"x" * (most - HEADER.size + 1))
    raw = cache.namespace("shared")
    raw.set("key", b"x" * most)
    with pytest.raises(InvalidArgumentError):
        raw.set("key", b"x" * (most + 1))
