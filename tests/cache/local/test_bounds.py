"""`cache.local` stays within its bytes, counts them exactly, and gives up the right entries."""

from __future__ import annotations

import random
import sqlite3
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_platform.cache.local import file, memory, operations
from cm_platform.cache.local.file import FileStore
from cm_platform.cache.local.memory import MemoryStore
from cm_platform.cache.local.table import Store, Table
from cm_platform.errors import InvalidArgumentError
from cm_platform.sqlite import Ticket

from .opened import MovingClock, Opened, opened

T = TypeVar("T")


@dataclass
class Row:
    """What the model knows of an entry. number: of its last use."""

    size: int
    value: bytes
    expires: float | None
    number: int


class Model:
    """The rules again, by plain loops over all rows. As a store in memory has them."""

    def __init__(self, clock: MovingClock, overhead: int, max_bytes: int) -> None:
        self.clock = clock
        self.overhead = overhead
        self.max_bytes = max_bytes
        self.rows: dict[bytes, Row] = {}
        self.numbered = 0

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    @property
    def used(self) -> int:
        return sum(row.size for row in self.rows.values())

    def order(self) -> list[bytes]:
        return sorted(self.rows, key=lambda key: self.rows[key].number)

    def begin(self) -> None:
        """An operation begins."""

    def end(self) -> None:
        """An operation ends."""

    def next_number(self) -> int:
        self.numbered += 1
        return self.numbered

    def is_over(self, row: Row) -> bool:
        return row.expires is not None and row.expires <= self.now

    def get(self, key: bytes) -> bytes | None:
        row = self.rows.get(key)
        if row is None:
            return None
        if self.is_over(row):
            self.found_over(key)
            return None
        self.use(key, row)
        return row.value

    def found_over(self, key: bytes) -> None:
        del self.rows[key]

    def use(self, key: bytes, row: Row) -> None:
        row.number = self.next_number()

    def first_over(self) -> bytes | None:
        over = [(row.expires, key) for key, row in self.rows.items() if self.is_over(row)]
        return min(over)[1] if over else None

    def put(self, key: bytes, value: bytes, ttl: float | None) -> None:
        self.rows.pop(key, None)
        size = len(key) + len(value) + self.overhead
        while self.used + size > self.max_bytes:
            del self.rows[self.first_over() or self.order()[0]]
        expires = None if ttl is None else self.now + ttl
        self.rows[key] = Row(size, value, expires, self.next_number())


class FileModel(Model):
    """As a store in a file has them: only what has become old is made young by a use."""

    middle = 0.0

    @property
    def now(self) -> float:
        return self.clock.wall()

    def begin(self) -> None:
        self.aged: list[bytes] = []
        numbers = [row.number for row in self.rows.values()]
        filling = self.used * 2 > self.max_bytes
        self.middle = (min(numbers) + max(numbers)) / 2 if filling else 0

    def end(self) -> None:
        for key in self.aged:
            if key in self.rows:
                self.rows[key].number = self.next_number()

    def next_number(self) -> int:
        return max((row.number for row in self.rows.values()), default=0) + 1

    def found_over(self, key: bytes) -> None:
        pass

    def use(self, key: bytes, row: Row) -> None:
        if row.number < self.middle:
            self.aged.append(key)

    def first_over(self) -> bytes | None:
        over = [
            (row.expires, row.number, key) for key, row in self.rows.items() if self.is_over(row)
        ]
        return min(over)[2] if over else None


class Pair:
    """A store and its model, given the same orders."""

    def __init__(self, store: Store, model: Model, keys: Callable[[], list[bytes]]) -> None:
        self.store = store
        self.model = model
        self.keys = keys

    def apply(self, order: tuple[Any, ...]) -> None:
        name, *arguments = order
        if name == "pass":
            self.model.clock.pass_(*arguments)
            return
        self.model.begin()
        expected = getattr(self, f"expect_{name}")(*arguments)
        self.model.end()
        assert getattr(self, name)(*arguments) == expected
        assert self.keys() == self.model.order()

    def write(self, work: Callable[[Table], T]) -> T:
        return self.store.write(work, Ticket())

    def get(self, keys: list[bytes]) -> Sequence[bytes | None]:
        return self.store.read(lambda table: operations.get_many(table, keys))

    def expect_get(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.model.get(key) for key in keys]

    def put(self, key: bytes, size: int, ttl: float | None) -> bool:
        value = b"x" * size
        return self.write(lambda t: operations.set_one(t, key, value, ttl, None, ())).stored

    def expect_put(self, key: bytes, size: int, ttl: float | None) -> bool:
        self.model.put(key, b"x" * size, ttl)
        return True

    def put_absent(self, key: bytes, size: int, ttl: float | None) -> bool:
        value = b"x" * size
        return self.write(lambda t: operations.set_one(t, key, value, ttl, "absent", ())).stored

    def expect_put_absent(self, key: bytes, size: int, ttl: float | None) -> bool:
        if self.model.get(key) is not None:
            return False
        return self.expect_put(key, size, ttl)

    def remove(self, key: bytes) -> None:
        self.write(lambda table: operations.delete_many(table, [key]))

    def expect_remove(self, key: bytes) -> None:
        self.model.rows.pop(key, None)

    def expire(self, key: bytes, ttl: float | None) -> bool:
        return self.write(lambda table: operations.expire(table, key, ttl))

    def expect_expire(self, key: bytes, ttl: float | None) -> bool:
        if self.model.get(key) is None:
            return False
        self.model.rows[key].expires = None if ttl is None else self.model.now + ttl
        return True


@contextmanager
def memory_pair() -> Iterator[Pair]:
    clock, bound = MovingClock(), 5 * memory.OVERHEAD
    store = MemoryStore(clock, bound)
    model = Model(clock, memory.OVERHEAD, bound)

    def keys() -> list[bytes]:
        assert store.used == model.used <= bound
        return store.keys()

    yield Pair(store, model, keys)


@contextmanager
def file_pair() -> Iterator[Pair]:
    clock, bound = MovingClock(), 5 * file.OVERHEAD
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "cache"
        store = FileStore(path, clock, bound, fsync=False, busy_timeout=5)
        store.prepare()
        model = FileModel(clock, file.OVERHEAD, bound)
        with closing(sqlite3.connect(path)) as db:

            def keys() -> list[bytes]:
                (used,) = db.execute("SELECT bytes FROM store").fetchone()
                assert used == model.used <= bound
                return [key for (key,) in db.execute("SELECT key FROM entries ORDER BY id")]

            yield Pair(store, model, keys)
        store.close()


KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"hh"])
TTLS = st.sampled_from([None, 1.0, 2.5, 40.0])
# A quarter of an entry's overhead, so that four to five fit, and one may drive out several.
SIZES = st.integers(0, 300)
ORDERS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, SIZES, TTLS),
        st.tuples(st.just("put"), KEYS, SIZES, TTLS),
        st.tuples(st.just("put_absent"), KEYS, SIZES, TTLS),
        st.tuples(st.just("get"), st.lists(KEYS, min_size=1, max_size=3)),
        st.tuples(st.just("remove"), KEYS),
        st.tuples(st.just("expire"), KEYS, TTLS),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0, 30.0])),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(ORDERS)
def test_memory_gives_up_what_the_model_gives_up(orders: list[tuple[Any, ...]]) -> None:
    with memory_pair() as pair:
        for order in orders:
            pair.apply(order)


@settings(max_examples=60, deadline=None)
@given(ORDERS)
def test_a_file_gives_up_what_the_model_gives_up(orders: list[tuple[Any, ...]]) -> None:
    with file_pair() as pair:
        for order in orders:
            pair.apply(order)


@pytest.mark.parametrize("pair_of", [memory_pair, file_pair])
def test_a_long_random_history_agrees_with_the_model(
    pair_of: Callable[[], Any],
) -> None:
    chance = random.Random(20261123)  # noqa: S311 - not a secret
    keys = [b"k%d" % n for n in range(12)]
    with pair_of() as pair:
        for _ in range(3000):
            key, ttl = chance.choice(keys), chance.choice([None, 0.5, 3.0, 20.0])
            pair.apply(
                chance.choice(
                    [
                        ("put", key, chance.randrange(200), ttl),
                        ("put", key, chance.randrange(200), ttl),
                        ("get", chance.sample(keys, 2)),
                        ("expire", key, ttl),
                        ("remove", key),
                        ("pass", 0.3),
                    ]
                )
            )


def test_what_is_over_goes_before_anything_that_is_not(local: Opened) -> None:
    local.set("oldest", b"x" * 20_000)
    local.set("over", b"x" * 20_000, ttl=5)
    local.set("newer", b"x" * 20_000)
    local.clock.pass_(5)
    local.set("newest", b"x" * 20_000)
    assert [key for key in ("oldest", "over", "newer", "newest") if local.get(key)] == [
        "oldest",
        "newer",
        "newest",
    ]


def test_what_was_read_lately_outlives_what_was_not(local: Opened) -> None:
    for key in ("a", "b", "c"):
        local.set(key, b"x" * 20_000)
    assert local.get("a")
    local.set("d", b"x" * 20_000)
    assert [key for key in ("a", "b", "c", "d") if local.get(key)] == ["a", "c", "d"]


def test_what_is_always_read_is_never_given_up(local: Opened) -> None:
    # As the generation of a namespace, which is written once and read with every value.
    local.set("generation", b"1")
    for number in range(400):
        local.set(f"k{number}", b"x" * 1000)
        assert local.get_many(["generation", f"k{number}"])[0] == b"1"


def test_a_value_larger_than_the_store_is_refused_and_the_old_one_stays(local: Opened) -> None:
    local.set("a", b"old")
    local.set("b", b"other")
    large = b"x" * 64 * 1024
    for refused in (
        lambda: local.set("a", large),
        lambda: local.swap("a", b"old", large),
        lambda: local.count("c", 1, initial=large),
    ):
        with pytest.raises(InvalidArgumentError, match="max_bytes") as failure:
            refused()
        assert failure.value.not_sent
    assert local.get_many(["a", "b"]) == [b"old", b"other"]


def test_of_many_values_only_the_one_that_is_too_large_fails(local: Opened) -> None:
    failures = local.set_many({"a": b"1", "b": b"x" * 64 * 1024, "c": b"3"}).failures
    assert list(failures) == ["b"]
    assert isinstance(failures["b"], InvalidArgumentError)
    assert local.get_many(["a", "b", "c"]) == [b"1", None, b"3"]


def test_the_largest_value_that_is_declared_is_taken(local: Opened) -> None:
    limits = local.cache.limits
    key = "k" * (limits.max_key - len("acme/"))
    assert local.set(key, b"x" * limits.max_value)
    assert local.get(key) == b"x" * limits.max_value


def test_a_counter_that_grows_longer_is_counted_again() -> None:
    with opened("sync") as cache:
        store = cache.cache.native()
        assert isinstance(store, MemoryStore)
        cache.count("n", 9)
        before = store.used
        cache.count("n", 1)
        assert store.used == before + 1
        cache.delete("n")
        assert store.used == 0


def test_memory_counts_no_less_than_the_interpreter_takes() -> None:
    bound = 4 * 1024**2
    clock = MovingClock()
    chance = random.Random(1)  # noqa: S311 - not a secret
    store = MemoryStore(clock, bound)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(30_000):
            key = f"acme/~default:user:{number % 15_000}".encode()
            value = bytes(chance.randrange(200))
            ttl = chance.choice([None, 10.0 + number, 10_000.0 + number])
            store.write(
                partial(operations.set_one, key=key, value=value, ttl=ttl, only_if=None, along=()),
                Ticket(),
            )
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert store.used > bound - 1024
    assert after - before < store.used


@pytest.mark.parametrize("size", [0, 100, 2_100, 9_000, 100_000])
def test_a_file_takes_at_most_twice_its_bound_of_the_disk(tmp_path: Path, size: int) -> None:
    bound = 1024**2
    chance = random.Random(size)  # noqa: S311 - not a secret
    path = tmp_path / "cache"
    with opened("sync", path, max_bytes=bound) as cache:
        written = 0
        while written < 3 * bound:
            values = {
                f"user:{chance.randrange(100_000)}": bytes(chance.randrange(size // 2, size + 1))
                for _ in range(50)
            }
            assert cache.set_many(values, ttl=chance.choice([None, 1, 1000])).failures == {}
            written += sum(len(value) + file.OVERHEAD for value in values.values())
            cache.clock.pass_(0.1)
    assert bound * 0.5 < path.stat().st_size < 2 * bound
