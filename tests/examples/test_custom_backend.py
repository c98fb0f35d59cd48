"""The backend of examples/custom_backend.py, proved as a third party would prove its own."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cm_platform.testing import StorageConformance, StorageIsolation

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_backend.py"


@pytest.fixture(scope="module")
def storage_backend() -> Mapping[str, Any]:
    return {"driver": runpy.run_path(str(EXAMPLE))["BACKEND"]}


@pytest.mark.suite
class TestMemoryStorage(StorageConformance):
    pass


@pytest.mark.suite
class TestMemoryStorageKeepsTenantsApart(StorageIsolation):
    layouts = ("{tenant}/{key}",)


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "press/cover.txt" in capsys.readouterr().out
