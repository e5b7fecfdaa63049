"""Deletes what nobody needs any more, a bounded number of rows at a time. Each sweep is harmless to repeat."""

from __future__ import annotations

from collections.abc import Sequence

from services.adapters.postgres.binary import Bigint, texts
from services.adapters.postgres.pool import Pool
from services.core.units import DAY, HOUR, MINUTE

COMMIT_AGE_MIN_US = MINUTE
BATCH_AGE_MIN_US = HOUR
KEY_RETENTION_US = 7 * DAY

_AGE = "clock_timestamp() - make_interval(secs => %(age_us)s::double precision / 1000000)"
# A session's last row stays: whoever closes the session numbers the closing row after it. So does the closing
# row, which fences for ever. A reader without a cursor has read nothing.
_COMMITS = (
    "with read as (select s.id as session, coalesce(min(coalesce(c.number, 0)), 0) as number from sessions s"
    " cross join unnest(%(readers)s::text[]) as r (reader)"
    " left join cursors c on c.session = s.id and c.reader = r.reader group by s.id),"
    " old as (select c.session, c.number from read cross join lateral (select x.session, x.number from commits x"
    " where x.session = read.session and x.number <= read.number and x.kind <> 2"
    f" and x.at < {_AGE} and x.number < (select max(l.number) from commits l where l.session = read.session)"
    " order by x.number limit %(limit)s) c limit %(limit)s)"
    " delete from commits d using old where d.session = old.session and d.number = old.number"
    " returning d.number"
)
_BATCHES = (
    "delete from insert_batches where id in"
    f" (select id from insert_batches where at < {_AGE} limit %(limit)s) returning id"
)
# An execution that was deleted with its retention holds its key no longer than the key's own.
_KEYS = (
    "with old as (select k.organization_id, k.key from idempotency_keys k"
    f" left join executions e on e.execution_id = k.execution_id where k.created_at < {_AGE}"
    f" and (e.completed_at is null or e.completed_at < {_AGE}) and not exists"
    " (select 1 from open_executions o where o.execution_id = k.execution_id)"
    " order by k.created_at limit %(limit)s)"
    " delete from idempotency_keys d using old where d.organization_id = old.organization_id"
    " and d.key = old.key returning d.key"
)


class Sweeper:
    """The sweeps, each `(limit) -> rows deleted`. Run again while a sweep deletes as many as it may."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def commits(
        self, readers: Sequence[str], limit: int = 10_000, age_us: int = COMMIT_AGE_MIN_US
    ) -> int:
        """Commits that all these readers have read and that are older than `age_us`."""
        parameters = {"readers": texts(readers), "limit": Bigint(limit), "age_us": Bigint(age_us)}
        return len(await self._pool.fetch(_COMMITS, parameters))

    async def insert_batches(self, limit: int = 10_000, age_us: int = BATCH_AGE_MIN_US) -> int:
        """Rows of group inserts that are older than any connection that could still be unresolved."""
        parameters = {"limit": Bigint(limit), "age_us": Bigint(age_us)}
        return len(await self._pool.fetch(_BATCHES, parameters))

    async def idempotency_keys(self, limit: int = 1_000, age_us: int = KEY_RETENTION_US) -> int:
        """Keys whose execution ended longer ago than the retention."""
        parameters = {"limit": Bigint(limit), "age_us": Bigint(age_us)}
        return len(await self._pool.fetch(_KEYS, parameters))
