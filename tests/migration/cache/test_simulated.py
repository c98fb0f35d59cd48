"""The real code on virtual time, with faults, through all stages and back: nothing that was
answered is undone, nothing outdated comes back, and no counter loses or gains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cm_platform.testing.simulation.migrating.world import LedgerServer

from .mutants import MUTANTS, Mutant
from .simulating import AND_AGAIN, AND_ANEW, AND_BACK, LATE, THERE, Scenario, problems, simulate

WAYS = {"there": THERE, "and back": AND_BACK, "and again": AND_AGAIN, "and anew": AND_ANEW}

SCENES: dict[str, dict[str, Any]] = {
    "both prompt, with counters": {},
    "both prompt, with clears": {"counting": False},
    "to a store that is late": {"target_late": LATE, "counting": False},
    "from a store that is late": {"source_late": LATE, "counting": False},
}

RUNS = [
    (scene, way)
    for scene in SCENES
    for way in WAYS
    # Counters that may be on the target only keep a migration from beginning anew.
    if not (way == "and anew" and SCENES[scene].get("counting", True))
]

SAMPLE = 4
PROOF = 1000
# Until a mutant must have been found.
SOON = 300
IN_THE_END = 8000

QUICK = (
    "nothing is flushed",
    "values are copied blindly",
    "journals are overwritten",
    "counters are let go at once",
    "generations are not remembered",
)


@pytest.fixture(scope="module")
def server() -> Iterator[LedgerServer]:
    with LedgerServer() as server:
        yield server


def run(server: LedgerServer, scene: str, way: str, first: int, count: int) -> int:
    acts = 0
    for seed in range(first, first + count):
        scenario = Scenario(seed, way=WAYS[way], crash=0.001 if seed % 2 else 0.0, **SCENES[scene])
        world = simulate(scenario, server)
        assert not problems(world), (seed, problems(world))
        acts += len(world.history.acts)
    return acts


@pytest.mark.parametrize(("scene", "way"), RUNS)
def test_nothing_is_lost_or_comes_back(server: LedgerServer, scene: str, way: str) -> None:
    assert run(server, scene, way, 0, SAMPLE) > SAMPLE * 100


@pytest.mark.prove
@pytest.mark.parametrize(("scene", "way"), RUNS)
def test_nothing_is_ever_lost_or_comes_back(server: LedgerServer, scene: str, way: str) -> None:
    run(server, scene, way, SAMPLE, PROOF)


def find(server: LedgerServer, mutant: Mutant, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    mutant.break_it(monkeypatch)
    for seed in range(most):
        if problems(simulate(mutant.scenarios(seed), server)):
            return
    raise AssertionError(f"{mutant.name}: nobody saw it in {most} runs")


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.name in QUICK], ids=str)
def test_a_guard_that_is_missing_is_seen(
    server: LedgerServer, mutant: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(server, mutant, monkeypatch, SOON)


@pytest.mark.prove
@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.name not in QUICK], ids=str)
def test_every_guard_that_is_missing_is_seen(
    server: LedgerServer, mutant: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(server, mutant, monkeypatch, IN_THE_END)
