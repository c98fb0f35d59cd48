"""The ledger `ledger.sqlite`: a file that the processes of one machine share."""

from .ledger import BACKEND, MEMORY, SqliteConfig, SqliteLedger

__all__ = ["BACKEND", "MEMORY", "SqliteConfig", "SqliteLedger"]
