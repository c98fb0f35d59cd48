"""What the file of a cache has in it."""

from __future__ import annotations

from typing import Final

from cm_platform.sqlite import Form

# The value comes last: what stands before it is read without walking through a large one.
# Entries are numbered in the order of their use, and `store.bytes` is the sum of their sizes.
_SCHEMA: Final = (
    """
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        expires REAL,
        size INTEGER NOT NULL,
        value BLOB NOT NULL
    )
    """,
    "CREATE INDEX entries_by_time ON entries (expires) WHERE expires IS NOT NULL",
    "CREATE TABLE store (bytes INTEGER NOT NULL)",
    "INSERT INTO store VALUES (0)",
    """
    CREATE TRIGGER entry_kept AFTER INSERT ON entries
    BEGIN UPDATE store SET bytes = bytes + NEW.size; END
    """,
    """
    CREATE TRIGGER entry_gone AFTER DELETE ON entries
    BEGIN UPDATE store SET bytes = bytes - OLD.size; END
    """,
)

FORM: Final = Form(
    backend="cache.local",
    application_id=0x636D6361,  # "cmca"
    version=1,
    schema=_SCHEMA,
    cure=(
        "stop whoever uses it, delete it together with its -wal and -shm, and start again; "
        "a cache can be filled anew"
    ),
)

__all__ = ["FORM"]
