"""Every contract test runs on both faces, in memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .opened import Opened, opened

FACES = ("sync", "async")
STORES = ("memory", "file")


@pytest.fixture(params=[f"{face}-{store}" for face in FACES for store in STORES])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """A cache of 64 KiB on a clock that is told to move."""
    face, _, store = request.param.partition("-")
    path = tmp_path / "kept" / "cache" if store == "file" else None
    with opened(face, path, max_bytes=64 * 1024) as cache:
        yield cache
