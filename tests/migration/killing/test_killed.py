"""SIGKILL at named points, over an S3 and an R2 server and a Postgres, behind proxies that lose
replies: whatever dies, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cm_platform.migration.points import Point
from cm_platform.testing.servers import R2Server, S3Server

from .scene import Scene

WRITERS = [
    Point.INTENT_BEGUN,
    Point.AUTHORITY_CHANGED,
    Point.OTHER_CHANGED,
    Point.COMPARED,
    Point.STRAIGHT_CHANGED,
]
OPERATORS = [
    Point.BACKFILL_BEGUN,
    Point.BACKFILL_NOTED,
    Point.FLIP_PAUSED,
    Point.FLIP_DRAINED,
    Point.MOVED,
]
SAMPLE = [(point, False) for point in WRITERS] + [(point, True) for point in OPERATORS]
MORE = [
    Point.READ_ANSWERED,
    Point.AUTHORITY_FAILED,
    Point.COPY_BEGUN,
]
MORE_OPERATORS = [
    Point.BACKFILL_DONE,
    Point.FLIP_ANNOUNCED,
    Point.REPAIR_CLAIMED,
    Point.REPAIR_DONE,
    Point.VERIFIED,
]
EVERY = SAMPLE + [(point, False) for point in MORE] + [(point, True) for point in MORE_OPERATORS]
RUNS = 200


@pytest.fixture(scope="module")
def stores() -> Iterator[tuple[S3Server, R2Server]]:
    with S3Server() as source, R2Server() as target:
        yield source, target


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("point", "operator"), SAMPLE, ids=str)
def test_who_is_killed_there_loses_nothing(
    point: Point,
    operator: bool,
    tmp_path: Path,
    stores: tuple[S3Server, R2Server],
    postgres_url: str,
) -> None:
    scene = Scene(tmp_path, *stores, postgres_url, seed=1)
    assert scene.run(point, 1 if operator else 5, operator=operator), "nobody died"


@pytest.mark.prove
@pytest.mark.timeout(180)
@pytest.mark.parametrize("run", range(RUNS))
def test_two_hundred_kills_lose_nothing(
    run: int, tmp_path: Path, stores: tuple[S3Server, R2Server], postgres_url: str
) -> None:
    point, operator = EVERY[run % len(EVERY)]
    nth = 1 + run // len(EVERY) * (1 if operator else 3)
    # A point may be reached fewer times than that: then nobody dies, which is a run as well.
    Scene(tmp_path, *stores, postgres_url, seed=run).run(point, nth, operator=operator)
