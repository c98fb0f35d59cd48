"""Shadow reads: sampled, within a budget, never slower for the caller, never an effect."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from cm_platform.errors import NotFoundError
from cm_platform.migration.points import Point
from cm_platform.migration.storage.assembling import key_class
from cm_platform.routing import Stage
from cm_platform.runtime import drive

from .doubles import LEASE, SUBJECT, CrashError, Process, World, crash_at, lost


def shadowed(world: World, stage: Stage = Stage.SHADOW, **config: object) -> Process:
    """With a few objects, every read of which is looked at twice."""
    one = world.process(shadow_sample=1.0, **config)
    for key in ("a/1", "a/2", "b/1", "top"):
        one.put(key, b"1")
    one.to(stage)
    world.clock.advance(LEASE)
    return one


def counted(world: World, one: Process) -> Mapping[tuple[str, str], int]:
    """What was counted when it was written down."""
    one.runtime.background()
    drive(one.storage.close())
    found: Mapping[tuple[str, str], int] = drive(world.ledger.inner.counts(SUBJECT))
    return found


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE])
def test_what_agrees_is_counted_by_class_of_keys(world: World, stage: Stage) -> None:
    one = shadowed(world, stage)
    for key in ("a/1", "a/2", "b/1", "top"):
        one.get(key)
    one.head("a/1")
    with pytest.raises(NotFoundError):
        one.get("a/absent")
    assert counted(world, one) == {
        ("a/", "compared"): 4,
        ("a/", "same"): 4,
        ("b/", "compared"): 1,
        ("b/", "same"): 1,
        ("(no folder)", "compared"): 1,
        ("(no folder)", "same"): 1,
    }


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.DUALWRITE, Stage.RAMPDOWN, Stage.COMPLETE])
def test_in_other_stages_nothing_is_compared(world: World, stage: Stage) -> None:
    one = shadowed(world, stage)
    one.get("a/1")
    assert one.runtime.waiting == []


def test_the_caller_waits_for_the_authority_alone(world: World) -> None:
    one = shadowed(world)
    one.get("a/1")
    world.target.calls.clear()
    world.source.calls.clear()
    one.get("a/2")
    assert (world.source.calls, world.target.calls) == (["get"], [])
    assert len(one.runtime.waiting) == 2


def test_looking_has_no_effect(world: World) -> None:
    one = shadowed(world)
    world.target.remove("a/1")
    world.target.write("a/2", b"other")
    for store in (world.source, world.target):
        store.calls.clear()
    one.get("a/1")
    one.get("a/2")
    one.runtime.background()
    assert set(world.target.calls) == {"head"}
    assert set(world.source.calls) == {"head", "get"}
    assert world.pending().count == 0


def test_what_differs_is_counted_with_how(world: World) -> None:
    one = shadowed(world)
    world.target.remove("a/1")
    world.target.write("b/1", b"22")
    for key in ("a/1", "a/2", "b/1"):
        one.get(key)
    assert counted(world, one) == {
        ("a/", "compared"): 2,
        ("a/", "same"): 1,
        ("a/", "missing on the target"): 1,
        ("b/", "compared"): 1,
        ("b/", "size"): 1,
    }


def test_what_somebody_is_about_to_bring_in_line_is_no_divergence(world: World) -> None:
    one = shadowed(world)
    crash_at(Point.AUTHORITY_CHANGED)
    with pytest.raises(CrashError):
        world.process().put("a/1", b"22")
    one.get("a/1")
    assert counted(world, one) == {("a/", "compared"): 1, ("a/", "pending"): 1}
    assert drive(one.migration.evidence()).differed == 0


def test_an_intent_that_ended_between_two_looks_is_seen(world: World) -> None:
    one, two = shadowed(world), world.process()
    one.get("a/1")
    world.target.before("head", lambda: two.put("a/1", b"22"))
    assert counted(world, one)[("a/", "same")] == 1


def test_a_side_that_fails_is_unreadable_and_nobody_hears_of_it(world: World) -> None:
    one = shadowed(world)
    world.target.before("head", lost)
    assert one.get("a/1") == b"1"
    assert counted(world, one) == {("a/", "compared"): 1, ("a/", "unreadable"): 1}


def test_counts_that_cannot_be_written_fail_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    one = shadowed(world)
    one.get("a/1")
    world.ledger.before("count", lost)
    one.runtime.background()
    drive(one.storage.close())
    assert "not written down" in caplog.text
    assert "acme" not in caplog.text


def test_no_more_are_compared_than_the_budget_allows(world: World) -> None:
    one = shadowed(world, shadow_per_second=3.0)
    for _ in range(10):
        one.get("a/1")
    assert len(one.runtime.waiting) == 3
    world.clock.advance(1)
    for _ in range(10):
        one.get("a/1")
    assert len(one.runtime.waiting) == 6


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_budget_below_one_a_second_is_a_budget(tmp_path: Path, rate: float) -> None:
    world = World(tmp_path)
    try:
        one = shadowed(world, shadow_per_second=rate)
        seen = 0
        for _ in range(40):
            one.get("a/1")
            world.clock.advance(1)
            seen += one.runtime.background()
        # Half of one a second, over forty seconds.
        assert seen == pytest.approx(40 * rate, abs=2)
    finally:
        world.close()


def test_of_all_reads_a_sample_is_compared(world: World) -> None:
    random.seed(1)
    one = world.process(shadow_sample=0.25, shadow_per_second=10_000)
    one.put("k", b"")
    one.to(Stage.SHADOW)
    world.clock.advance(LEASE)
    for _ in range(400):
        one.get("k")
    assert 60 < len(one.runtime.waiting) < 140


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("acme/invoices/2026/1", "invoices/"),
        ("acme/top", "(no folder)"),
        ("acme//odd", "/"),
        ("acme/", "(no folder)"),
    ],
)
def test_keys_are_counted_by_their_first_folder(key: str, found: str) -> None:
    assert key_class(key, "acme/") == found
