"""The fenced commit as one SQL statement: its text, by the parts a batch has, and its parameters.

One statement, because a process may freeze at any moment and must not hold a lock then; its first part is the
row of `commits` that fences. Arrays are in key order, since unsorted ones deadlock with other sessions'.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from services.adapters.postgres import binary as b
from services.adapters.postgres.start_columns import START_COLUMNS, insert_starts, start_parameters
from services.core.ids import shard_of
from services.core.ports import CommitBatch

Parameters = dict[str, Any]

_START = ", ".join(START_COLUMNS)
_END = (
    "status, status_reason, output, error, started_at, completed_at, nodes_executed, nodes_failed, metrics,"
    " sequence, snapshot"
)
_COMMANDS = "id, execution_id, shard, organization_id, request_id, kind, body, requested_by, created_at"

# Each part is one or more CTEs; `fence` always comes first.
_FENCE = (
    "fence as (insert into commits (session, number, kind, at, digest)"
    " values (%(session)s, %(number)s, 0, clock_timestamp(), %(digest)s) returning at)"
)
_PARTS = {
    "history": (
        "history as (insert into execution_history"
        " (execution_id, sequence, last_sequence, at, session, number, events_version, events)"
        " select i, s, l, a, %(session)s, %(number)s, %(events_version)s, e from unnest("
        "%(history_ids)s::uuid[], %(history_sequences)s::bigint[], %(history_lasts)s::bigint[],"
        " %(history_ats)s::timestamptz[], %(history_events)s::bytea[]) as h (i, s, l, a, e))"
    ),
    "ends": (
        "gone as (delete from open_executions o using unnest("
        "%(end_ids)s::uuid[], %(end_statuses)s::text[], %(end_reasons)s::text[], %(end_outputs)s::bytea[],"
        " %(end_errors)s::bytea[], %(end_started)s::timestamptz[], %(end_completed)s::timestamptz[],"
        " %(end_executed)s::integer[], %(end_failed)s::integer[], %(end_metrics)s::bytea[],"
        " %(end_sequences)s::bigint[], %(end_snapshots)s::bytea[])"
        " as e (i, st, sr, ou, er, sa, ca, ne, nf, me, se, sn) where o.execution_id = e.i"
        f" returning o.execution_id, {', '.join('o.' + name for name in START_COLUMNS)},"
        " e.st, e.sr, e.ou, e.er, e.sa, e.ca, e.ne, e.nf, e.me, e.se, e.sn),"
        f" ends as (insert into executions (execution_id, {_START}, {_END}) select * from gone)"
    ),
    "snapshots": (
        "snapshots as (update open_executions o set snapshot = n.sn, sequence = n.se, asleep = n.sl,"
        " wake_at = n.wa from unnest(%(snapshot_ids)s::uuid[], %(snapshot_sequences)s::bigint[],"
        " %(snapshot_datas)s::bytea[], %(snapshot_wakes)s::timestamptz[], %(snapshot_asleep)s::boolean[])"
        " as n (i, se, sn, wa, sl) where o.execution_id = n.i)"
    ),
    "wakes": (
        "wakes as (update open_executions set asleep = false, wake_at = null"
        " where execution_id = any(%(wakes)s::uuid[]))"
    ),
    "quarantines": (
        "quarantines as (update open_executions o set quarantine = q.why, asleep = q.why is not null,"
        " wake_at = null from unnest(%(quarantine_ids)s::uuid[], %(quarantine_whys)s::bytea[]) as q (i, why)"
        " where o.execution_id = q.i)"
    ),
    "verdicts": (
        "verdicts as (update commands c set verdict = v.v, verdict_body = v.b, decided_at = clock_timestamp()"
        " from unnest(%(verdict_ids)s::uuid[], %(verdicts)s::text[], %(verdict_bodies)s::bytea[])"
        " as v (i, v, b) where c.id = v.i and c.verdict is null)"
    ),
    "commands": (
        f"inbox as (insert into commands ({_COMMANDS}) select {_COMMANDS} from unnest("
        "%(command_ids)s::uuid[], %(command_executions)s::uuid[], %(command_shards)s::smallint[],"
        " %(command_organizations)s::text[], %(command_requests)s::text[], %(command_kinds)s::text[],"
        " %(command_bodies)s::bytea[], %(command_users)s::text[], %(command_created)s::timestamptz[])"
        f" as c ({_COMMANDS}) on conflict (organization_id, request_id) do nothing)"
    ),
    "starts": f"starts as ({insert_starts()})",
    # Who hands over names a living session that knows every version of events in the shard.
    "hand_overs": (
        "handed as (update shards s set session = t.id"
        " from unnest(%(hand_shards)s::smallint[], %(hand_sessions)s::bigint[]) as h (shard, session)"
        " join sessions t on t.id = h.session and not t.closed"
        " where s.shard = h.shard and s.session = %(session)s and t.events_version >= s.events_version"
        " returning s.shard)"
    ),
    "take_overs": (
        "taken as (update shards s set session = %(session)s, events_version = %(events_version)s"
        " from unnest(%(take_shards)s::smallint[]) as t (shard) where s.shard = t.shard"
        " and s.events_version <= %(events_version)s and not exists"
        " (select 1 from sessions x where x.id = s.session and not x.closed) returning s.shard)"
    ),
}


@lru_cache(maxsize=1024)
def statement(parts: tuple[str, ...]) -> str:
    """Text of the commit with these parts; one row: at, shards taken, shards handed over."""
    ctes = ", ".join([_FENCE] + [_PARTS[part] for part in parts])
    taken = "(select array_agg(shard) from taken)" if "take_overs" in parts else "null::smallint[]"
    handed = "(select array_agg(shard) from handed)" if "hand_overs" in parts else "null::smallint[]"
    return f"with {ctes} select at, {taken}, {handed} from fence"


def prepare(batch: CommitBatch) -> tuple[str, Parameters]:
    """Statement and parameters of a batch; parts that are empty are left out."""
    parameters: Parameters = {
        "session": b.Bigint(batch.session),
        "number": b.Bigint(batch.number),
        "digest": batch.digest,
    }
    if batch.history or batch.take_overs:
        parameters["events_version"] = b.Smallint(batch.events_version)
    parts = []
    for part, pack in _PACKERS.items():
        if getattr(batch, part):
            parts.append(part)
            parameters.update(pack(batch))
    return statement(tuple(parts)), parameters


def _history(batch: CommitBatch) -> Parameters:
    rows = sorted(batch.history, key=lambda row: (row.execution_id, row.sequence))
    return {
        "history_ids": b.uuids(row.execution_id for row in rows),
        "history_sequences": b.bigints(row.sequence for row in rows),
        "history_lasts": b.bigints(row.last_sequence for row in rows),
        "history_ats": b.timestamps(row.at for row in rows),
        "history_events": b.byteas(row.events for row in rows),
    }


def _ends(batch: CommitBatch) -> Parameters:
    rows = sorted(batch.ends, key=lambda row: row.execution_id)
    return {
        "end_ids": b.uuids(row.execution_id for row in rows),
        "end_statuses": b.texts(row.status for row in rows),
        "end_reasons": b.texts(row.status_reason for row in rows),
        "end_outputs": b.byteas(row.output for row in rows),
        "end_errors": b.byteas(row.error for row in rows),
        "end_started": b.timestamps(row.started_at for row in rows),
        "end_completed": b.timestamps(row.completed_at for row in rows),
        "end_executed": b.integers(row.nodes_executed for row in rows),
        "end_failed": b.integers(row.nodes_failed for row in rows),
        "end_metrics": b.byteas(row.metrics for row in rows),
        "end_sequences": b.bigints(row.sequence for row in rows),
        "end_snapshots": b.byteas(row.snapshot for row in rows),
    }


def _snapshots(batch: CommitBatch) -> Parameters:
    rows = sorted(batch.snapshots, key=lambda row: row.execution_id)
    return {
        "snapshot_ids": b.uuids(row.execution_id for row in rows),
        "snapshot_sequences": b.bigints(row.sequence for row in rows),
        "snapshot_datas": b.byteas(row.snapshot for row in rows),
        "snapshot_wakes": b.timestamps(row.wake_at for row in rows),
        "snapshot_asleep": b.booleans(row.asleep for row in rows),
    }


def _wakes(batch: CommitBatch) -> Parameters:
    return {"wakes": b.uuids(sorted(batch.wakes))}


def _quarantines(batch: CommitBatch) -> Parameters:
    rows = sorted(batch.quarantines, key=lambda row: row[0])
    return {
        "quarantine_ids": b.uuids(row[0] for row in rows),
        "quarantine_whys": b.byteas(row[1] for row in rows),
    }


def _verdicts(batch: CommitBatch) -> Parameters:
    rows = sorted(batch.verdicts, key=lambda row: row.command_id)
    return {
        "verdict_ids": b.uuids(row.command_id for row in rows),
        "verdicts": b.texts(row.verdict for row in rows),
        "verdict_bodies": b.byteas(row.body for row in rows),
    }


def _commands(batch: CommitBatch) -> Parameters:
    rows = sorted(batch.commands, key=lambda row: (row.organization_id, row.request_id))
    return {
        "command_ids": b.uuids(row.command_id for row in rows),
        "command_executions": b.uuids(row.execution_id for row in rows),
        "command_shards": b.smallints(shard_of(row.execution_id) for row in rows),
        "command_organizations": b.texts(row.organization_id for row in rows),
        "command_requests": b.texts(row.request_id for row in rows),
        "command_kinds": b.texts(row.kind for row in rows),
        "command_bodies": b.byteas(row.body for row in rows),
        "command_users": b.texts(row.requested_by for row in rows),
        "command_created": b.timestamps(row.created_at for row in rows),
    }


def _starts(batch: CommitBatch) -> Parameters:
    return start_parameters(sorted(batch.starts, key=lambda row: row.execution_id))


def _hand_overs(batch: CommitBatch) -> Parameters:
    rows = sorted(batch.hand_overs)
    return {
        "hand_shards": b.smallints(shard for shard, _ in rows),
        "hand_sessions": b.bigints(session for _, session in rows),
    }


def _take_overs(batch: CommitBatch) -> Parameters:
    return {"take_shards": b.smallints(sorted(batch.take_overs))}


# Key: name of the batch's field and of the part.
_PACKERS: dict[str, Callable[[CommitBatch], Parameters]] = {
    "history": _history,
    "ends": _ends,
    "snapshots": _snapshots,
    "wakes": _wakes,
    "quarantines": _quarantines,
    "verdicts": _verdicts,
    "commands": _commands,
    "starts": _starts,
    "hand_overs": _hand_overs,
    "take_overs": _take_overs,
}
