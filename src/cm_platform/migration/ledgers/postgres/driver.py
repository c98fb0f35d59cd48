"""The backend `ledger.postgres`: its settings, and how it is opened."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from cm_platform.registry import Backend, missing_sdk
from cm_platform.runtime import Runtime
from cm_platform.settings import Settings

from .ledger import PostgresLedger

_SCHEMES: Final = ("postgres", "postgresql")
_IDENTIFIER: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_APPLICATION: Final = re.compile(r"[ -~]{1,63}")


class PostgresLedgerConfig(Settings):
    """A ledger in Postgres, 14 or newer.

    What it has answered, it must not forget: a failover to a replica that lacks the last commits
    loses the intents under which stores were changed. Have synchronous replication, or a service
    that promises as much; and keep the clocks of both machines together, to well below a lease.

    url: such as postgresql://user:${PGPASSWORD}@host:5432/database?sslmode=verify-full. Only a
        server that can be written to is used: a replica says what was true a moment ago.
    table_schema: the schema of its tables, which are made by `cm-platform migrate init`.
    pool_min, pool_max: connections that are kept, and that there are at most.
    connect_timeout: seconds until a connection is open, or free.
    read_timeout: seconds for each statement, here and (statement_timeout) in Postgres.
    application_name: how Postgres lists our connections.
    pooler: a pooler that lends connections for a transaction (PgBouncer, Neon's "-pooler" hosts)
        stands between. Then nothing is prepared and no statement_timeout is set.
    """

    url: SecretStr
    table_schema: str = "cm_platform"
    pool_min: Annotated[int, Field(ge=0, le=1000)] = 1
    pool_max: Annotated[int, Field(ge=1, le=1000)] = 10
    connect_timeout: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 2.0
    read_timeout: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 5.0
    application_name: str = "cm-platform"
    pooler: bool = False

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            # A port, or several: "host1:5432,host2:5432" is for the SDK to take apart.
            is_ours = parts.scheme in _SCHEMES and bool(parts.netloc.rpartition("@")[2])
        except ValueError:
            is_ours = False
        if not is_ours:
            raise ValueError("a url is such as postgresql://user:password@host:5432/database")
        return value

    @field_validator("table_schema")
    @classmethod
    def _check_table_schema(cls, value: str) -> str:
        if _IDENTIFIER.fullmatch(value) is None:
            raise ValueError(
                "a schema's name is 1 to 63 characters [a-z0-9_], does not begin with a digit, "
                "and not with pg_"
            )
        return value

    @field_validator("application_name")
    @classmethod
    def _check_application_name(cls, value: str) -> str:
        if _APPLICATION.fullmatch(value) is None:
            raise ValueError("an application's name is 1 to 63 printable ASCII characters")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> PostgresLedgerConfig:
        if self.pool_max < self.pool_min:
            raise ValueError("pool_max must not be below pool_min")
        return self

    @property
    def encrypted(self) -> bool:
        """Whether what is sent is encrypted, and the server is who it says it is."""
        query = parse_qs(urlsplit(self.url.get_secret_value()).query)
        return query.get("sslmode") == ["verify-full"]


async def _open(config: PostgresLedgerConfig, runtime: Runtime) -> PostgresLedger:
    for sdk in ("psycopg", "psycopg_pool"):
        if find_spec(sdk) is None:
            error = ModuleNotFoundError(f"no {sdk}", name=sdk)
            raise missing_sdk("ledger.postgres", "postgres", error)
    from .connections import Connections
    from .statements import Statements
    from .tables import Tables

    say = Statements(config.table_schema)
    return PostgresLedger(Tables(Connections(config, runtime), say, config.table_schema), say)


BACKEND: Final = Backend(
    name="ledger.postgres",
    config=PostgresLedgerConfig,
    open=_open,
    capabilities=frozenset(),
    extra="postgres",
)

__all__ = ["BACKEND", "PostgresLedgerConfig"]
