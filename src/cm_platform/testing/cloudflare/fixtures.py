"""pytest fixtures; import them in a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .local import LocalCloudflare


@pytest.fixture(scope="session")
def local_cloudflare() -> Iterator[LocalCloudflare]:
    """One for the session (with pytest-xdist: for each worker), started on first use.

    Its clock is shared: a test that advances it advances it for all that come after.
    """
    with LocalCloudflare() as cloudflare:
        yield cloudflare


__all__ = ["local_cloudflare"]
