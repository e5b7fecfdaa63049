"""Roll-ups of the monitor, counted exactly once: they and the cursors move in one transaction.

Any number of monitors may run: a lock lets one at a time apply, and who comes with a cursor that has moved
meanwhile applies nothing. Sketches are merged by the caller's function, since SQL cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from services.adapters.postgres.binary import (
    Bigint,
    Timestamp,
    Uuid,
    bigints,
    byteas,
    texts,
    timestamps,
    uuids,
)
from services.adapters.postgres.connection import Connection, fetch
from services.adapters.postgres.pool import Pool
from services.core.records import CommitRow
from services.core.rollups import CursorMove, ExecutionRollup, NodeRollup

# Bytes of digests that one read returns at most, but for a single commit: bounds the reader's memory.
DIGEST_BYTES_MAX = 8 * 1024 * 1024
Merge = Callable[[bytes, bytes], bytes]

# Of every session: what follows the cursor, or what is left of it when there is no cursor yet. Oldest first,
# so that one busy session does not hold up the others.
_NEXT = (
    "select c.session, c.number, c.kind, c.at, c.digest, coalesce(u.number, -1) from sessions s"
    " left join cursors u on u.reader = %s and u.session = s.id cross join lateral"
    " (select * from commits x where x.session = s.id and x.number > coalesce(u.number, 0)"
    " order by x.number limit %s) c order by c.at, c.session, c.number"
)
_LOCK = "select pg_advisory_xact_lock(hashtextextended(%s, 1))"
_CURSORS = "select session, number from cursors where reader = %s"
_MOVE = (
    "insert into cursors (reader, session, number) select %s, s, n"
    " from unnest(%s::bigint[], %s::bigint[]) as m (s, n)"
    " on conflict (reader, session) do update set number = excluded.number"
)
_EXECUTION_KEY = "organization_id, minute, workflow_id, mode, status"
_EXECUTION_VALUES = "count, duration_sum_us, duration_max_us, retries, sketch"
_NODE_KEY = "organization_id, minute, workflow_id, node_id"
_NODE_VALUES = (
    "node_type, succeeded, failed, timed_out, retried, lost, duration_sum_us, duration_max_us, cpu_us,"
    " memory_max_bytes, sketch"
)


def _sketches(table: str, key: str, kinds: str) -> str:
    arrays = ", ".join(f"%s::{kind}[]" for kind in kinds.split(", "))
    same = " and ".join(f"t.{name} = k.{name}" for name in key.split(", "))
    columns = ", ".join(f"t.{name}" for name in key.split(", "))
    return f"select {columns}, t.sketch from unnest({arrays}) as k ({key}) join {table} t on {same}"


def _upsert(table: str, key: str, values: str, kinds: str) -> str:
    arrays = ", ".join(f"%s::{kind}[]" for kind in kinds.split(", "))
    changes = []
    for name in values.split(", "):
        if name in {"sketch", "node_type"}:
            changes.append(f"{name} = excluded.{name}")
        elif "_max_" in name:
            changes.append(f"{name} = greatest(t.{name}, excluded.{name})")
        else:
            changes.append(f"{name} = t.{name} + excluded.{name}")
    return (
        f"insert into {table} as t ({key}, {values}) select * from unnest({arrays})"
        f" on conflict ({key}) do update set {', '.join(changes)}"
    )


_EXECUTION_KEY_KINDS = "text, timestamptz, uuid, text, text"
_NODE_KEY_KINDS = "text, timestamptz, uuid, text"
_EXECUTION_SKETCHES = _sketches("rollup_executions", _EXECUTION_KEY, _EXECUTION_KEY_KINDS)
_EXECUTION_UPSERT = _upsert(
    "rollup_executions", _EXECUTION_KEY, _EXECUTION_VALUES, f"{_EXECUTION_KEY_KINDS}{', bigint' * 4}, bytea"
)
_NODE_SKETCHES = _sketches("rollup_nodes", _NODE_KEY, _NODE_KEY_KINDS)
_NODE_UPSERT = _upsert(
    "rollup_nodes", _NODE_KEY, _NODE_VALUES, f"{_NODE_KEY_KINDS}, text{', bigint' * 9}, bytea"
)
_RANGE = (
    " where organization_id = %(organization_id)s and minute >= %(since)s and minute < %(until)s"
    " and (%(workflow_id)s::uuid is null or workflow_id = %(workflow_id)s) order by minute"
)
_EXECUTIONS = f"select {_EXECUTION_KEY}, {_EXECUTION_VALUES} from rollup_executions{_RANGE}"
_NODES = f"select {_NODE_KEY}, {_NODE_VALUES} from rollup_nodes{_RANGE}"


class RollupStore:
    """Reads commits for one named reader, applies what it made of them, and reads roll-ups."""

    def __init__(self, pool: Pool, reader: str) -> None:
        self._pool = pool
        self._reader = reader

    async def next_commits(self, limit: int) -> tuple[list[CommitRow], list[CursorMove]]:
        """Commits after this reader's cursors, at most `limit` of a session, and the moves that reading them is.

        Within a session numbers are without holes; a void or closing row has an empty digest.
        """
        rows: list[CommitRow] = []
        moves: dict[int, CursorMove] = {}
        size = 0
        for *values, cursor in await self._pool.fetch(_NEXT, (self._reader, Bigint(limit))):
            row = CommitRow(*values)
            move = moves.get(row.session) or CursorMove(row.session, cursor, cursor)
            # What was swept before this reader first came is not missed.
            expected = row.number if move.until < 0 else move.until + 1
            size += len(row.digest)
            if row.number != expected or (size > DIGEST_BYTES_MAX and rows):
                continue
            rows.append(row)
            moves[row.session] = CursorMove(row.session, cursor, row.number)
        return rows, list(moves.values())

    async def apply(
        self,
        moves: Sequence[CursorMove],
        executions: Sequence[ExecutionRollup],
        nodes: Sequence[NodeRollup],
        merge: Merge,
    ) -> bool:
        """Add roll-ups and move the cursors, both or neither. False: another monitor was here; read again.

        Each key at most once in a call. `merge(stored, new)` makes one sketch of two; keep it quick.
        """

        async def work(connection: Connection) -> bool:
            await fetch(connection, _LOCK, (self._reader,))
            cursors = {s: n for s, n in await fetch(connection, _CURSORS, (self._reader,))}  # noqa: C416
            if any(cursors.get(move.session, -1) != move.after for move in moves):
                return False
            if executions:
                await _add_executions(connection, executions, merge)
            if nodes:
                await _add_nodes(connection, nodes, merge)
            ordered = sorted(moves, key=lambda move: move.session)
            parameters = (
                self._reader,
                bigints(m.session for m in ordered),
                bigints(m.until for m in ordered),
            )
            await fetch(connection, _MOVE, parameters)
            return True

        return await self._pool.transact(work)

    async def executions(
        self, organization_id: str, since: int, until: int, workflow_id: bytes | None = None
    ) -> list[ExecutionRollup]:
        """Roll-ups of minutes from `since` to before `until`, of one workflow if given, by minute."""
        rows = await self._pool.fetch(_EXECUTIONS, _range(organization_id, since, until, workflow_id))
        return [ExecutionRollup(*row) for row in rows]

    async def nodes(
        self, organization_id: str, since: int, until: int, workflow_id: bytes | None = None
    ) -> list[NodeRollup]:
        """Roll-ups of nodes, likewise."""
        rows = await self._pool.fetch(_NODES, _range(organization_id, since, until, workflow_id))
        return [NodeRollup(*row) for row in rows]


def _range(organization_id: str, since: int, until: int, workflow_id: bytes | None) -> Mapping[str, object]:
    return {
        "organization_id": organization_id,
        "since": Timestamp(since),
        "until": Timestamp(until),
        "workflow_id": None if workflow_id is None else Uuid(workflow_id),
    }


async def _add_executions(connection: Connection, rows: Sequence[ExecutionRollup], merge: Merge) -> None:
    rows = sorted(rows, key=lambda r: (r.organization_id, r.minute, r.workflow_id, r.mode, r.status))
    key = (
        texts(r.organization_id for r in rows),
        timestamps(r.minute for r in rows),
        uuids(r.workflow_id for r in rows),
        texts(r.mode for r in rows),
        texts(r.status for r in rows),
    )
    stored = {row[:-1]: row[-1] for row in await fetch(connection, _EXECUTION_SKETCHES, key)}
    keys = [(r.organization_id, r.minute, r.workflow_id, r.mode, r.status) for r in rows]
    values = (
        bigints(r.count for r in rows),
        bigints(r.duration_sum_us for r in rows),
        bigints(r.duration_max_us for r in rows),
        bigints(r.retries for r in rows),
        byteas(_merged(stored.get(k), r.sketch, merge) for k, r in zip(keys, rows, strict=True)),
    )
    await fetch(connection, _EXECUTION_UPSERT, key + values)


async def _add_nodes(connection: Connection, rows: Sequence[NodeRollup], merge: Merge) -> None:
    rows = sorted(rows, key=lambda r: (r.organization_id, r.minute, r.workflow_id, r.node_id))
    key = (
        texts(r.organization_id for r in rows),
        timestamps(r.minute for r in rows),
        uuids(r.workflow_id for r in rows),
        texts(r.node_id for r in rows),
    )
    stored = {row[:-1]: row[-1] for row in await fetch(connection, _NODE_SKETCHES, key)}
    keys = [(r.organization_id, r.minute, r.workflow_id, r.node_id) for r in rows]
    values = (
        texts(r.node_type for r in rows),
        bigints(r.succeeded for r in rows),
        bigints(r.failed for r in rows),
        bigints(r.timed_out for r in rows),
        bigints(r.retried for r in rows),
        bigints(r.lost for r in rows),
        bigints(r.duration_sum_us for r in rows),
        bigints(r.duration_max_us for r in rows),
        bigints(r.cpu_us for r in rows),
        bigints(r.memory_max_bytes for r in rows),
        byteas(_merged(stored.get(k), r.sketch, merge) for k, r in zip(keys, rows, strict=True)),
    )
    await fetch(connection, _NODE_UPSERT, key + values)


def _merged(stored: bytes | None, new: bytes, merge: Merge) -> bytes:
    return new if stored is None else merge(stored, new)
