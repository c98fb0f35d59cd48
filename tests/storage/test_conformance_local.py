"""`storage.local` passes the conformance suite, whole and with less than it can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cm_platform.storage.backend import StorageCapability
from cm_platform.testing import StorageConformance
from cm_platform.testing.storage import ConditionsConformance


class TestLocal(StorageConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def storage_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        return {"driver": "local", "path": str(tmp_path_factory.mktemp("store"))}


class TestLocalThatLacksEverything(ConditionsConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def storage_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        path = str(tmp_path_factory.mktemp("store"))
        return {"driver": "local", "path": path, "lacks": [str(c) for c in StorageCapability]}
