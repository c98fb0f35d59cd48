"""What importing the package brings along: its own names and nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cm_platform
import cm_platform.storage

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


def test_importing_the_package_of_a_kind_imports_nothing_more() -> None:
    program = (
        "import sys, cm_platform; before = set(sys.modules); import cm_platform.storage; "
        "print(set(sys.modules) - before)"
    )
    ended = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "{'cm_platform.storage'}\n"


@pytest.mark.parametrize("name", cm_platform.storage.__all__)
def test_every_public_name_of_storage_resolves(name: str) -> None:
    assert getattr(cm_platform.storage, name) is not None


@pytest.mark.parametrize("name", cm_platform.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(cm_platform, name) is not None


def test_the_public_names_are_sorted_and_unique() -> None:
    for module in (cm_platform, cm_platform.storage):
        assert module.__all__ == sorted(set(module.__all__))


def test_another_name_does_not_resolve() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        cm_platform.Nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        cm_platform.storage.Nothing  # type: ignore[attr-defined]  # noqa: B018
