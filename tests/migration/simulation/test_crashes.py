"""A process dies at each point of the protocol, in each stage: alone, and at two such points.

A simulation goes the same way up to the moment at which somebody dies. So a run in which nobody
does tells all the places where somebody could, and each crash is sure to happen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from cm_platform.migration.points import Point
from cm_platform.routing import Stage
from cm_platform.testing.simulation.migrating import LedgerServer, Outcome
from cm_platform.testing.simulation.migrating.crashing import Crash

from .campaign import hushed
from .crashing import crashed, scenario_of

pytestmark = pytest.mark.no_cover

_OFF, _COMPLETE = Stage.OFF, Stage.COMPLETE
_MIRRORED = (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN)

_USUAL = {
    Point.INTENT_BEGUN: _MIRRORED,
    Point.AUTHORITY_CHANGED: _MIRRORED,
    Point.AUTHORITY_FAILED: _MIRRORED,
    Point.OTHER_CHANGED: _MIRRORED,
    Point.COMPARED: _MIRRORED,
    # In dualwrite by those who began when it was off; no backfill begins before they are over.
    Point.STRAIGHT_CHANGED: (_OFF, Stage.DUALWRITE, _COMPLETE),
    Point.CROSSED_STAGED: (*_MIRRORED, _COMPLETE),
    Point.UPLOAD_REGISTERED: tuple(Stage),
    Point.READ_ANSWERED: tuple(Stage),
    Point.COPY_BEGUN: _MIRRORED,
    Point.COPY_IN_PARTS: (*_MIRRORED, _COMPLETE),
    Point.BACKFILL_BEGUN: (Stage.DUALWRITE, Stage.RAMPDOWN),
    Point.BACKFILL_DONE: (Stage.DUALWRITE, Stage.RAMPDOWN),
    Point.BACKFILL_NOTED: (Stage.DUALWRITE, Stage.RAMPDOWN),
    Point.REPAIR_CLAIMED: _MIRRORED,
    Point.REPAIR_DONE: _MIRRORED,
    Point.FLIP_ANNOUNCED: (Stage.SHADOW, Stage.LIVE),
    Point.FLIP_PAUSED: (Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN),
    Point.FLIP_DRAINED: (Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN),
    Point.MOVED: tuple(Stage),
    Point.VERIFIED: (Stage.SHADOW, Stage.RAMPDOWN),
}
"""Where each point is reached, as a matter of course."""

_OVERTAKEN = (
    *(Point.INTENT_BEGUN, Point.AUTHORITY_CHANGED, Point.AUTHORITY_FAILED, Point.OTHER_CHANGED),
    *(Point.COMPARED, Point.COPY_BEGUN, Point.COPY_IN_PARTS, Point.CROSSED_STAGED),
    *(Point.REPAIR_CLAIMED, Point.REPAIR_DONE),
)
"""What may be under way when a step to off or to complete overtakes it. To off waits for nobody,
as both sides have it all; to complete waits until others have done what the owner was late for."""

_PLACES = {(point, stage) for point, stages in _USUAL.items() for stage in stages}
_RARE = {(point, stage) for point in _OVERTAKEN for stage in (_OFF, _COMPLETE)} - _PLACES

_OBSERVED = 400
_BOUND = 12
_SECONDS = 5


@pytest.fixture(scope="module")
def server() -> Iterator[LedgerServer]:
    with LedgerServer() as made, hushed():
        yield made


def _wrong(outcome: Outcome, *crashes: Crash) -> list[str]:
    """What is wrong with a migration in which processes died there."""
    wrong = list(outcome.wrong)
    if missed := set(crashes) - set(outcome.died):
        wrong.append(f"nobody died at {missed}")
    if outcome.stage is not scenario_of(outcome.seed).course[-1]:
        wrong.append(f"it ended in {outcome.stage}")
    return [f"seed {outcome.seed}, crashes {crashes}: {text}" for text in wrong]


def _alone(server: LedgerServer, seed: int, bound: int) -> list[str]:
    """Each place of a migration once, by itself, for the first so many times it is reached."""
    calm = crashed(seed, server=server)
    wrong = _wrong(calm)
    for place in calm.places:
        if place.nth <= bound:
            wrong += _wrong(crashed(seed, place, server=server), place)
    return wrong


def _in_pairs(server: LedgerServer, seed: int, count: int) -> list[str]:
    """So many pairs of places, the second of each after the first, some to one first."""
    dice = random.Random(f"pairs {seed}")  # noqa: S311 - dice
    pairs, wrong = 0, list[str]()
    places = crashed(seed, server=server).places
    while pairs < count:
        first = dice.choice(places)
        alone = crashed(seed, first, server=server)
        after = alone.places[alone.places.index(first) + 1 :]
        # At the very end there may be none.
        for second in dice.sample(after, min(_SECONDS, count - pairs, len(after))):
            pairs += 1
            wrong += _wrong(crashed(seed, first, second, server=server), first, second)
    return wrong


def test_the_points_are_reached_where_the_table_says(server: LedgerServer) -> None:
    seen: set[tuple[Point, Stage]] = set()
    for seed in range(_OBSERVED):
        outcome = crashed(seed, server=server)
        assert not _wrong(outcome)
        seen.update((place.point, place.stage) for place in outcome.places)
    assert {point for point, _ in seen} == set(Point) == set(_USUAL)
    assert seen - _RARE == _PLACES


@pytest.mark.parametrize("part", range(4))
def test_a_crash_at_each_point_in_each_stage_does_no_harm(server: LedgerServer, part: int) -> None:
    wanted = set(sorted(_PLACES)[part::4])
    for seed in range(_OBSERVED):
        for place in crashed(seed, server=server).places:
            if (place.point, place.stage) in wanted:
                wanted.discard((place.point, place.stage))
                assert not _wrong(crashed(seed, place, server=server), place)
        if not wanted:
            return
    assert not wanted


@pytest.mark.parametrize("seed", range(4))
def test_two_crashes_in_one_migration_do_no_harm(server: LedgerServer, seed: int) -> None:
    assert not _in_pairs(server, seed, 5)


@pytest.mark.prove
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, 80, 5))
def test_every_crash_of_a_migration_does_no_harm(server: LedgerServer, first: int) -> None:
    for seed in range(first, first + 5):
        assert not _alone(server, seed, _BOUND)


@pytest.mark.prove
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1000, 1100, 10))
def test_5000_pairs_of_crashes_do_no_harm(server: LedgerServer, first: int) -> None:
    for seed in range(first, first + 10):
        assert not _in_pairs(server, seed, 50)
