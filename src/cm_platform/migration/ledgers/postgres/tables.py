"""The ledger's tables: made once, and used only by who knows their form."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from cm_platform.errors import ConfigInvalidError

from .schema import PREPARING, TABLES, VERSION, schema_sql

if TYPE_CHECKING:
    from psycopg.rows import TupleRow

    from .connections import Ask, Connections
    from .statements import Statements

_NO_PARAMETERS: Final[Mapping[str, Any]] = {}
_UNVERSIONED: Final = 0
"""Of tables that were made before a version was kept with them."""


class Tables:
    """The same connections; the version of what they lead to is looked up before the first use.

    Once: a process that runs while others raise the version goes on with the one that it saw.
    """

    def __init__(self, connections: Connections, statements: Statements, table_schema: str) -> None:
        self._connections = connections
        self._say = statements
        self._table_schema = table_schema
        self._known = False

    async def ask(
        self, statement: bytes, parameters: Mapping[str, Any] = _NO_PARAMETERS
    ) -> list[TupleRow]:
        """See `Connections.ask`. Raises `config_invalid` for tables of another version."""
        if not self._known:
            await self._check()
        return await self._connections.ask(statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Ask, None]:
        """See `Connections.transaction`. Raises `config_invalid` for tables of another version."""
        if not self._known:
            await self._check()
        async with self._connections.transaction() as ask:
            yield ask

    async def prepare(self) -> None:
        """Make them, or bring them to this version; where they are there, no right is needed.

        Raises `config_invalid` for those of a newer version, and when Postgres answers before a
        commit is on disk.
        """
        if not await self._are_made(self._connections.ask):
            async with self._connections.transaction() as ask:
                await ask(self._say.prepare_alone, {"number": PREPARING})
                if not await self._are_made(ask):
                    await ask(schema_sql(self._table_schema).encode(), {})
        self._known = True

    async def close(self) -> None:
        """See `Connections.close`."""
        await self._connections.close()

    async def _check(self) -> None:
        version = await self._version(self._connections.ask)
        if version is None:
            # Nobody has made them, or no right to look: the first question says which.
            return
        if version < VERSION:
            raise ConfigInvalidError(
                f"the ledger's tables are of version {version}, and this library needs version "
                f"{VERSION}: run `cm-platform migrate init`, which brings them there",
                not_sent=True,
            )
        _refuse_newer(version)
        self._known = True

    async def _are_made(self, ask: Ask) -> bool:
        version = await self._version(ask)
        if version is not None:
            _refuse_newer(version)
        return version == VERSION

    async def _version(self, ask: Ask) -> int | None:
        """Of what is there; None where something is missing."""
        named = {"table_schema": self._table_schema, "tables": list(TABLES)}
        [(found, is_versioned, is_careless)] = await ask(self._say.found, named)
        if is_careless:
            raise ConfigInvalidError(
                "synchronous_commit is off for this user: after a crash Postgres would not know "
                "any more what it has answered. ALTER ROLE ... SET synchronous_commit = on",
                not_sent=True,
            )
        if found < len(TABLES):
            return None
        if not is_versioned:
            return _UNVERSIONED
        rows = await ask(self._say.version, _NO_PARAMETERS)
        return int(rows[0][0]) if rows else _UNVERSIONED


def _refuse_newer(version: int) -> None:
    if version > VERSION:
        raise ConfigInvalidError(
            f"the ledger's tables are of version {version}, and this library knows version "
            f"{VERSION}: use a newer release of cm-platform here, as whoever ran `cm-platform "
            "migrate init` last did",
            not_sent=True,
        )


__all__ = ["Tables"]
