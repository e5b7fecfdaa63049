"""The schema revision that this release speaks; a service refuses any other."""

from __future__ import annotations

from typing import Any

import psycopg

SCHEMA_REVISION = "0001"


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
