"""What tests of the PostgreSQL adapter share: a pool, sessions, and the database's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from services.adapters.postgres.pool import Pool
from services.adapters.postgres.sessions import SessionStore


@pytest_asyncio.fixture(loop_scope="session")
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections to a fresh database."""
    async with Pool(database_url) as pool:
        yield pool


@pytest_asyncio.fixture(loop_scope="session")
async def sessions(pool: Pool) -> SessionStore:
    """Sessions of that database."""
    return SessionStore(pool)


@pytest_asyncio.fixture(loop_scope="session")
async def now(sessions: SessionStore) -> int:
    """The database's time in microseconds."""
    return await sessions.database_now()
