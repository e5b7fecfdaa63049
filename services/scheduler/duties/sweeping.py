"""Keeps the tables bounded: sweeps what every reader is past, and makes the partitions of the months to come.

Any scheduler may run it; repeating a sweep is harmless.
"""

from __future__ import annotations

from services.adapters.postgres.partitions import ensure_partitions
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.sweeps import Sweeper

# Who reads the feed of commits by cursors.
READERS = ("monitor",)


class Sweeping:
    """Two duties: rows often, partitions rarely."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sweeper = Sweeper(pool)

    async def rows(self) -> dict[str, int]:
        """Commits, batches of group inserts and idempotency keys that nobody needs."""
        return {
            "commits": await self._sweeper.commits(READERS),
            "insert_batches": await self._sweeper.insert_batches(),
            "keys": await self._sweeper.idempotency_keys(),
        }

    async def partitions(self) -> dict[str, int]:
        """Partitions of the coming months."""
        return {"made": len(await self._pool.run(ensure_partitions))}
