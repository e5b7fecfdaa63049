"""Histories as watchers read them: how far each is, and what came after a sequence."""

from __future__ import annotations

from collections.abc import Sequence

from services.adapters.postgres.binary import Bigint, Uuid, uuids
from services.adapters.postgres.pool import Pool
from services.core.records import HistoryRow

_LAST = (
    "select w.id, h.last_sequence from unnest(%s::uuid[]) as w (id) cross join lateral"
    " (select last_sequence from execution_history x where x.execution_id = w.id"
    " order by x.sequence desc limit 1) h"
)
_OWNED_BY = (
    "(exists (select 1 from open_executions o where o.execution_id = %(execution_id)s"
    " and o.organization_id = %(organization_id)s) or exists (select 1 from executions f"
    " where f.execution_id = %(execution_id)s and f.organization_id = %(organization_id)s))"
)
_HISTORY = (
    "select execution_id, sequence, last_sequence, at, events, events_version from execution_history h"
    " where execution_id = %(execution_id)s and last_sequence > %(after)s and sequence >= coalesce((select"
    " max(x.sequence) from execution_history x where x.execution_id = %(execution_id)s"
    f" and x.sequence <= %(after)s + 1), 0) and {_OWNED_BY} order by sequence limit %(limit)s"
)


class CommitFeed:
    """Reads histories for watchers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def last_sequences(self, execution_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Last sequence of each execution that has a history: one query for all that were silent."""
        return {row[0]: row[1] for row in await self._pool.fetch(_LAST, (uuids(execution_ids),))}

    async def history(
        self, organization_id: str, execution_id: bytes, *, after: int = 0, limit: int = 100
    ) -> list[HistoryRow]:
        """Rows with events after a sequence, in order; the first may begin before it. Empty for strangers."""
        parameters = {
            "organization_id": organization_id,
            "execution_id": Uuid(execution_id),
            "after": Bigint(after),
            "limit": Bigint(limit),
        }
        return [HistoryRow(*row) for row in await self._pool.fetch(_HISTORY, parameters)]
