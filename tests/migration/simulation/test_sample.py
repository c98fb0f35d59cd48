"""2,000 simulated migrations: nothing lost, resurrected, divergent, or seen in an order that no
single store could have shown."""

from __future__ import annotations

import pytest

from .campaign import run

_SEEDS = 2000
_CHUNK = 250


@pytest.mark.no_cover
@pytest.mark.parametrize("first", range(0, _SEEDS, _CHUNK))
def test_nothing_goes_wrong_in_a_sample_of_simulated_migrations(first: int) -> None:
    campaign = run(range(first, first + _CHUNK))
    assert not campaign.wrong, campaign.told()
    # There was something to survive.
    assert campaign.killed > _CHUNK / 10
    assert campaign.looks > _CHUNK
    assert sum(campaign.faults.values()) > _CHUNK
    assert {"live", "shadow", "complete"} <= set(campaign.stages)
