"""The feed of commits and the histories behind it: how watchers and the monitor learn what happened.

Numbers of a session have no holes and become visible in order, since a session makes one commit at a time; so
a cursor per session loses nothing, which a cursor over an identity column would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.adapters.postgres.binary import Bigint, Uuid, bigints, uuids
from services.adapters.postgres.pool import Pool
from services.core.records import CommitRow, HistoryRow

_AFTER = (
    "select c.session, c.number, c.kind, c.at, c.digest from unnest(%s::bigint[], %s::bigint[]) as w (session, after)"
    " cross join lateral (select * from commits x where x.session = w.session and x.number > w.after"
    " order by x.number limit %s) c order by c.session, c.number"
)
# Sessions whose closing row is read are over; the index makes this one probe a session.
_HEADS = (
    "select s.id, coalesce((select max(number) from commits c where c.session = s.id), 0)"
    " from sessions s where not s.closed or s.started_at > clock_timestamp() - interval '1 day'"
)
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
    """Reads commits and histories for watchers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def heads(self) -> dict[int, int]:
        """Number of the last commit of each session that is open or young; 0: none yet. A cursor to start from."""
        return {int(session): int(number) for session, number in await self._pool.fetch(_HEADS)}

    async def after(self, cursors: Mapping[int, int], limit: int) -> list[CommitRow]:
        """Commits after each cursor (session → number), at most `limit` of a session, in order of numbers."""
        sessions = sorted(cursors)
        parameters = (bigints(sessions), bigints(cursors[s] for s in sessions), Bigint(limit))
        return [CommitRow(*row) for row in await self._pool.fetch(_AFTER, parameters)]

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
