"""Log lines: numbered densely per execution by one statement that skips what is there already.

Outside the group commit, so that a chatty node slows no transition. A runner sends lines until they are
confirmed; (execution, node, iteration, attempt, number) makes repeats harmless. Two owners, the old one not yet
aware, may insert at once: the primary key lets one of them win, the other counts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.adapters.postgres.binary import (
    Bigint,
    Smallint,
    Uuid,
    bigints,
    byteas,
    integers,
    smallints,
    texts,
    timestamps,
    uuids,
)
from services.adapters.postgres.connection import Connection, Parameters, fetch
from services.adapters.postgres.pool import Pool
from services.core.records import LogRow

ATTEMPTS_MAX = 10

_LINE = "execution_id, node, node_id, node_name, node_type, attempt, number, level, message, at, data,"
_LINE += " iteration, execution_step"
_TYPES = (
    "uuid", "integer", "text", "text", "text", "integer", "integer", "smallint", "bytea", "timestamptz",
    "bytea", "integer", "bigint",
)  # fmt: skip
_KEY = "execution_id, node, iteration, attempt, number"
_SAME = " and ".join(f"e.{name} = l.{name}" for name in _KEY.split(", "))
_INSERT = (
    f"with lines as (select l.* from unnest({', '.join(f'%s::{kind}[]' for kind in _TYPES)})"
    f" with ordinality as l ({_LINE}, position)"
    f" where not exists (select 1 from execution_logs e where {_SAME})),"
    " counted as (select x.execution_id, coalesce((select max(e.sequence) from execution_logs e"
    " where e.execution_id = x.execution_id), 0) as last from (select distinct execution_id from lines) x)"
    f" insert into execution_logs ({_LINE}, sequence) select {', '.join('l.' + n for n in _LINE.split(', '))},"
    " c.last + row_number() over (partition by l.execution_id order by l.position)"
    " from lines l join counted c using (execution_id) on conflict do nothing"
    f" returning {_KEY}, sequence"
)
_COUNT = (
    "select count(*) from unnest(%s::uuid[], %s::integer[], %s::integer[], %s::integer[], %s::integer[])"
    f" as l ({_KEY}) join execution_logs e on {_SAME}"
)
_READ = (
    f"select {_LINE}, sequence from execution_logs l where execution_id = %(execution_id)s"
    " and sequence > %(after)s and level >= %(level)s"
    " and (%(node_id)s::text is null or node_id = %(node_id)s) and (%(attempt)s::int = 0 or attempt = %(attempt)s)"
    " and (exists (select 1 from open_executions o where o.execution_id = l.execution_id"
    " and o.organization_id = %(organization_id)s) or exists (select 1 from executions f"
    " where f.execution_id = l.execution_id and f.organization_id = %(organization_id)s))"
    " order by sequence limit %(limit)s"
)
Key = tuple[bytes, int, int, int, int]


class LogStore:
    """Writes lines for the owner, reads them for clients."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def append(self, lines: Sequence[LogRow]) -> list[LogRow]:
        """Store lines, in the order given within an execution; returns the new ones with their sequence.

        When it returns all the lines are stored, also those that were there. Raises DataRefusedError.
        """
        unique = {_key(line): line for line in lines}
        if not unique:
            return []
        return await self._pool.run(lambda connection: _append(connection, unique))

    async def read(
        self,
        organization_id: str,
        execution_id: bytes,
        *,
        after: int = 0,
        limit: int = 100,
        level: int = 0,
        node_id: str | None = None,
        attempt: int = 0,
    ) -> list[LogRow]:
        """Lines after a sequence, of this level and above, of one node or attempt if asked; in order."""
        parameters = {
            "organization_id": organization_id,
            "execution_id": Uuid(execution_id),
            "after": Bigint(after),
            "limit": Bigint(limit),
            "level": Smallint(level),
            "node_id": node_id,
            "attempt": attempt,
        }
        return [LogRow(*row) for row in await self._pool.fetch(_READ, parameters)]


def _key(line: LogRow) -> Key:
    return line.execution_id, line.node, line.iteration, line.attempt, line.number


async def _append(connection: Connection, lines: dict[Key, LogRow]) -> list[LogRow]:
    stored: dict[Key, LogRow] = {}
    ordered = sorted(lines.values(), key=lambda line: line.execution_id)  # stable: keeps the order of lines
    for _ in range(ATTEMPTS_MAX):
        for row in await fetch(connection, _INSERT, _parameters(ordered), prepare=True):
            key: Key = row[:5]
            stored[key] = replace(lines[key], sequence=row[5])
        if len(stored) == len(lines):
            break
        keys = [key for key in lines if key not in stored]
        ((there,),) = await fetch(connection, _COUNT, _key_parameters(keys))
        if there == len(keys):
            break
        # Another owner took our numbers between the count and the insert: count again.
    else:
        raise RuntimeError("log lines lost every race for their numbers")
    return sorted(stored.values(), key=lambda line: (line.execution_id, line.sequence))


def _parameters(lines: Sequence[LogRow]) -> Parameters:
    return (
        uuids(line.execution_id for line in lines),
        integers(line.node for line in lines),
        texts(line.node_id for line in lines),
        texts(line.node_name for line in lines),
        texts(line.node_type for line in lines),
        integers(line.attempt for line in lines),
        integers(line.number for line in lines),
        smallints(line.level for line in lines),
        byteas(line.message for line in lines),
        timestamps(line.at for line in lines),
        byteas(line.data for line in lines),
        integers(line.iteration for line in lines),
        bigints(line.execution_step for line in lines),
    )


def _key_parameters(keys: Sequence[Key]) -> Parameters:
    return (
        uuids(key[0] for key in keys),
        integers(key[1] for key in keys),
        integers(key[2] for key in keys),
        integers(key[3] for key in keys),
        integers(key[4] for key in keys),
    )
