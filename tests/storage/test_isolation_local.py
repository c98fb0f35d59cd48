"""`storage.local` keeps tenants apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cm_platform.testing import StorageIsolation


class TestLocal(StorageIsolation):
    @pytest.fixture(scope="class")
    @classmethod
    def storage_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        return {"driver": "local", "path": str(tmp_path_factory.mktemp("store"))}
