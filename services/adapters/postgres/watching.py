"""Batched reads for api's waiters and watchers: one query for all that wait, never one each.

The ids belong to many organizations at once, so nothing here asks for one: callers have checked it, once, when the
wait or the watch began (`lists.ExecutionLists.get`).
"""

from __future__ import annotations

from collections.abc import Sequence

from services.adapters.postgres.binary import Bigint, bigints, uuids
from services.adapters.postgres.connection import Row
from services.adapters.postgres.executions import ExecutionStore
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.start_columns import START_WIDTH, start_list, start_of
from services.core.records import ExecutionRecord, HistoryRow, LogRow, VersionRow

# Of one execution in one answer; a watcher that is further behind asks again.
HISTORY_ROWS_MAX = 32
LOG_LINES_MAX = 200

_RESULTS = (
    "status, status_reason, output, error, started_at, completed_at, nodes_executed, nodes_failed, metrics,"
    " sequence, snapshot"
)
# One probe an id, in its own partition: `= any` of a parameter would look into every partition.
_ENDED = (
    "select e.* from unnest(%s::uuid[]) as w (id) cross join lateral"
    f" (select {start_list()}, {_RESULTS} from executions x where x.execution_id = w.id limit 1) e"
)
_OPEN = (
    f"select {start_list()}, case when exists (select 1 from execution_history h"
    " where h.execution_id = o.execution_id) then 'running' else 'pending' end,"
    " case when quarantine is null then '' else 'QUARANTINED' end, null::bytea, null::bytea,"
    " null::timestamptz, null::timestamptz, 0, 0, null::bytea, sequence, snapshot"
    " from open_executions o where execution_id = any(%s::uuid[])"
)
_ANY = f"select e.*, false from ({_ENDED}) e union all select o.*, true from ({_OPEN}) o"
_HISTORY = (
    "select h.execution_id, h.sequence, h.last_sequence, h.at, h.events, h.events_version"
    " from unnest(%s::uuid[], %s::bigint[]) as w (id, after) cross join lateral"
    " (select * from execution_history x where x.execution_id = w.id and x.sequence > w.after"
    " order by x.sequence limit %s) h order by h.execution_id, h.sequence"
)
_LINE = (
    "execution_id, node, node_id, node_name, node_type, attempt, number, level, message, at, data, iteration,"
    " execution_step, sequence"
)
_LOGS = (
    "select l.* from unnest(%s::uuid[], %s::bigint[]) as w (id, after) cross join lateral"
    f" (select {_LINE} from execution_logs x where x.execution_id = w.id and x.sequence > w.after"
    " order by x.sequence limit %s) l order by l.execution_id, l.sequence"
)


class WatchStore:
    """Reads for many executions at once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._executions = ExecutionStore(pool)

    async def ended(self, execution_ids: Sequence[bytes]) -> list[ExecutionRecord]:
        """Those of the executions that have ended, with their payloads, in any order."""
        return [_record(row) for row in await self._pool.fetch(_ENDED, (uuids(execution_ids),))]

    async def records(self, execution_ids: Sequence[bytes]) -> list[ExecutionRecord]:
        """Executions, open or ended, with their payloads, in any order; one snapshot of the database."""
        ids = uuids(execution_ids)
        return [_record(row[:-1], row[-1]) for row in await self._pool.fetch(_ANY, (ids, ids))]

    async def history_after(
        self, wanted: Sequence[tuple[bytes, int]], rows_max: int = HISTORY_ROWS_MAX
    ) -> list[HistoryRow]:
        """Rows that begin after the sequence given for each execution, at most `rows_max` of each, in order."""
        parameters = (uuids(i for i, _ in wanted), bigints(after for _, after in wanted), Bigint(rows_max))
        return [HistoryRow(*row) for row in await self._pool.fetch(_HISTORY, parameters)]

    async def rows_with(self, wanted: Sequence[tuple[bytes, int]]) -> list[HistoryRow]:
        """For each (execution, sequence of an event) the row that holds it, as `ExecutionStore.rows_with`."""
        return await self._executions.rows_with(wanted)

    async def versions(self, version_ids: Sequence[bytes]) -> list[VersionRow]:
        """Versions that executions are pinned to, by id."""
        return await self._executions.versions(version_ids)

    async def logs_after(
        self, wanted: Sequence[tuple[bytes, int]], lines_max: int = LOG_LINES_MAX
    ) -> list[LogRow]:
        """Log lines after the sequence given for each execution, at most `lines_max` of each, in order."""
        parameters = (uuids(i for i, _ in wanted), bigints(after for _, after in wanted), Bigint(lines_max))
        return [LogRow(*row) for row in await self._pool.fetch(_LOGS, parameters)]


def _record(row: Row, is_open: bool = False) -> ExecutionRecord:
    return ExecutionRecord(start_of(row), is_open, *row[START_WIDTH:])
