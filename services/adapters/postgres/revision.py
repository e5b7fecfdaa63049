"""The schema revision that this release speaks; a service refuses any other."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from services.adapters.postgres.errors import DatabaseUnavailableError
from services.adapters.postgres.pool import Pool

SCHEMA_REVISION = "0001"
# A process that starts while its database does waits for it, as it waits when the database restarts later.
START_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.2


class SchemaUnknownError(Exception):
    """The database holds a schema that this release does not know; `found` is empty when it holds none."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"schema revision is {found or 'absent'}, this release knows {SCHEMA_REVISION}: migrate"
        )
        self.found = found


async def check_schema(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise SchemaUnknownError unless the database has exactly the schema of this release."""
    found = ""
    cursor = await connection.execute("select to_regclass('alembic_version') is not null")
    exists = await cursor.fetchone()
    if exists is not None and exists[0]:
        cursor = await connection.execute("select version_num from alembic_version")
        row = await cursor.fetchone()
        found = str(row[0]) if row is not None else ""
    if found != SCHEMA_REVISION:
        raise SchemaUnknownError(found)


async def until_schema_known(pool: Pool, seconds: float = START_SECONDS) -> None:
    """Return once the database answers and has the schema of this release.

    Raises SchemaUnknownError at once, DatabaseUnavailableError when it has not answered for `seconds`.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            await pool.run(check_schema)
            return
        except DatabaseUnavailableError:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
