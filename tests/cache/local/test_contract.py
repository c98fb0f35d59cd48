"""`cache.local` keeps the contract of `CacheBackend`, in memory and in a file."""

from __future__ import annotations

import pytest

from cm_platform.cache.backend import CacheBackend, CacheCapability, Stored
from cm_platform.cache.local import BACKEND
from cm_platform.errors import InvalidArgumentError, NotFoundError
from cm_platform.registry import Registry

from .opened import ACME, Opened

ODD_KEYS = [
    "a b",
    "*",
    "?",
    "[a-z]",
    "{tag}",
    "a:b",
    "a/b",
    "..",
    ".",
    "%41",
    "A",
    "é",
    "e\u0301",
    "🔑",
    "'; DROP TABLE entries; --",
    "k" * 400,
    "~default:x",
    "\\",
    "_",
    "%",
]


def test_it_is_a_cache_backend_with_all_capabilities(local: Opened) -> None:
    backend: CacheBackend = local.cache
    assert backend.capabilities == BACKEND.capabilities == frozenset(CacheCapability)
    assert backend.evicts


def test_it_is_found_by_name_once_registered() -> None:
    registry = Registry()
    registry.register(BACKEND)
    assert registry.get("cache", "local") is BACKEND
    assert "local" in registry.names("cache")


@pytest.mark.parametrize("value", [b"", b"hello", b"\x00\xff" * 500], ids=["empty", "text", "raw"])
def test_get_returns_what_set_kept(local: Opened, value: bytes) -> None:
    assert local.set("a", value)
    assert local.get("a") == value
    assert local.get("b") is None


def test_get_many_answers_in_order_also_for_a_key_twice(local: Opened) -> None:
    local.set("a", b"1")
    local.set("c", b"3")
    assert local.get_many(["c", "b", "a", "c"]) == [b"3", None, b"1", b"3"]


def test_a_thousand_keys_in_one_call(local: Opened) -> None:
    values = {f"{n:02}": b"%d" % n for n in range(90)}
    assert local.set_many(values).failures == {}
    keys = [f"{n % 100:02}" for n in range(1000)]
    assert local.get_many(keys) == [values.get(key) for key in keys]
    local.delete(*keys)
    assert set(local.get_many(keys)) == {None}


def test_odd_keys_are_kept_apart_byte_for_byte(local: Opened) -> None:
    for key in ODD_KEYS:
        local.set(key, key.encode())
    assert local.get_many(ODD_KEYS) == [key.encode() for key in ODD_KEYS]
    local.delete(*ODD_KEYS[::2])
    assert local.get_many(ODD_KEYS) == [
        None if n % 2 == 0 else key.encode() for n, key in enumerate(ODD_KEYS)
    ]


def test_a_partition_is_the_beginning_of_the_key_and_others_are_untouched(local: Opened) -> None:
    for partition in ("acme/", "acme2/", "acm/", "*/"):
        local.set("k", partition.encode(), partition=partition)
    local.run(local.cache.delete_many("*/", ["k", "*"]))
    assert local.get("k", "*/") is None
    for partition in ("acme/", "acme2/", "acm/"):
        assert local.get("k", partition) == partition.encode()
    # "Exactly partition + key": raw namespaces share these names with other programs.
    assert local.get("/k", "acme") == b"acme/"


def test_a_key_that_utf8_cannot_say_is_refused(local: Opened) -> None:
    with pytest.raises(InvalidArgumentError, match="surrogate"):
        local.set("\ud800")
    with pytest.raises(InvalidArgumentError, match="surrogate"):
        local.get("\ud800")


def test_set_replaces_value_and_time_together(local: Opened) -> None:
    local.set("a", b"old", ttl=5)
    local.set("a", b"new")
    assert (local.get("a"), local.ttl("a")) == (b"new", None)
    local.set("a", b"newer", ttl=7)
    assert (local.get("a"), local.ttl("a")) == (b"newer", 7)


def test_set_only_if_absent_refuses_a_key_that_is_there(local: Opened) -> None:
    assert local.set("a", b"1", only_if="absent", ttl=5)
    assert not local.set("a", b"2", only_if="absent")
    assert (local.get("a"), local.ttl("a")) == (b"1", 5)


def test_set_only_if_present_refuses_a_key_that_is_not_there(local: Opened) -> None:
    assert not local.set("a", b"1", only_if="present")
    assert local.get("a") is None
    local.set("a", b"1")
    assert local.set("a", b"2", only_if="present")
    assert local.get("a") == b"2"


def test_a_condition_sees_a_value_whose_time_is_over_as_absent(local: Opened) -> None:
    local.set("a", b"1", ttl=5)
    local.clock.pass_(5)
    assert not local.set("a", b"2", only_if="present")
    assert local.set("a", b"3", only_if="absent")
    assert local.get("a") == b"3"


def test_along_is_read_after_the_write_took_effect(local: Opened) -> None:
    local.set("g", b"7")
    cache = local.cache
    reply = local.run(cache.set(ACME, "a", b"1", ttl=None, along=["g", "a", "none"]))
    assert reply == Stored(True, [b"7", b"1", None])
    reply = local.run(cache.set(ACME, "a", b"2", ttl=None, only_if="absent", along=["a"]))
    assert reply == Stored(False, [b"1"])
    many = local.run(cache.set_many(ACME, {"a": b"3", "b": b"4"}, ttl=None, along=["b", "a"]))
    assert list(many.along) == [b"4", b"3"]
    assert list(local.count("n", 5, along=["n", "g"]).along) == [b"5", b"7"]


def test_delete_forgets_and_an_absent_key_is_no_failure(local: Opened) -> None:
    local.set("a")
    local.delete("a", "b")
    local.delete("a")
    assert local.get("a") is None


def test_compare_and_set_replaces_exactly_what_was_expected(local: Opened) -> None:
    assert not local.swap("a", b"1", b"2")
    assert local.swap("a", None, b"1", ttl=5)
    assert not local.swap("a", None, b"2")
    assert not local.swap("a", b"10", b"2")
    assert not local.swap("a", b"", b"2")
    assert (local.get("a"), local.ttl("a")) == (b"1", 5)
    assert local.swap("a", b"1", b"2", ttl=9)
    assert (local.get("a"), local.ttl("a")) == (b"2", 9)
    assert local.swap("a", b"2", None)
    assert local.get("a") is None


def test_compare_and_set_of_absent_by_absent_holds_where_there_is_nothing(local: Opened) -> None:
    assert local.swap("a", None, None)
    assert local.get("a") is None
    local.set("a", b"1")
    assert not local.swap("a", None, None)
    assert local.get("a") == b"1"


def test_compare_and_set_sees_a_value_whose_time_is_over_as_absent(local: Opened) -> None:
    local.set("a", b"1", ttl=5)
    local.clock.pass_(5)
    assert not local.swap("a", b"1", b"2")
    assert local.swap("a", None, b"2")


def test_ttl_of_an_absent_key_is_not_found(local: Opened) -> None:
    with pytest.raises(NotFoundError):
        local.ttl("a")
    local.set("a", ttl=1)
    local.clock.pass_(1)
    with pytest.raises(NotFoundError):
        local.ttl("a")
    # The connection that an error passed through serves again.
    assert local.set("a")
    assert local.ttl("a") is None


def test_expire_gives_a_value_another_time(local: Opened) -> None:
    assert not local.expire("a", 5)
    local.set("a", b"1")
    assert local.expire("a", 5)
    assert local.ttl("a") == 5
    local.clock.pass_(4)
    assert local.expire("a", None)
    local.clock.pass_(100)
    assert (local.get("a"), local.ttl("a")) == (b"1", None)
    assert local.expire("a", 1)
    local.clock.pass_(1)
    assert not local.expire("a", 5)


@pytest.mark.parametrize("ttl", [0.001, 0.1, 1, 5, 86_400 * 365])
def test_a_value_is_there_until_its_time_is_over_and_not_a_moment_longer(
    local: Opened, ttl: float
) -> None:
    local.set("a", ttl=ttl)
    local.set_many({"b": b"x"}, ttl=ttl)
    local.count("n", ttl=ttl)
    # The wall clock's numbers are large: a double tells a quarter of a microsecond there.
    local.clock.pass_(ttl - 0.000_5)
    assert local.get_many(["a", "b", "n"]) == [b"x", b"x", b"1"]
    assert local.ttl("a") == pytest.approx(0.000_5, abs=0.000_001)
    local.clock.pass_(0.000_501)
    assert local.get_many(["a", "b", "n"]) == [None, None, None]


def test_ping_answers(local: Opened) -> None:
    local.run(local.cache.ping())


def test_what_is_not_sqlites_is_not_classified(local: Opened) -> None:
    assert local.cache.translate(KeyError("x")) is None
