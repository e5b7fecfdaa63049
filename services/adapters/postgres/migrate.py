"""Brings the schema to this release's revision: `python -m services.adapters.postgres.migrate`.

Reads WECONNECT_DATABASE_URL. Any number may run at once: an advisory lock lets one at a time work.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from services.adapters.postgres.partitions import ensure_partitions
from services.adapters.postgres.revision import SCHEMA_REVISION

_LOCK = 0x7763_6D69  # advisory lock, "wcmi"
EXIT_CONFIGURATION = 2


def migrate(url: str) -> None:
    """Migrate the database at a libpq URL to `SCHEMA_REVISION` and make its partitions. Blocks."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with psycopg.connect(url, autocommit=True) as guard:
        # Held by its own connection: Alembic commits several transactions.
        guard.execute("select pg_advisory_lock(%s)", (_LOCK,))
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, SCHEMA_REVISION)
        asyncio.run(_make_partitions(url))


async def _make_partitions(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await ensure_partitions(connection)


def main() -> None:
    """Migrate what the environment names."""
    url = os.environ.get("WECONNECT_DATABASE_URL", "")
    if not url:
        print("migrate: configuration: WECONNECT_DATABASE_URL is not set", file=sys.stderr)
        raise SystemExit(EXIT_CONFIGURATION)
    migrate(url)
    print(f"migrate: schema is at revision {SCHEMA_REVISION}")


if __name__ == "__main__":
    main()
