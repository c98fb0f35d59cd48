"""One seed, one course of events: here, and in another process with other hashes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import scene


@pytest.mark.parametrize("seed", range(10))
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    first = scene.trace(seed)
    gc.collect()
    keeping = [object() for _ in range(1000)]  # other addresses, so other ids
    assert scene.trace(seed) == first
    assert len(first) > 100
    del keeping


def test_other_seeds_give_other_traces() -> None:
    assert len({scene.digest(seed) for seed in range(20)}) == 20


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_order_of_hashes_is_of_no_matter(hash_seed: str) -> None:
    found = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(Path(scene.__file__)), "7"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert found.stdout == scene.digest(7)


def test_the_trace_holds_faults_deaths_and_effects() -> None:
    text = "\n".join(line for seed in range(10) for line in scene.trace(seed))
    for word in ("killed app", "(late)", "(lost_reply)", "s3 put", "(crash)", "NotFoundError"):
        assert word in text, word
