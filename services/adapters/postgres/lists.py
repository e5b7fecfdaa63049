"""Executions as clients see them: lists over open and finished ones, and single records. One organization only.

A list is one statement, hence one snapshot: an execution that ends meanwhile is neither missing nor there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy import null as null_value
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.expression import FromClause, cast

from services.adapters.postgres import binary
from services.adapters.postgres.connection import Row
from services.adapters.postgres.pool import Pool
from services.adapters.postgres.start_columns import START_COLUMNS, START_WIDTH, start_of
from services.adapters.postgres.tables import (
    JSONB,
    TIMESTAMP,
    UUID,
    RawType,
    execution_history,
    executions,
    open_executions,
)
from services.core.records import ExecutionFilter, ExecutionRecord, Position
from services.core.units import DAY, MILLISECOND

_DIALECT = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]
# Ids are made within moments of `created_at`; the bounds on ids only choose partitions, so they may be wide.
_ID_SLACK_US = DAY
_RESULT_COLUMNS = (
    "status", "status_reason", "output", "error", "started_at", "completed_at", "nodes_executed",
    "nodes_failed", "metrics", "sequence", "snapshot",
)  # fmt: skip
_PAYLOADS = frozenset({"input", "options", "output", "error", "metrics", "snapshot"})
PENDING, RUNNING = "pending", "running"
QUARANTINED = "QUARANTINED"


class ExecutionLists:
    """Reads executions for clients. `now` is database time: with it the months to come are not looked at."""

    def __init__(self, pool: Pool, now: Callable[[], int] | None = None) -> None:
        self._pool = pool
        self._now = now

    async def list(
        self,
        organization_id: str,
        wanted: ExecutionFilter,
        *,
        limit: int,
        after: Position | None = None,
        oldest_first: bool = False,
        payloads: bool = False,
    ) -> Sequence[ExecutionRecord]:
        """Executions by (created_at, id), newest first unless asked otherwise, after a position."""
        if wanted.created_before is None and self._now is not None:
            wanted = replace(wanted, created_before=self._now() + _ID_SLACK_US)
        statement = list_statement(organization_id, wanted, limit, after, oldest_first, payloads)
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        rows = await self._pool.fetch(str(compiled), compiled.params)
        return [_record(row) for row in rows]

    async def get(self, organization_id: str, execution_id: bytes) -> ExecutionRecord | None:
        """One execution with its payloads; None when there is none in the organization."""
        found = await self.get_many(organization_id, [execution_id])
        return found[0] if found else None

    async def get_many(
        self, organization_id: str, execution_ids: Sequence[bytes]
    ) -> Sequence[ExecutionRecord]:
        """Executions of the organization by id, with their payloads, in any order."""
        ids = literal(binary.uuids(execution_ids), RawType("uuid[]"))
        parts = [
            _columns(table, True).where(
                table.c.organization_id == organization_id, table.c.execution_id == func.any(ids)
            )
            for table in (open_executions, executions)
        ]
        compiled = union_all(*parts).compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        return [_record(row) for row in await self._pool.fetch(str(compiled), compiled.params)]


def list_statement(
    organization_id: str,
    wanted: ExecutionFilter,
    limit: int,
    after: Position | None,
    oldest_first: bool,
    payloads: bool,
) -> Select[Any]:
    """The list as one select over both tables, each cut to `limit` before they are merged."""
    parts = []
    for table in (open_executions, executions):
        part = _columns(table, payloads).where(
            table.c.organization_id == organization_id, *_conditions(table, wanted, after, oldest_first)
        )
        parts.append(select(_ordered(part, table.c, oldest_first).limit(limit).subquery()))
    merged = union_all(*parts).subquery()
    return _ordered(select(merged), merged.c, oldest_first).limit(limit)


def _ordered(statement: Select[Any], columns: Any, oldest_first: bool) -> Select[Any]:
    keys = (columns.created_at, columns.execution_id)
    return statement.order_by(*keys) if oldest_first else statement.order_by(*(key.desc() for key in keys))


def _has_history(table: FromClause) -> ColumnElement[bool]:
    return exists().where(execution_history.c.execution_id == table.c.execution_id)


def _columns(table: FromClause, payloads: bool) -> Select[Any]:
    def column(name: str) -> ColumnElement[Any]:
        if name in _PAYLOADS and not payloads:
            return cast(null_value(), executions.c[name].type).label(name)
        return table.c[name]

    chosen = [column(name) for name in ("execution_id", *START_COLUMNS)]
    if table is executions:
        chosen += [column(name) for name in _RESULT_COLUMNS]
        return select(*chosen, literal(False).label("open"))
    status = case((_has_history(table), literal(RUNNING)), else_=literal(PENDING))
    reason = case((table.c.quarantine.is_not(None), literal(QUARANTINED)), else_=literal(""))
    known: dict[str, ColumnElement[Any]] = {
        "status": status.label("status"),
        "status_reason": reason.label("status_reason"),
        "sequence": table.c.sequence,
        "snapshot": column("snapshot"),
        "nodes_executed": literal(0).label("nodes_executed"),
        "nodes_failed": literal(0).label("nodes_failed"),
    }
    chosen += [
        known[name] if name in known else cast(null_value(), executions.c[name].type).label(name)
        for name in _RESULT_COLUMNS
    ]
    return select(*chosen, literal(True).label("open"))


def _conditions(
    table: FromClause, wanted: ExecutionFilter, after: Position | None, oldest_first: bool
) -> list[ColumnElement[bool]]:
    columns = table.c
    conditions: list[ColumnElement[bool]] = []
    for name, value in (
        ("workflow_id", wanted.workflow_id),
        ("retry_of_execution_id", wanted.retry_of),
        ("parent_execution_id", wanted.parent),
        ("root_execution_id", wanted.root),
    ):
        if value is not None:
            conditions.append(columns[name] == literal(binary.Uuid(value), UUID))
    if wanted.user_id is not None:
        conditions.append(columns.user_id == wanted.user_id)
    if wanted.modes:
        conditions.append(columns.mode.in_(sorted(wanted.modes)))
    if wanted.statuses:
        conditions.append(_status(table, wanted.statuses))
    if wanted.labels:
        labels = literal(binary.Jsonb(dict(wanted.labels)), JSONB)
        conditions.append(columns.labels.op("@>", is_comparison=True)(labels))
        conditions.append(columns.labels.op("<>", is_comparison=True)(literal(binary.Jsonb({}), JSONB)))
    if after is not None:
        key = tuple_(columns.created_at, columns.execution_id)
        last = tuple_(_at(after[0]), literal(binary.Uuid(after[1]), UUID))
        conditions.append(key > last if oldest_first else key < last)
    return conditions + _created(table, wanted, after, oldest_first)


def _status(table: FromClause, statuses: frozenset[str]) -> ColumnElement[bool]:
    if table is executions:
        chosen: ColumnElement[bool] = executions.c.status.in_(sorted(statuses))
        return chosen
    started = _has_history(table)
    choices = [started] if RUNNING in statuses else []
    if PENDING in statuses:
        choices.append(~started)
    return or_(*choices) if choices else false()


def _created(
    table: FromClause, wanted: ExecutionFilter, after: Position | None, oldest_first: bool
) -> list[ColumnElement[bool]]:
    """Bounds on `created_at`, and wider ones on the id so that other months' partitions are left alone."""
    low, high = wanted.created_after, wanted.created_before
    conditions: list[ColumnElement[bool]] = []
    if low is not None:
        conditions.append(table.c.created_at >= _at(low))
    if high is not None:
        conditions.append(table.c.created_at < _at(high))
    if after is not None and oldest_first:
        low = after[0] if low is None else max(low, after[0])
    elif after is not None:
        high = after[0] if high is None else min(high, after[0])
    if low is not None and low > _ID_SLACK_US:
        conditions.append(table.c.execution_id >= literal(binary.Uuid(_id_bound(low - _ID_SLACK_US)), UUID))
    if high is not None:
        conditions.append(table.c.execution_id < literal(binary.Uuid(_id_bound(high + _ID_SLACK_US)), UUID))
    return [and_(*conditions)] if conditions else []


def _at(at: int) -> ColumnElement[Any]:
    return literal(binary.Timestamp(at), TIMESTAMP)


def _id_bound(at: int) -> bytes:
    return (at // MILLISECOND << 80).to_bytes(16, "big")


def _record(row: Row) -> ExecutionRecord:
    result = dict(zip(_RESULT_COLUMNS, row[START_WIDTH:-1], strict=True))
    return ExecutionRecord(start_of(row), open=row[-1], **result)
