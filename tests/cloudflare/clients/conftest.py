"""Both faces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .doubles import Face


@pytest.fixture(params=[False, True], ids=["blocking", "async"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    made = Face(is_async=request.param)
    yield made
    made.close()
