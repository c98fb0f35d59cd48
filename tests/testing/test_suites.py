"""The public suites themselves: whatever is written there is run."""

from __future__ import annotations

import pytest

from cm_platform.testing import (
    CacheConformance,
    CacheIsolation,
    StorageConformance,
    StorageIsolation,
)


@pytest.mark.parametrize(
    "suite", [CacheConformance, CacheIsolation, StorageConformance, StorageIsolation]
)
def test_no_test_hides_another_of_its_name(suite: type) -> None:
    homes: dict[str, list[str]] = {}
    for part in suite.__mro__:
        for name in vars(part):
            if name.startswith("test_"):
                homes.setdefault(name, []).append(part.__name__)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
