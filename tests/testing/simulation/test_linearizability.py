"""The checker: known histories, and all tiny ones as a brute force sees them."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm_platform.testing.simulation.linearizability import Operation, check


def op(kind: Any, start: float, end: float | None, value: Any = None, **more: Any) -> Operation:
    return Operation(kind, start, end, value, **more)


def put(start: float, end: float | None, value: str, **more: Any) -> Operation:
    return op("put", start, end, value, **more)


def read(start: float, end: float, value: str | None) -> Operation:
    return op("read", start, end, value)


LINEARIZABLE = {
    "nothing": [],
    "one after another": [put(0, 1, "a"), read(2, 3, "a"), op("delete", 4, 5), read(6, 7, None)],
    "a read beside a write sees either": [put(0, 9, "a"), read(1, 2, None), read(3, 4, "a")],
    "two writes beside each other, read in one order": [
        put(0, 9, "a"),
        put(0, 9, "b"),
        read(1, 2, "b"),
        read(3, 4, "a"),
    ],
    "an ambiguous write lands late": [
        put(0, 1, "a", outcome="ambiguous"),
        put(2, 3, "b"),
        read(4, 5, "b"),
        read(6, 7, "a"),
    ],
    "an ambiguous write never lands": [put(0, 1, "a", outcome="ambiguous"), read(2, 3, None)],
    "a refused write is no write": [put(0, 1, "a", outcome="refused"), read(2, 3, None)],
    "a deletion of nothing, later of something": [
        op("delete", 0, 9),
        put(1, 2, "a"),
        read(3, 4, "a"),
        read(5, 6, None),
    ],
    "a conflict with what was there for a moment": [
        put(0, 9, "a"),
        op("put_if_absent", 1, 2, "b", outcome="conflict"),
        op("delete", 3, 4),
        read(10, 11, None),
    ],
    "a listing that takes long has what was there at some moment of it": [
        put(1, 2, "a"),
        op("delete", 3, 4),
        op("listed", 0, 9),
        op("unlisted", 0, 9),
    ],
    "a listing that was not answered says nothing": [
        put(0, 1, "a"),
        op("unlisted", 2, 3, outcome="ambiguous"),
        op("unlisted", 4, 5, outcome="refused"),
    ],
    "a chain of versions": [
        op("put_if_absent", 0, 1, "a"),
        op("put_if_match", 2, 3, "b", expected="a"),
        op("put_if_match", 2, 3, "c", expected="a", outcome="conflict"),
        op("delete_if_match", 4, 5, expected="b"),
        op("delete_if_match", 4, 5, expected="b", outcome="conflict"),
        read(6, 7, None),
    ],
    "an answer that never came": [put(0, None, "a"), read(1, 2, None), read(3, 4, "a")],
}

NOT_LINEARIZABLE = {
    "a listing without what was there all the while": [put(0, 1, "a"), op("unlisted", 2, 3)],
    "a listing of what was gone before": [
        put(0, 1, "a"),
        op("delete", 2, 3),
        op("listed", 4, 5),
    ],
    "two listings, one after the other, of a write that did not land and did": [
        put(0, 1, "a", outcome="ambiguous"),
        op("listed", 2, 3),
        op("unlisted", 4, 5),
    ],
    "a lost write": [put(0, 1, "a"), put(2, 3, "b"), read(4, 5, "a")],
    "a zombie": [put(0, 1, "a"), op("delete", 2, 3), read(4, 5, None), read(6, 7, "a")],
    "a read of what nobody wrote": [read(0, 1, "a")],
    "a read of what was refused": [put(0, 1, "a", outcome="refused"), read(2, 3, "a")],
    "two readers, two orders": [
        put(0, 9, "a"),
        put(0, 9, "b"),
        read(1, 2, "a"),
        read(3, 4, "b"),
        read(5, 6, "a"),
    ],
    "an ambiguous write that lands twice": [
        put(0, 1, "a", outcome="ambiguous"),
        read(2, 3, "a"),
        put(4, 5, "b"),
        read(6, 7, "b"),
        read(8, 9, "a"),
    ],
    "two who created": [op("put_if_absent", 0, 9, "a"), op("put_if_absent", 0, 9, "b")],
    "two who replaced one version": [
        put(0, 1, "a"),
        op("put_if_match", 2, 9, "b", expected="a"),
        op("put_if_match", 2, 9, "c", expected="a"),
    ],
    "a conflict with nothing": [op("put_if_absent", 0, 1, "b", outcome="conflict")],
    "a conflict with its own version": [
        put(0, 1, "a"),
        op("put_if_match", 2, 3, "b", expected="a", outcome="conflict"),
    ],
    "a write that came back after a read without it": [
        put(0, 9, "a"),
        read(1, 2, "a"),
        read(3, 4, None),
    ],
}


@pytest.mark.parametrize("history", LINEARIZABLE.values(), ids=LINEARIZABLE)
def test_a_story_that_can_be_told_is_found(history: list[Operation]) -> None:
    verdict = check(history)
    assert verdict.is_linearizable
    assert _is_story(verdict.order, None)


@pytest.mark.parametrize("history", NOT_LINEARIZABLE.values(), ids=NOT_LINEARIZABLE)
def test_a_story_that_cannot_be_told_is_not(history: list[Operation]) -> None:
    verdict = check(history)
    assert not verdict.is_linearizable
    assert _is_story(verdict.order, None)


def test_what_was_there_before_counts() -> None:
    assert check([read(0, 1, "before")], "before").is_linearizable
    assert not check([read(0, 1, None)], "before").is_linearizable


def test_values_may_share_a_version() -> None:
    history = [
        put(0, 1, "a1"),
        put(2, 3, "a2"),
        op("put_if_match", 4, 5, "b", expected="a"),
        read(6, 7, "b"),
    ]
    assert check(history, version=lambda value: value[0]).is_linearizable
    assert not check(history).is_linearizable


def _applied(operation: Operation, state: str | None) -> tuple[bool, str | None]:
    """Whether the operation fits the state, and what it leaves. Written anew, without haste."""
    kind, conflict = operation.kind, operation.outcome == "conflict"
    if kind == "read":
        return operation.value == state, state
    if kind in ("listed", "unlisted"):
        return (state is not None) == (kind == "listed"), state
    if kind == "put":
        return True, operation.value  # type: ignore[return-value]
    if kind == "delete":
        return True, None
    holds = state is None if kind == "put_if_absent" else state == operation.expected
    if kind != "put_if_absent" and state is None:
        holds = False
    if conflict:
        return not holds, state
    return holds, None if kind == "delete_if_match" else operation.value  # type: ignore[return-value]


def _is_story(order: Sequence[Operation], initial: str | None) -> bool:
    state = initial
    for number, operation in enumerate(order):
        fits, state = _applied(operation, state)
        later = order[number + 1 :]
        ends = [one.end for one in later if one.outcome != "ambiguous" and one.end is not None]
        if not fits or any(end < operation.start for end in ends):
            return False
    return True


def _by_force(history: Sequence[Operation], initial: str | None) -> bool:
    told = [one for one in history if one.outcome != "refused"]
    sure = [one for one in told if one.outcome != "ambiguous"]
    looks = ("read", "listed", "unlisted")
    doubtful = [one for one in told if one.outcome == "ambiguous" and one.kind not in looks]
    sure = [one for one in sure if one.kind not in looks or one.outcome == "done"]
    for chosen in product((True, False), repeat=len(doubtful)):
        some = sure + [one for one, is_in in zip(doubtful, chosen, strict=True) if is_in]
        if any(_is_story(order, initial) for order in permutations(some)):
            return True
    return False


_VALUES = st.sampled_from(["a", "b", "c"])


@st.composite
def _operations(draw: st.DrawFn) -> Operation:
    kind = draw(
        st.sampled_from(
            [
                *("put", "put_if_absent", "put_if_match", "delete", "delete_if_match"),
                *("read", "read", "listed", "unlisted"),
            ]
        )
    )
    start = draw(st.integers(0, 8))
    outcomes = ["done", "done", "ambiguous", "refused"]
    if "_if_" in kind:
        outcomes += ["conflict", "conflict"]
    value: str | None = None
    if kind == "read":
        value = draw(st.none() | _VALUES)
    elif kind.startswith("put"):
        value = draw(_VALUES)
    return Operation(
        kind,  # type: ignore[arg-type]
        start,
        start + draw(st.integers(0, 5)),
        value,
        draw(_VALUES) if kind.endswith("match") else None,
        draw(st.sampled_from(outcomes)),
    )


@settings(max_examples=800, deadline=None)
@given(st.lists(_operations(), max_size=5), st.none() | _VALUES)
def test_it_agrees_with_trying_everything(history: list[Operation], initial: str | None) -> None:
    verdict = check(history, initial)
    assert verdict.is_linearizable == _by_force(history, initial)
    assert _is_story(verdict.order, initial)


def _made(seed: int, clients: int, each: int) -> list[Operation]:
    """A history that is linearizable because it was one: clients take turns on a register."""
    dice = random.Random(seed)  # noqa: S311 - dice
    state: str | None = None
    history = []
    clocks = [0.0] * clients
    for number in range(clients * each):
        client = min(range(clients), key=lambda one: clocks[one])
        # It happens at its number; its beginning and end are around that.
        start = max(clocks[client], number - dice.random() * clients)
        end = number + dice.random() * clients
        clocks[client] = end + 0.001
        kind = dice.choice(["put", "put_if_absent", "delete", "read", "read", "put_if_match"])
        outcome, value, expected = "done", f"v{number}", None
        if kind == "read":
            value = state  # type: ignore[assignment]
        elif kind == "put_if_absent" and state is not None:
            outcome = "conflict"
        elif kind == "put_if_match":
            expected = dice.choice([state, "other"])
            if expected is None or expected != state:
                outcome = "conflict"
        if outcome == "done" and dice.random() < 0.2 and kind != "read":
            outcome = "ambiguous"
            if dice.random() < 0.5:
                history.append(Operation(kind, start, end, value, expected, "ambiguous"))  # type: ignore[arg-type]
                continue
        if outcome != "conflict" and kind != "read":
            state = None if kind == "delete" else value
        history.append(Operation(kind, start, end, value, expected, outcome))  # type: ignore[arg-type]
    return history


def test_long_histories_are_quick() -> None:
    histories = [_made(seed, 4, 6) for seed in range(200)]
    began = time.perf_counter()
    for history in histories:
        assert check(history).is_linearizable
    # Measured: 0.1 ms each. This bound is for machines that are busy.
    assert (time.perf_counter() - began) / len(histories) < 0.005
