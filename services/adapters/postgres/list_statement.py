"""Text of the lists and reads of executions, built by SQLAlchemy Core once per shape and kept.

Building and compiling such a statement costs milliseconds, running it less: so values are parameters, and the
shape of a list is which of them it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    case,
    exists,
    false,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy import bindparam as bind
from sqlalchemy import null as null_value
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.expression import FromClause, cast

from services.adapters.postgres.start_columns import START_COLUMNS
from services.adapters.postgres.tables import (
    BIGINT,
    JSONB,
    TIMESTAMP,
    UUID,
    RawType,
    execution_history,
    executions,
    open_executions,
)

PENDING, RUNNING = "pending", "running"
QUARANTINED = "QUARANTINED"
# After the start columns and before `open`, in a row of either statement.
RESULT_COLUMNS = (
    "status", "status_reason", "output", "error", "started_at", "completed_at", "nodes_executed",
    "nodes_failed", "metrics", "sequence", "snapshot",
)  # fmt: skip
_PAYLOADS = frozenset({"input", "options", "output", "error", "metrics", "snapshot"})
_TEXTS, _UUIDS = RawType("text[]"), RawType("uuid[]")
_TEXT = RawType("text")
# Parameters that are compared with the column of the same name, and their types.
_EQUAL = {
    "workflow_id": UUID,
    "user_id": _TEXT,
    "retry_of_execution_id": UUID,
    "parent_execution_id": UUID,
    "root_execution_id": UUID,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Which parameters a list has, and how it is ordered.

    Parameters: those of _EQUAL; `modes`, `statuses` (arrays); `labels`; `created_after`, `created_before`;
    `low_id`, `high_id` (bounds that choose partitions); `after_at` with `after_id` (the last row shown). Beside
    `statuses`, `pending` and `running` say whether open executions without and with a history are wanted.
    Always there: `organization_id`, `limit`.
    """

    given: frozenset[str]
    oldest_first: bool
    payloads: bool


@lru_cache(maxsize=512)
def list_text(shape: Shape) -> str:
    """One select over both tables, each cut to the limit before they are merged."""
    parts = []
    for table in (open_executions, executions):
        part = _columns(table, shape.payloads).where(
            table.c.organization_id == bind("organization_id", type_=_TEXT), *_conditions(table, shape)
        )
        parts.append(select(_cut(part, table.c, shape).subquery()))
    merged = union_all(*parts).subquery()
    return _compiled(_cut(select(merged), merged.c, shape))


@lru_cache(maxsize=1)
def _compiled(statement: Any) -> str:
    dialect = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]
    return str(statement.compile(dialect=dialect))


def _cut(statement: Select[Any], columns: Any, shape: Shape) -> Select[Any]:
    keys = (columns.created_at, columns.execution_id)
    ordered = statement.order_by(*(key if shape.oldest_first else key.desc() for key in keys))
    return ordered.limit(bind("limit", type_=BIGINT))


def _has_history(table: FromClause) -> ColumnElement[bool]:
    return exists().where(execution_history.c.execution_id == table.c.execution_id)


def _columns(table: FromClause, payloads: bool) -> Select[Any]:
    def column(name: str) -> ColumnElement[Any]:
        if name in _PAYLOADS and not payloads:
            return _absent(name)
        return table.c[name]

    chosen = [column(name) for name in ("execution_id", *START_COLUMNS)]
    if table is executions:
        chosen += [column(name) for name in RESULT_COLUMNS]
        return select(*chosen, literal_column("false").label("open"))
    known: dict[str, ColumnElement[Any]] = {
        "status": case(
            (_has_history(table), literal_column(f"'{RUNNING}'")), else_=literal_column(f"'{PENDING}'")
        ),
        "status_reason": case(
            (table.c.quarantine.is_not(None), literal_column(f"'{QUARANTINED}'")), else_=literal_column("''")
        ),
        "sequence": table.c.sequence,
        "snapshot": column("snapshot"),
        "nodes_executed": literal_column("0"),
        "nodes_failed": literal_column("0"),
    }
    chosen += [known[name].label(name) if name in known else _absent(name) for name in RESULT_COLUMNS]
    return select(*chosen, literal_column("true").label("open"))


def _absent(name: str) -> ColumnElement[Any]:
    return cast(null_value(), executions.c[name].type).label(name)


def _conditions(table: FromClause, shape: Shape) -> list[ColumnElement[bool]]:
    columns, given = table.c, shape.given
    conditions: list[ColumnElement[bool]] = [
        columns[name] == bind(name, type_=kind) for name, kind in _EQUAL.items() if name in given
    ]
    if "modes" in given:
        conditions.append(columns.mode == func.any(bind("modes", type_=_TEXTS)))
    if "statuses" in given:
        conditions.append(_status(table, given))
    if "labels" in given:
        conditions.append(columns.labels.op("@>", is_comparison=True)(bind("labels", type_=JSONB)))
        # So that the index of rows with labels can be used.
        conditions.append(columns.labels.op("<>", is_comparison=True)(literal_column("'{}'")))
    if "created_after" in given:
        conditions.append(columns.created_at >= bind("created_after", type_=TIMESTAMP))
    if "created_before" in given:
        conditions.append(columns.created_at < bind("created_before", type_=TIMESTAMP))
    if "low_id" in given:
        conditions.append(columns.execution_id >= bind("low_id", type_=UUID))
    if "high_id" in given:
        conditions.append(columns.execution_id < bind("high_id", type_=UUID))
    if "after_at" in given:
        key = tuple_(columns.created_at, columns.execution_id)
        last = tuple_(bind("after_at", type_=TIMESTAMP), bind("after_id", type_=UUID))
        conditions.append(key > last if shape.oldest_first else key < last)
    return conditions


def _status(table: FromClause, given: frozenset[str]) -> ColumnElement[bool]:
    if table is executions:
        finished: ColumnElement[bool] = table.c.status == func.any(bind("statuses", type_=_TEXTS))
        return finished
    started = _has_history(table)
    choices = [started] if RUNNING in given else []
    if PENDING in given:
        choices.append(~started)
    return or_(*choices) if choices else false()
