"""Many keys through the gateway: what found no room is asked for again, what is large is split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cm_platform.cache.gateway_batches import read_all, write_all
from cm_platform.cloudflare.frame import MAX_BODY, MAX_OPERATIONS, encoded
from cm_platform.cloudflare.outcome import Operation, Outcome
from cm_platform.errors import PlatformError, RateLimitedError, UnavailableError
from cm_platform.runtime import drive

CROWDED = UnavailableError("no room in the reply", retryable=True, not_sent=True)


class Scripted:
    """A gateway that answers with what a function says of each operation."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.batches: list[list[str]] = []

    async def batch(self, partition: str, operations: Sequence[Operation]) -> list[Outcome]:
        assert partition == "acme/"
        assert 0 < len(operations) <= MAX_OPERATIONS
        assert len(encoded(operations)) <= MAX_BODY
        self.batches.append([operation["key"] for operation in operations])
        return [
            self.answer(operation, place, len(self.batches))
            for place, operation in enumerate(operations)
        ]


def value(operation: Operation) -> Outcome:
    return Outcome({"value": operation["key"].encode()})


def read(gateway: Any, count: int) -> list[bytes | None]:
    operations = [{"op": "kv.get", "key": f"k{n}"} for n in range(count)]
    return list(drive(read_all(gateway, "acme/", operations)))


@pytest.mark.parametrize("count", [1, 100, 101, 250])
def test_values_come_in_order_in_as_few_batches_as_may_be(count: int) -> None:
    gateway = Scripted(lambda operation, *_: value(operation))
    assert read(gateway, count) == [f"k{n}".encode() for n in range(count)]
    assert [len(batch) for batch in gateway.batches] == [
        min(100, count - start) for start in range(0, count, 100)
    ]


def test_what_found_no_room_is_asked_for_again() -> None:
    def answer(operation: Operation, place: int, _: int) -> Outcome:
        return value(operation) if place < 30 else Outcome(error=CROWDED)

    gateway = Scripted(answer)
    assert read(gateway, 150) == [f"k{n}".encode() for n in range(150)]
    assert [len(batch) for batch in gateway.batches] == [100, 100, 90, 60, 30]


def test_a_batch_in_which_nothing_finds_room_is_an_error() -> None:
    gateway = Scripted(lambda *_: Outcome(error=CROWDED))
    with pytest.raises(UnavailableError):
        read(gateway, 3)
    assert len(gateway.batches) == 1


@pytest.mark.parametrize(
    "error",
    [
        RateLimitedError("slow down", retryable=True, not_sent=True),
        UnavailableError("lost", retryable=True),
    ],
)
def test_another_failure_is_raised_and_not_asked_for_at_once(error: PlatformError) -> None:
    def answer(operation: Operation, place: int, _: int) -> Outcome:
        return value(operation) if place else Outcome(error=error)

    gateway = Scripted(answer)
    with pytest.raises(type(error)):
        read(gateway, 3)
    assert len(gateway.batches) == 1


def write(gateway: Any, sizes: Sequence[int]) -> dict[str, PlatformError]:
    operations = {
        f"k{n}": {"op": "kv.put", "key": f"k{n}", "value": b"x" * size}
        for n, size in enumerate(sizes)
    }
    return dict(drive(write_all(gateway, "acme/", operations)))


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([], []),
        ([10], [1]),
        ([10] * 250, [100, 100, 50]),
        ([25 * 1024 * 1024], [1]),
        ([25 * 1024 * 1024, 1024 * 1024, 25 * 1024 * 1024], [1, 1, 1]),
        ([10 * 1024 * 1024] * 5, [2, 2, 1]),
    ],
)
def test_a_batch_has_no_more_than_the_gateway_takes(sizes: list[int], batches: list[int]) -> None:
    gateway = Scripted(lambda *_: Outcome())
    assert write(gateway, sizes) == {}
    assert [len(batch) for batch in gateway.batches] == batches
    sent = [key for batch in gateway.batches for key in batch]
    assert sent == [f"k{n}" for n in range(len(sizes))]


def test_long_names_find_room_beside_a_value() -> None:
    gateway = Scripted(lambda *_: Outcome())
    operations = {
        f"{n}" + '"' * 1000: {"op": "kv.put", "key": f"{n}" + '"' * 1000, "value": b"x" * 256_000}
        for n in range(100)
    }
    assert drive(write_all(gateway, "acme/", operations)) == {}  # type: ignore[arg-type]


def test_failures_are_told_by_key() -> None:
    error = RateLimitedError("slow down", retryable=True, not_sent=True)
    gateway = Scripted(
        lambda operation, *_: Outcome(error=error if operation["key"] == "k7" else None)
    )
    assert write(gateway, [1] * 120) == {"k7": error}
