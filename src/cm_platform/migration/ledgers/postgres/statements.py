"""What the ledger says to Postgres, written once for the names of one schema.

The fence is a lock on the row of the migration. `begin` takes it shared, in the statement that
records the intents; `pause`, `move` and `announce` write the row, so each waits for those who are
recording, and those who come after see what it wrote: under READ COMMITTED a statement that had
to wait for a row's lock judges the row anew. Without the lock an intent of the old epoch could be
committed after the flip, because it is not seen by a count until it is committed.

A commit takes time, in which others still read what was before. So the time from which a stage
counts, or an announcement, is taken by a statement of its own after the commit: until then it is
NULL, and counts as none. For the same reason an announcement does not run out by the clock alone:
as long as its time stands in the row nobody is granted a lease, and whoever finds it past ends it
by writing the row, for which a flip that is being committed makes him wait.

What a statement asks of the clock it asks with clock_timestamp(): now() is the time at which the
transaction began, which may be before a wait.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from .schema import TABLES, VERSIONED

_SUBJECT = sql.SQL("kind = %(kind)s AND tenant = %(tenant)s")
_LATER = sql.SQL("clock_timestamp() + %(seconds)s::float8 * interval '1 second'")
_STATE = sql.SQL(
    """migration_name, source, target, lease, longest, soak, stage, epoch,
    CASE WHEN announced_until IS NULL THEN lease ELSE 0 END AS granted,
    coalesce(paused_until > clock_timestamp(), false) AS paused,
    coalesce(greatest(extract(epoch FROM clock_timestamp() - entered_at), 0), 0)::float8 AS age,
    flipped,
    entered_at IS NULL OR coalesce(announced_until <= clock_timestamp(), false) AS unsettled"""
)


class Statements:
    """Each a query with named parameters, rendered: kind and tenant, and what it names."""

    def __init__(self, schema: str) -> None:
        names: dict[str, sql.Composable] = {
            name: sql.Identifier(schema, name) for name in (*TABLES, VERSIONED)
        }

        def made(template: LiteralString) -> bytes:
            composed = sql.SQL(template).format(
                subject=_SUBJECT, later=_LATER, state=_STATE, **names
            )
            return composed.as_bytes(None)

        # Intents. One statement each, and so one round trip and one transaction.

        # An intent of the same id that is another's becomes nobody's by this: NULL, which the
        # column refuses, and with it all of the statement. One that is there already is written
        # as it is: only so is it seen however lately it was committed.
        self.begin = made(
            """
            WITH fence AS (
                SELECT kind, tenant, epoch FROM {migration}
                WHERE {subject} AND epoch = %(epoch)s
                    AND (paused_until IS NULL OR paused_until <= clock_timestamp())
                    AND (announced_until IS NULL OR announced_until <= clock_timestamp()
                        OR NOT %(uploads)s)
                FOR SHARE
            ), made AS (
                INSERT INTO {intent} AS held
                    (id, kind, tenant, key, purpose, epoch, owner, begun_at, due_at)
                SELECT wanted.id, kind, tenant, wanted.key, wanted.purpose, epoch, %(owner)s,
                    clock_timestamp(), {later}
                FROM fence, unnest(%(ids)s::text[], %(keys)s::text[], %(purposes)s::text[])
                    AS wanted (id, key, purpose)
                ON CONFLICT (id) DO UPDATE SET owner = CASE
                    WHEN (held.owner, held.kind, held.tenant)
                        = (excluded.owner, excluded.kind, excluded.tenant) THEN held.owner
                END
            )
            SELECT 1 FROM fence
            """
        )
        self.end = made("DELETE FROM {intent} WHERE id = ANY(%(ids)s) AND owner = %(owner)s")
        self.leave = made(
            """
            UPDATE {intent} SET owner = '', due_at = {later}
            WHERE id = ANY(%(ids)s) AND owner = %(owner)s
            """
        )
        self.extend = made(
            """
            WITH held AS (
                SELECT id FROM {intent} WHERE id = ANY(%(ids)s) AND owner = %(owner)s
                ORDER BY id FOR UPDATE
            ), extended AS (
                UPDATE {intent} SET due_at = greatest(due_at, {later})
                WHERE id IN (SELECT id FROM held)
                    AND (SELECT count(*) FROM held) = cardinality(%(ids)s::text[])
                RETURNING 1
            )
            SELECT count(*) FROM extended
            """
        )
        # Those that somebody else is claiming just now are passed over.
        self.claim = made(
            """
            WITH due AS (
                SELECT id FROM {intent} WHERE {subject} AND due_at <= clock_timestamp()
                ORDER BY number LIMIT %(limit)s FOR UPDATE SKIP LOCKED
            ), claimed AS (
                UPDATE {intent} SET owner = %(owner)s, due_at = {later}
                WHERE id IN (SELECT id FROM due) RETURNING id, key, purpose, number
            )
            SELECT id, key, purpose FROM claimed ORDER BY number
            """
        )
        self.is_pending = made(
            "SELECT EXISTS (SELECT FROM {intent} WHERE {subject} AND key = %(key)s)"
        )
        self.pending = made(
            """
            SELECT count(*), count(*) FILTER (WHERE due_at <= clock_timestamp()),
                coalesce(extract(epoch FROM clock_timestamp() - min(begun_at)), 0)::float8,
                count(*) FILTER (WHERE purpose = 'upload'),
                coalesce(extract(epoch FROM max(due_at) FILTER (WHERE purpose = 'upload')
                    - clock_timestamp()), 0)::float8
            FROM {intent} WHERE {subject}
            """
        )

        # Stages.

        self.state = made("SELECT {state} FROM {migration} WHERE {subject}")
        self.settle = made(
            """
            UPDATE {migration} SET entered_at = coalesce(entered_at, clock_timestamp()),
                announced_until = CASE WHEN announced_until > clock_timestamp()
                    THEN announced_until END
            WHERE {subject} AND epoch = %(epoch)s
                AND (entered_at IS NULL OR announced_until <= clock_timestamp())
            RETURNING {state}
            """
        )
        self.subjects = made("SELECT kind, tenant, {state} FROM {migration} ORDER BY kind, tenant")
        # Epoch 0 is nobody's: it is left before it can be seen.
        self.place = made(
            """
            INSERT INTO {migration} (kind, tenant, migration_name, source, target, lease,
                longest, soak, stage, epoch, flipped)
            VALUES (%(kind)s, %(tenant)s, '', '', '', 0, 0, 0, 'off', 0, 0)
            ON CONFLICT (kind, tenant) DO NOTHING
            """
        )
        # Not one statement with `look`: what it sees must be from after the wait for the lock.
        self.lock = made("SELECT 1 FROM {migration} WHERE {subject} FOR UPDATE")
        self.look = made(
            """
            SELECT {state},
                coalesce(announced_until > clock_timestamp()
                    AND announced_from + lease * interval '1 second' <= clock_timestamp(), false),
                (SELECT count(*) FROM {intent} WHERE {subject}),
                (SELECT epoch FROM {transition} WHERE {subject} AND id = %(move)s)
            FROM {migration} WHERE {subject}
            """
        )
        self.enter = made(
            """
            WITH entered AS (
                UPDATE {migration} SET migration_name = %(migration_name)s, source = %(source)s,
                    target = %(target)s, lease = %(lease)s, longest = %(longest)s,
                    soak = %(soak)s, stage = %(stage)s, epoch = epoch + 1,
                    flipped = %(flipped)s,
                    entered_at = NULL, announced_from = NULL, announced_until = NULL,
                    paused_until = NULL
                WHERE {subject} RETURNING {state}
            ), logged AS (
                INSERT INTO {transition}
                    (kind, tenant, epoch, id, at, who, before, stage, evidence, reason)
                SELECT %(kind)s, %(tenant)s, epoch, %(move)s, clock_timestamp(), %(who)s,
                    %(before)s, stage, %(evidence)s::json, %(reason)s
                FROM entered
            ), notes AS (
                DELETE FROM {note} WHERE {subject} AND %(afresh)s
            ), counters AS (
                DELETE FROM {counter} WHERE {subject} AND %(afresh)s
            ), skips AS (
                DELETE FROM {skipped} WHERE {subject} AND %(afresh)s
            )
            SELECT * FROM entered
            """
        )
        self.announce = made(
            """
            UPDATE {migration} SET
                announced_from = CASE WHEN announced_until > clock_timestamp()
                    AND %(seconds)s > 0 THEN announced_from END,
                announced_until = CASE WHEN %(seconds)s > 0
                    THEN greatest(announced_until, {later}) END
            WHERE {subject} AND epoch = %(epoch)s
            RETURNING announced_until IS NOT NULL AND announced_from IS NULL
            """
        )
        self.announced = made(
            """
            UPDATE {migration} SET announced_from = clock_timestamp()
            WHERE {subject} AND epoch = %(epoch)s
                AND announced_from IS NULL AND announced_until IS NOT NULL
            """
        )
        self.pause = made(
            """
            UPDATE {migration} SET paused_until = CASE WHEN %(seconds)s > 0
                THEN greatest(paused_until, {later}) END
            WHERE {subject} AND epoch = %(epoch)s
            RETURNING 1
            """
        )
        self.log = made(
            """
            SELECT id, epoch, extract(epoch FROM at)::float8, who, before, stage, evidence, reason
            FROM {transition} WHERE {subject} ORDER BY epoch
            """
        )

        # Evidence.

        self.note = made(
            """
            INSERT INTO {note} (kind, tenant, name, body, written_at)
            VALUES (%(kind)s, %(tenant)s, %(name)s, %(body)s::json, clock_timestamp())
            ON CONFLICT (kind, tenant, name)
                DO UPDATE SET body = excluded.body, written_at = excluded.written_at
            """
        )
        self.notes = made(
            """
            SELECT name, body,
                greatest(extract(epoch FROM clock_timestamp() - written_at), 0)::float8
            FROM {note} WHERE {subject} ORDER BY name
            """
        )
        # In one order, whoever counts: else two that count the same could wait for each other.
        self.count = made(
            """
            INSERT INTO {counter} AS held (kind, tenant, family, name, value)
            SELECT %(kind)s, %(tenant)s, more.family, more.name, more.value
            FROM unnest(%(families)s::text[], %(names)s::text[], %(values)s::bigint[])
                AS more (family, name, value)
            ORDER BY more.family COLLATE "C", more.name COLLATE "C"
            ON CONFLICT (kind, tenant, family, name)
                DO UPDATE SET value = held.value + excluded.value
            """
        )
        self.counts = made(
            "SELECT family, name, value FROM {counter} WHERE {subject} ORDER BY family, name"
        )
        self.reset_counts = made("DELETE FROM {counter} WHERE {subject}")
        self.skip = made(
            """
            INSERT INTO {skipped} (kind, tenant, key, reason, side)
            VALUES (%(kind)s, %(tenant)s, %(key)s, %(reason)s, %(side)s)
            ON CONFLICT (kind, tenant, key)
                DO UPDATE SET reason = excluded.reason, side = excluded.side
            """
        )
        self.unskip = made("DELETE FROM {skipped} WHERE {subject} AND key = ANY(%(keys)s)")
        self.skipped = made(
            "SELECT key, reason, side FROM {skipped} WHERE {subject} ORDER BY key LIMIT %(limit)s"
        )
        self.skipped_among = made(
            """
            SELECT key, reason, side FROM {skipped}
            WHERE {subject} AND key = ANY(%(keys)s) ORDER BY key
            """
        )

        # Life.

        self.ping = made("SELECT FROM {migration} LIMIT 0")
        self.found = made(
            """
            SELECT count(*) FILTER (WHERE tablename = ANY(%(tables)s)),
                coalesce(bool_or(tablename = 'version'), false),
                current_setting('synchronous_commit') = 'off'
            FROM pg_catalog.pg_tables WHERE schemaname = %(table_schema)s
            """
        )
        self.version = made("SELECT version FROM {version}")
        self.prepare_alone = made("SELECT pg_catalog.pg_advisory_xact_lock(%(number)s)")


__all__ = ["Statements"]
