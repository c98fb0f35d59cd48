"""Whole simulated migrations: none goes wrong, each can be seen again, and the judge can see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cm_platform.migration.intents import Intents
from cm_platform.migration.points import Point
from cm_platform.routing import Stage
from cm_platform.testing.simulation.migrating import LedgerServer, Outcome, Scenario, simulate


@pytest.fixture(scope="module")
def server() -> Iterator[LedgerServer]:
    with LedgerServer() as made:
        yield made


def test_no_migration_goes_wrong(server: LedgerServer) -> None:
    outcomes = [simulate(seed, server=server) for seed in range(150)]
    assert {one.seed: one.wrong for one in outcomes if one.wrong} == {}
    # They saw something.
    assert {one.stage for one in outcomes} >= {Stage.OFF, Stage.SHADOW, Stage.LIVE, Stage.COMPLETE}
    assert sum(one.killed for one in outcomes) > 10
    assert sum(sum(one.faults.values()) for one in outcomes) > 100


def _seen(outcome: Outcome) -> tuple[Any, ...]:
    return (
        outcome.steps,
        outcome.seconds,
        outcome.stage,
        outcome.faults,
        outcome.reached,
        outcome.histories,
    )


@pytest.mark.parametrize("seed", range(10))
def test_a_seed_gives_the_same_migration_again(server: LedgerServer, seed: int) -> None:
    first = simulate(seed, server=server)
    assert _seen(simulate(seed, server=server)) == _seen(first)
    traced = simulate(seed, server=server, traced=True)
    assert _seen(traced) == _seen(first)
    assert traced.trace


def test_without_faults_every_course_is_gone_to_its_end(server: LedgerServer) -> None:
    for stage in (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN, Stage.COMPLETE):
        outcome = simulate(1, scenario=Scenario(course=(stage,)), server=server)
        assert (outcome.wrong, outcome.stage) == ([], stage)


def test_a_process_that_dies_at_a_point_is_made_up_for(server: LedgerServer) -> None:
    crashes = [(Point.FLIP_PAUSED, 1), (Point.BACKFILL_DONE, 1), (Point.MOVED, 2)]
    for seed in range(5):
        outcome = simulate(
            seed, scenario=Scenario(course=(Stage.LIVE,)), server=server, crashes=crashes
        )
        assert (outcome.wrong, outcome.stage, outcome.killed) == ([], Stage.LIVE, 3)


def test_a_protocol_that_forgets_what_it_left_undone_is_found_out(
    server: LedgerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Intents.finish

    async def forgetful(self: Intents, held: Any, clean: Any, **more: Any) -> bool:
        held.doubt.clear()
        return await finish(self, held, list(held.ids), **more)

    monkeypatch.setattr(Intents, "finish", forgetful)
    # As a rule within the first 300.
    assert any(
        text.startswith("divergent")
        for seed in range(2000)
        for text in simulate(seed, server=server).wrong
    )
