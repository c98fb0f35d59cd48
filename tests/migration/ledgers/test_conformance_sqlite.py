"""`ledger.sqlite` passes the conformance suite: as a file, in memory, and by a real clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cm_platform.migration.ledgers.sqlite import BACKEND
from cm_platform.testing import LedgerConformance


class TestMemory(LedgerConformance):
    shared = False

    @pytest.fixture(scope="class")
    @classmethod
    def ledger_backend(cls) -> Mapping[str, Any]:
        return {"driver": BACKEND, "path": ":memory:"}


@pytest.mark.suite
class TestFile(LedgerConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def ledger_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        return {"driver": BACKEND, "path": tmp_path_factory.mktemp("ledger") / "ledger.db"}


@pytest.mark.suite
class TestFileInRealTime(LedgerConformance):
    """As a ledger is tested whose time is a database's."""

    real_time = True
    moment = 0.1

    @pytest.fixture(scope="class")
    @classmethod
    def ledger_backend(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
        path = tmp_path_factory.mktemp("ledger") / "ledger.db"
        return {"driver": BACKEND, "path": path, "fsync": False}
