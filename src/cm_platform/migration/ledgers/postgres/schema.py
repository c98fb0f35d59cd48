"""What the ledger has in Postgres: a schema with six tables, and a seventh that has its version."""

from __future__ import annotations

from typing import Final

TABLES: Final = ("migration", "intent", "transition", "note", "counter", "skipped")

VERSION: Final = 1
"""Of the form of these tables. With a new one, `_SCHEMA` has to lead there from each before."""

VERSIONED: Final = "version"
"""The table that says of which version the others are."""

PREPARING: Final = 0x636D5F6C65646772
"""The advisory lock under which the tables are made: "cm_ledgr" as a number."""

# migration.entered_at, .announced_from: NULL until a commit is behind them; see `Statements`.
# migration.announced_until: NULL where nothing is announced. A time that is past still counts,
#   until somebody has seen it and put NULL there.
# intent.number: rises, so it is the order of their beginning, whatever the clock did meanwhile.
# intent.owner: '' when nobody has it.
# evidence, body: json and not jsonb, which refuses U+0000 and forgets how a number was written.
# No foreign keys: each intent would lock the row of its migration once more.
_SCHEMA: Final = """\
CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE IF NOT EXISTS {migration} (
    kind text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    migration_name text NOT NULL,
    source text NOT NULL,
    target text NOT NULL,
    lease float8 NOT NULL,
    longest float8 NOT NULL,
    soak float8 NOT NULL,
    stage text NOT NULL,
    epoch bigint NOT NULL,
    flipped bigint NOT NULL,
    entered_at timestamptz,
    announced_from timestamptz,
    announced_until timestamptz,
    paused_until timestamptz,
    PRIMARY KEY (kind, tenant)
);

CREATE TABLE IF NOT EXISTS {intent} (
    id text COLLATE "C" PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    kind text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    purpose text NOT NULL,
    epoch bigint NOT NULL,
    owner text COLLATE "C" NOT NULL,
    begun_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX IF NOT EXISTS intent_by_key ON {intent} (kind, tenant, key);

CREATE TABLE IF NOT EXISTS {transition} (
    kind text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    who text NOT NULL,
    before text,
    stage text NOT NULL,
    evidence json NOT NULL,
    reason text,
    PRIMARY KEY (kind, tenant, epoch),
    UNIQUE (kind, tenant, id)
);

CREATE OR REPLACE FUNCTION {refuse_change}() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'the log only grows'; END$$;

CREATE OR REPLACE TRIGGER only_grows
    BEFORE UPDATE OR DELETE OR TRUNCATE ON {transition}
    FOR EACH STATEMENT EXECUTE FUNCTION {refuse_change}();

CREATE TABLE IF NOT EXISTS {note} (
    kind text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    body json NOT NULL,
    written_at timestamptz NOT NULL,
    PRIMARY KEY (kind, tenant, name)
);

CREATE TABLE IF NOT EXISTS {counter} (
    kind text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    family text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    value bigint NOT NULL,
    PRIMARY KEY (kind, tenant, family, name)
);

CREATE TABLE IF NOT EXISTS {skipped} (
    kind text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    side text COLLATE "C" NOT NULL DEFAULT 'source',
    PRIMARY KEY (kind, tenant, key)
);

ALTER TABLE {skipped} ADD COLUMN IF NOT EXISTS side text COLLATE "C" NOT NULL DEFAULT 'source';

CREATE TABLE IF NOT EXISTS {version} (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL
);

INSERT INTO {version} AS held (version) VALUES ({number})
    ON CONFLICT (one) DO UPDATE SET version = excluded.version
    WHERE held.version < excluded.version;
"""


def schema_sql(schema: str = "cm_platform") -> str:
    """What `prepare` executes, for an operator who applies it by hand (`psql -1 -f`).

    Whoever applies it owns the tables. Other roles need USAGE on the schema, and SELECT, INSERT,
    UPDATE and DELETE on its tables; on `transition` SELECT and INSERT are enough, on `version`
    SELECT is.
    """
    from psycopg import sql

    named = (*TABLES, VERSIONED, "refuse_change")
    names = {name: sql.Identifier(schema, name) for name in named}
    return (
        sql.SQL(_SCHEMA)
        .format(schema=sql.Identifier(schema), number=sql.Literal(VERSION), **names)
        .as_string(None)
    )


__all__ = ["PREPARING", "TABLES", "VERSION", "VERSIONED", "schema_sql"]
