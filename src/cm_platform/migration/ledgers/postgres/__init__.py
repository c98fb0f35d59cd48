"""The ledger `ledger.postgres`: Postgres 14 or newer, directly or behind a pooler."""

from .driver import BACKEND, PostgresLedgerConfig
from .ledger import PostgresLedger
from .schema import schema_sql

__all__ = ["BACKEND", "PostgresLedger", "PostgresLedgerConfig", "schema_sql"]
