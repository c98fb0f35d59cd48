"""Without any one of its guards, the protocol is found out: so the simulator can see."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pytest

from cm_platform.testing.simulation.migrating import LedgerServer, simulate

from .campaign import SUMMARIES, hushed
from .mutants import CATALOGUE, Mutant, verdicts

pytestmark = pytest.mark.no_cover

# From the seed that is known; a change of the protocol may give all seeds another course.
_NEAR = 300
_FAR = 50_000


@pytest.fixture(scope="module")
def server() -> Iterator[LedgerServer]:
    with LedgerServer() as made, hushed():
        yield made


def _first(mutant: Mutant, seeds: Iterable[int], server: LedgerServer) -> int | None:
    """The first of the seeds whose migration has data that is wrong."""
    with mutant.planted():
        return next((seed for seed in seeds if verdicts(simulate(seed, server=server))), None)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_missing_guard_is_seen_where_it_was_seen_before(name: str, server: LedgerServer) -> None:
    mutant = CATALOGUE[name]
    found = _first(mutant, range(mutant.seed, mutant.seed + _NEAR), server)
    assert found is not None, f"without it: {mutant.takes} Look for another seed of {name!r}"
    # It is the mutant that is wrong, not the migration.
    assert not simulate(found, server=server).wrong


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_missing_guard_is_seen_within_the_seeds_of_the_proof(
    name: str, server: LedgerServer
) -> None:
    found = _first(CATALOGUE[name], range(_FAR), server)
    assert found is not None
    assert not simulate(found, server=server).wrong
    SUMMARIES.mkdir(parents=True, exist_ok=True)
    with (SUMMARIES / "mutants.jsonl").open("a", encoding="utf-8") as summaries:
        summaries.write(json.dumps({"mutant": name, "first": found}) + "\n")


def test_nothing_of_a_mutant_stays_when_it_is_over(server: LedgerServer) -> None:
    for mutant in CATALOGUE.values():
        before = [getattr(whose, name) for whose, name, _ in mutant.patches()]
        with mutant.planted():
            planted = [getattr(whose, name) for whose, name, _ in mutant.patches()]
        after = [getattr(whose, name) for whose, name, _ in mutant.patches()]
        assert after == before
        assert all(one is not other for one, other in zip(planted, before, strict=True))
