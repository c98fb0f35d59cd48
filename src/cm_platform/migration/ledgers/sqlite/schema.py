"""What the file of a ledger has in it."""

from __future__ import annotations

from typing import Final

from cm_platform.sqlite import Form

# Times are seconds since 1970-01-01 UTC. What ends at a time has ended when it is that time.
#
# migrations.entered, .announced: NULL until a commit is behind them; see `stages`.
# intents.number: rises, so it is the order of their beginning, whatever the clock did meanwhile.
# intents.owner: NULL when nobody has it.
_SCHEMA: Final = (
    """
    CREATE TABLE migrations (
        kind TEXT NOT NULL,
        tenant TEXT NOT NULL,
        migration TEXT NOT NULL,
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        lease REAL NOT NULL,
        longest REAL NOT NULL,
        soak REAL NOT NULL,
        stage TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        flipped INTEGER NOT NULL,
        entered REAL,
        announced REAL,
        announced_until REAL NOT NULL,
        paused_until REAL NOT NULL,
        PRIMARY KEY (kind, tenant)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE intents (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        tenant TEXT NOT NULL,
        key TEXT NOT NULL,
        purpose TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        owner TEXT,
        begun REAL NOT NULL,
        due REAL NOT NULL
    )
    """,
    "CREATE INDEX intents_by_key ON intents (kind, tenant, key)",
    "CREATE INDEX intents_by_age ON intents (kind, tenant, number, due)",
    """
    CREATE TABLE transitions (
        kind TEXT NOT NULL,
        tenant TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        id TEXT NOT NULL,
        at REAL NOT NULL,
        who TEXT NOT NULL,
        before TEXT,
        stage TEXT NOT NULL,
        evidence TEXT NOT NULL,
        reason TEXT,
        PRIMARY KEY (kind, tenant, epoch),
        UNIQUE (kind, tenant, id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER transition_changed BEFORE UPDATE ON transitions
    BEGIN SELECT RAISE(ABORT, 'the log only grows'); END
    """,
    """
    CREATE TRIGGER transition_removed BEFORE DELETE ON transitions
    BEGIN SELECT RAISE(ABORT, 'the log only grows'); END
    """,
    # Replacing a row is neither of both: SQLite then fires no trigger for the old one.
    """
    CREATE TRIGGER transition_added BEFORE INSERT ON transitions
    WHEN EXISTS (
        SELECT 1 FROM transitions
        WHERE kind = NEW.kind AND tenant = NEW.tenant AND (epoch >= NEW.epoch OR id = NEW.id)
    )
    BEGIN SELECT RAISE(ABORT, 'the log only grows'); END
    """,
    """
    CREATE TABLE notes (
        kind TEXT NOT NULL,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        body TEXT NOT NULL,
        written REAL NOT NULL,
        PRIMARY KEY (kind, tenant, name)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE counters (
        kind TEXT NOT NULL,
        tenant TEXT NOT NULL,
        family TEXT NOT NULL,
        name TEXT NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (kind, tenant, family, name)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE skipped (
        kind TEXT NOT NULL,
        tenant TEXT NOT NULL,
        key TEXT NOT NULL,
        reason TEXT NOT NULL,
        side TEXT NOT NULL,
        PRIMARY KEY (kind, tenant, key)
    ) WITHOUT ROWID
    """,
)

FORM: Final = Form(
    backend="ledger.sqlite",
    application_id=0x636D6C65,  # "cmle"
    version=2,
    schema=_SCHEMA,
    cure=(
        "stop whoever uses it, and put back the newest copy of it; without one, no tenant that "
        "it knew may be written to before its stores have been compared"
    ),
    of_another=(
        "let all processes that use it have the same version; with another file they would forget "
        "where each tenant's data is. `cm-platform migrate init` brings no file to another version"
    ),
)

__all__ = ["FORM"]
