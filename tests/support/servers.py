"""Embedded servers for tests: one PostgreSQL and one NATS per test process, a fresh database or store per test."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

import nats
import psycopg
from psycopg import sql

from services.local.nats import EmbeddedNats
from services.local.postgres import EmbeddedPostgres

TEMPLATE = "weconnect_template"
ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)


async def migrate(database_url: str) -> None:
    """Bring a database to the schema of this code, as an operator does it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.adapters.postgres.migrate",
        cwd=ROOT,
        env={**os.environ, "WECONNECT_DATABASE_URL": database_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the migration failed with code {process.returncode}:\n{output.decode()}")


class Databases:
    """Makes databases on one server: empty ones, and migrated ones as copies of a template."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._has_template = False

    async def empty(self) -> str:
        """URL of a new, empty database."""
        return await self._create("template0")

    async def migrated(self) -> str:
        """URL of a new database with the schema of this code."""
        if not self._has_template:
            await self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
            await migrate(self.server.url_of(TEMPLATE))
            self._has_template = True
        return await self._create(TEMPLATE)

    async def drop(self, url: str) -> None:
        """Drop a database, ending the sessions in it; a server that was killed is started again first."""
        await self.server.start()
        name = sql.Identifier(url.rpartition("/")[2])
        await self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    async def _create(self, template: str) -> str:
        await self.server.start()
        name = f"t{next(_numbers)}"
        await self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        return self.server.url_of(name)

    async def _execute(self, statement: sql.Composed) -> None:
        connection = await psycopg.AsyncConnection.connect(self.server.url_of("postgres"), autocommit=True)
        async with connection:
            await connection.execute(statement)


async def empty_store(server: EmbeddedNats) -> None:
    """Make the server as new: running, without streams."""
    await server.start()
    client = await nats.connect(server.url)
    try:
        context = client.jetstream()
        for stream in await context.streams_info():
            await context.delete_stream(str(stream.config.name))
    finally:
        await client.close()
