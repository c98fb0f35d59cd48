"""One local Cloudflare for the suites of this folder, and samples of what takes long on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from cm_platform.testing.cloudflare import LocalCloudflare

from .cloudflare_stores import STALENESS, OnCloudflare

# Many cases of one kind, of which the stores that are fast try all in every run. Not a multiple
# of the faces, so that both are sampled.
SAMPLED = 5
LONG = frozenset(
    {
        "test_a_legal_key_is_kept_by_every_method",
        "test_an_answer_with_the_entry_of_somebody_else",
        "test_an_entry_of_somebody_else_is_computed_anew_and_replaced",
        "test_an_entry_of_somebody_else_under_a_key_is_never_passed_on",
        "test_keys_that_are_alike_are_two",
    }
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Called by pytest: on Cloudflare each fifth case stays, `make prove` has the others."""
    seen: Counter[tuple[type, str]] = Counter()
    for item in items:
        if not isinstance(item, pytest.Function) or item.originalname not in LONG:
            continue
        if item.cls is None or not issubclass(item.cls, OnCloudflare):
            continue
        case = (item.cls, item.originalname)
        if seen[case] % SAMPLED:
            item.add_marker(pytest.mark.prove)
        seen[case] += 1


@pytest.fixture(scope="module")
def cloudflare() -> Iterator[LocalCloudflare]:
    with LocalCloudflare(kv_staleness=STALENESS) as cloudflare:
        yield cloudflare
