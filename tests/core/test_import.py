"""What importing the package brings along: its own names and nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cm_platform

HEAVY = [
    "pydantic",
    "asyncio",
    "tenacity",
    "opentelemetry",
    "openfeature",
    "boto3",
    "botocore",
    "obstore",
    "httpx",
    "redis",
    "psycopg",
    "cloudflare",
]


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = f"import sys, cm_platform; print([m for m in {HEAVY!r} if m in sys.modules])"
    ended = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "[]\n"


@pytest.mark.parametrize("name", cm_platform.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(cm_platform, name) is not None


def test_the_public_names_are_sorted_and_unique() -> None:
    assert cm_platform.__all__ == sorted(set(cm_platform.__all__))


def test_another_name_does_not_resolve() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        cm_platform.Nothing  # noqa: B018
