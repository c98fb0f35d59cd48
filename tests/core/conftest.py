"""Both faces, and a clock."""

from __future__ import annotations

import pytest

from .doubles import Face, FakeClock


@pytest.fixture(params=[False, True], ids=["blocking", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
