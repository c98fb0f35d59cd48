"""As many simulated migrations as there is time for.

CM_PLATFORM_PROVE_SEEDS: how many, 1,000,000 by default. CM_PLATFORM_PROVE_FIRST: the first seed,
0 by default. What each chunk came to is a line of JSON in `.cache/prove/migrations.jsonl`.
"""

from __future__ import annotations

import os

import pytest

from .campaign import SUMMARIES, run

_SEEDS = int(os.environ.get("CM_PLATFORM_PROVE_SEEDS", "1000000"))
_FIRST = int(os.environ.get("CM_PLATFORM_PROVE_FIRST", "0"))
_CHUNK = 2500


@pytest.mark.prove
@pytest.mark.no_cover
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(_FIRST, _FIRST + _SEEDS, _CHUNK))
def test_nothing_goes_wrong_in_many_simulated_migrations(first: int) -> None:
    campaign = run(range(first, min(first + _CHUNK, _FIRST + _SEEDS)))
    SUMMARIES.mkdir(parents=True, exist_ok=True)
    # One write of one line: several processes append to it.
    with (SUMMARIES / "migrations.jsonl").open("a", encoding="utf-8") as summaries:
        summaries.write(campaign.summary(first) + "\n")
    assert not campaign.wrong, campaign.told()
