"""`ledger.postgres` passes the conformance suite: by itself, and as it speaks to a pooler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cm_platform.migration.ledgers.postgres import BACKEND
from cm_platform.testing import LedgerConformance
from cm_platform.testing.ledger import (
    FencingConformance,
    OpeningConformance,
    RacingConformance,
    RecordingConformance,
)
from cm_platform.testing.servers import PostgresServer


@pytest.mark.suite
class TestPostgres(LedgerConformance):
    real_time = True
    moment = 0.2

    @pytest.fixture(scope="class")
    @classmethod
    def ledger_backend(cls, postgres_server: PostgresServer) -> Mapping[str, Any]:
        return {"driver": BACKEND, "url": postgres_server.new_database()}


@pytest.mark.suite
class TestPostgresAsBehindAPooler(
    FencingConformance,
    RecordingConformance,
    RacingConformance,
    OpeningConformance,
):
    """Nothing is prepared, nothing is set for a connection, and the schema is another."""

    real_time = True
    moment = 0.2

    @pytest.fixture(scope="class")
    @classmethod
    def ledger_backend(cls, postgres_server: PostgresServer) -> Mapping[str, Any]:
        return {
            "driver": BACKEND,
            "url": postgres_server.new_database(),
            "pooler": True,
            "table_schema": "ledger_of_a_tenant",
            "pool_min": 0,
            "pool_max": 4,
        }
