"""What a scheduler reads of its executions: open rows, histories, outputs, commands, versions.

For the owner of the shards only: nothing here asks for the organization, so no client's request may end here.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.adapters.postgres.binary import Bigint, Smallint, Uuid, bigints, smallints, uuids
from services.adapters.postgres.connection import Row
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.start_columns import START_WIDTH, start_list, start_of
from services.core.records import CommandRow, HistoryRow, NewCommand, OpenExecution, VersionRow

LOWEST_ID = bytes(16)

_OPEN = f"select {start_list()}, asleep, wake_at, sequence, snapshot, quarantine from open_executions"
_BY_IDS = f"{_OPEN} where execution_id = any(%s::uuid[])"
_AWAKE = (
    f"{_OPEN} where not asleep and shard = any(%s::smallint[])"
    " and (shard, execution_id) > (%s, %s) order by shard, execution_id limit %s"
)
# One index probe a shard: the planner does not skip from shard to shard by itself.
_DUE = (
    "select d.* from unnest(%s::smallint[]) as s (shard) cross join lateral"
    f" ({_OPEN} where asleep and shard = s.shard and wake_at <= clock_timestamp()"
    " order by wake_at limit %s) d"
    f" order by d.wake_at limit %s"
)
_QUARANTINED = f"{_OPEN} where asleep and shard = any(%s::smallint[]) and quarantine is not null limit %s"
_COUNTS = (
    "select count(*) filter (where not asleep), count(*) filter (where asleep),"
    " count(*) filter (where quarantine is not null) from open_executions where shard = any(%s::smallint[])"
)
_INPUTS = "select execution_id, input from open_executions where execution_id = any(%s::uuid[])"
_HISTORY_COLUMNS = "h.execution_id, h.sequence, h.last_sequence, h.at, h.events, h.events_version"
_HISTORY = (
    f"select {_HISTORY_COLUMNS} from unnest(%s::uuid[], %s::bigint[]) as w (id, after)"
    " cross join lateral (select * from execution_history x"
    " where x.execution_id = w.id and x.sequence > w.after order by x.sequence) h"
    " order by h.execution_id, h.sequence"
)
_OUTPUTS = (
    f"select {_HISTORY_COLUMNS} from unnest(%s::uuid[], %s::bigint[]) as w (id, wanted)"
    " cross join lateral (select * from execution_history x where x.execution_id = w.id"
    " and x.sequence <= w.wanted order by x.sequence desc limit 1) h"
)
COMMAND_COLUMNS = (
    "c.id, c.execution_id, c.organization_id, c.request_id, c.kind, c.body, c.created_at, c.requested_by,"
    " c.verdict, c.verdict_body, c.decided_at"
)
_COMMANDS = (
    f"select {COMMAND_COLUMNS} from commands c where verdict is null and shard = any(%s::smallint[])"
    " order by created_at, id limit %s"
)
_VERSIONS = (
    "select id, workflow_id, organization_id, version, definition, content_hash, hash_form, created_at,"
    " created_by from workflow_versions where id = any(%s::uuid[])"
)


class ExecutionStore:
    """Reads for the owner of shards."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def by_ids(self, execution_ids: Sequence[bytes]) -> list[OpenExecution]:
        """Open rows of these executions, in any order; those that are not open are left out."""
        return [_open(row) for row in await self._pool.fetch(_BY_IDS, (uuids(execution_ids),))]

    async def awake(
        self,
        shards: Sequence[int],
        limit: int,
        after: OpenExecution | None = None,
    ) -> list[OpenExecution]:
        """Open rows of the shards that are not asleep, by (shard, id): `limit` after the last one got."""
        shard, last = (after.start.execution_id[15], after.start.execution_id) if after else (-1, LOWEST_ID)
        parameters = (smallints(shards), Smallint(shard), Uuid(last), Bigint(limit))
        return [_open(row) for row in await self._pool.fetch(_AWAKE, parameters)]

    async def due(self, shards: Sequence[int], limit: int) -> list[OpenExecution]:
        """Sleepers of the shards whose `wake_at` has passed by the database's clock, earliest first."""
        parameters = (smallints(shards), Bigint(limit), Bigint(limit))
        return [_open(row) for row in await self._pool.fetch(_DUE, parameters)]

    async def quarantined(self, shards: Sequence[int], limit: int) -> list[OpenExecution]:
        """Rows of the shards that are held because the core failed on them."""
        return [
            _open(row) for row in await self._pool.fetch(_QUARANTINED, (smallints(shards), Bigint(limit)))
        ]

    async def counts(self, shards: Sequence[int]) -> tuple[int, int, int]:
        """Open executions of the shards: awake, asleep, quarantined (these also count as asleep)."""
        awake, asleep, quarantined = (await self._pool.fetch(_COUNTS, (smallints(shards),)))[0]
        return int(awake), int(asleep), int(quarantined)

    async def inputs(self, execution_ids: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Inputs (JSON) of open executions."""
        return {row[0]: row[1] for row in await self._pool.fetch(_INPUTS, (uuids(execution_ids),))}

    async def history_after(self, wanted: Sequence[tuple[bytes, int]]) -> list[HistoryRow]:
        """Rows that begin after the sequence given for each execution; by execution and sequence."""
        parameters = (uuids(i for i, _ in wanted), bigints(after for _, after in wanted))
        return [HistoryRow(*row) for row in await self._pool.fetch(_HISTORY, parameters)]

    async def rows_with(self, wanted: Sequence[tuple[bytes, int]]) -> list[HistoryRow]:
        """For each (execution, sequence of an event) the row that holds it: outputs are fetched by this.

        Event number `s` is at index `s - row.sequence` of the row. In any order; a row may come twice.
        """
        parameters = (uuids(i for i, _ in wanted), bigints(sequence for _, sequence in wanted))
        return [HistoryRow(*row) for row in await self._pool.fetch(_OUTPUTS, parameters)]

    async def unanswered_commands(self, shards: Sequence[int], limit: int) -> list[CommandRow]:
        """Commands of the shards without a verdict, oldest first. No cursor: rows commit out of order."""
        return [
            command_of(row) for row in await self._pool.fetch(_COMMANDS, (smallints(shards), Bigint(limit)))
        ]

    async def versions(self, version_ids: Sequence[bytes]) -> list[VersionRow]:
        """Versions by id, with their definitions."""
        return [VersionRow(*row) for row in await self._pool.fetch(_VERSIONS, (uuids(version_ids),))]


def _open(row: Row) -> OpenExecution:
    return OpenExecution(start_of(row), *row[START_WIDTH:])


def command_of(row: Row) -> CommandRow:
    """The command in a row of COMMAND_COLUMNS."""
    return CommandRow(NewCommand(*row[:8]), *row[8:])
