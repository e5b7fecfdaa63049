"""The inbox as api uses it: commands are recorded once per request id, verdicts are read."""

from __future__ import annotations

from collections.abc import Sequence

from services.adapters.postgres.binary import Uuid, byteas, smallints, texts, timestamps, uuids
from services.adapters.postgres.connection import Connection, fetch
from services.adapters.postgres.executions import COMMAND_COLUMNS, command_of
from services.adapters.postgres.group_insert import GroupInsert
from services.adapters.postgres.pool import Pool
from services.core.ids import shard_of
from services.core.records import CommandRow, NewCommand

APPLICATION_NAME = "wc-commands"

_COLUMNS = "id, execution_id, shard, organization_id, request_id, kind, body, requested_by, created_at"
_INSERT = (
    "with batch as (insert into insert_batches (id, kind) values (%s, 0))"
    f" insert into commands ({_COLUMNS}) select * from unnest(%s::uuid[], %s::uuid[], %s::smallint[],"
    " %s::text[], %s::text[], %s::text[], %s::bytea[], %s::text[], %s::timestamptz[])"
    " on conflict (organization_id, request_id) do nothing returning id"
)
_LOOK_UP = (
    f"select {COMMAND_COLUMNS}, w.position"
    " from unnest(%s::text[], %s::text[]) with ordinality as w (organization_id, request_id, position)"
    " join commands c on c.organization_id = w.organization_id and c.request_id = w.request_id"
)
_DECIDED = f"select {COMMAND_COLUMNS} from commands c where c.id = any(%s::uuid[]) and c.verdict is not null"


class CommandWriter(GroupInsert[NewCommand, CommandRow]):
    """`put(NewCommand) -> CommandRow`: recorded when it returns.

    The row is the first with this request id: when its `command_id` is another's, compare what was asked, and
    take its verdict if there is one.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, APPLICATION_NAME)

    def order(self, item: NewCommand) -> tuple[str, str]:
        """By the unique key."""
        return item.organization_id, item.request_id

    async def write(
        self, connection: Connection, batch: Uuid, items: Sequence[NewCommand]
    ) -> list[CommandRow | Exception | None]:
        """Insert those whose request id is new."""
        parameters = (
            batch,
            uuids(item.command_id for item in items),
            uuids(item.execution_id for item in items),
            smallints(shard_of(item.execution_id) for item in items),
            texts(item.organization_id for item in items),
            texts(item.request_id for item in items),
            texts(item.kind for item in items),
            byteas(item.body for item in items),
            texts(item.requested_by for item in items),
            timestamps(item.created_at for item in items),
        )
        inserted = {row[0] for row in await fetch(connection, _INSERT, parameters, prepare=True)}
        return [CommandRow(item) if item.command_id in inserted else None for item in items]

    async def look_up(self, connection: Connection, items: Sequence[NewCommand]) -> list[CommandRow | None]:
        """The rows that hold the request ids."""
        parameters = (texts(item.organization_id for item in items), texts(item.request_id for item in items))
        results: list[CommandRow | None] = [None] * len(items)
        for row in await fetch(connection, _LOOK_UP, parameters):
            results[row[-1] - 1] = command_of(row[:-1])
        return results


class CommandStore:
    """Reads of recorded commands."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def decided(self, command_ids: Sequence[bytes]) -> list[CommandRow]:
        """Those of the commands that have a verdict: one query for all that api waits for."""
        return [command_of(row) for row in await self._pool.fetch(_DECIDED, (uuids(command_ids),))]
